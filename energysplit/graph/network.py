"""A traced network: the live module, the steps it runs, and the split groups of its channels.

The module stays the user's own; the steps only say in which order its layers act and what each does to channels.
Surgery edits parameters through `slots`, prices read `cases`, splitting indices walk `steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from torch import Tensor, nn

from energysplit.errors import InputError, nearest
from energysplit.graph.activations import Activation
from energysplit.types import LayerCase, SplitGroup


class Kind(Enum):
    """What a step does to channels."""

    MIX = "mixes channels: consumes one group, produces another"
    DEPTHWISE = "filters each channel by itself"
    NORM = "scales each channel by frozen statistics"
    ACTIVATION = "bends each element"
    LINEAR = "acts linearly on each channel, without parameters"
    MAX_POOL = "keeps the largest element of each window"
    HEAD = "compares the output channels with each other"


class Role(Enum):
    """How a parameter's dimension runs along a group's channels."""

    PRODUCER = "producer"
    FOLLOWER = "follower"
    CONSUMER = "consumer"


@dataclass(frozen=True)
class Slot:
    """One dimension of one parameter or buffer that runs along a group's channels.

    tensor: qualified name. block: indices per channel (a flattened 7x7 image has 49 columns a channel).
    """

    tensor: str
    dim: int
    group: str
    role: Role
    block: int = 1


@dataclass(frozen=True)
class Step:
    """One operation of the forward pass, in order.

    call: computes it in eval mode. group: of its output channels. pool: for MAX_POOL, (output, flat indices).
    """

    name: str
    kind: Kind
    call: Callable[[Tensor], Tensor]
    group: str | None
    module: nn.Module | None = None
    activation: Activation | None = None
    pool: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class Layer:
    """A priced layer: its case at the traced widths and how its channels follow the groups' widths."""

    case: LayerCase
    in_group: str | None
    out_group: str | None
    in_block: int = 1
    out_block: int = 1

    def at(self, widths: Mapping[str, int]) -> LayerCase:
        """The case at other widths."""
        out_channels = self.case.out_channels if self.out_group is None else widths[self.out_group] * self.out_block
        if self.case.op == "batch_norm" or self.case.depthwise:
            return replace(self.case, in_channels=out_channels, out_channels=out_channels, groups=out_channels)
        in_channels = self.case.in_channels
        if self.in_group is not None:
            in_channels = widths[self.in_group] * self.in_block
        return replace(self.case, in_channels=in_channels, out_channels=out_channels)


class Network:
    """A module with its channel analysis; made by `energysplit.trace`, never edited in place."""

    def __init__(
        self,
        module: nn.Module,
        example_input: Tensor,
        groups: dict[str, SplitGroup],
        slots: tuple[Slot, ...],
        steps: tuple[Step, ...],
        layers: dict[str, Layer],
    ) -> None:
        self.module = module
        self.example_input = example_input
        self.groups = groups
        self.slots = slots
        self.steps = steps
        self.layers = layers

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each group, in the order of the forward pass."""
        return {name: group.channels for name, group in self.groups.items()}

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        """Layer name -> case, at the present widths or at those given (missing groups keep their width).

        Raises:
            InputError: a group is unknown or a width is below 1.
        """
        if widths is None:
            return {name: layer.case for name, layer in self.layers.items()}
        for name, width in widths.items():
            if name not in self.groups:
                raise InputError(f"no group {name!r} in this network: {nearest(name, self.groups)}")
            if width < 1:
                raise InputError(f"group {name!r}: width {width} given, at least 1 expected")
        full = {**self.widths, **widths}
        return {name: layer.at(full) for name, layer in self.layers.items()}

    def ways(self) -> dict[str, tuple[Step, ...]]:
        """Group -> its steps from the producer up to, not including, the consumer; splittable groups only."""
        return {
            name: tuple(step for step in self.steps if step.group == name)
            for name, group in self.groups.items()
            if group.splittable
        }

    def weight(self, producer: str) -> Tensor:
        """The weight of a producer, detached: shape (channels, fan-in ...)."""
        weight = self.module.get_submodule(producer).weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    def __repr__(self) -> str:
        return f"Network({type(self.module).__name__}, widths={self.widths})"
