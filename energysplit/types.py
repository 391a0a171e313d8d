"""Frozen records that pass between stages: layer cases, costs, groups, indices, allocations.

Nothing here computes anything beyond its own consistency. Torch is imported for type checking only, so that
`energysplit --help` and recipe errors stay fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from energysplit.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Scope = Literal["network", "stage"]
Combine = Literal["sum", "max"]
WEIGHTLESS = ("activation", "max_pool", "average_pool", "add", "multiply", "move")
"""Operations without weights, which only providers that price every operation see."""
WEIGHTED = ("conv1d", "conv2d", "linear")
"""Layers with a kernel of weights: MACs are counted from their sizes."""
BLIND = ("random", "cheapest")
"""Methods of allocation that don't look at indices, to compare with."""
SIZES_BEST, SIZES_RANDOM = "sizes, best", "sizes, random"
"""What `Allocation.method` is where sizes were given: the best neurons of each group, or random ones."""
ORIGINS = ("counted", "measured", "interpolated", "estimated")
"""First words of a cost's source, the surest first."""


@dataclass(frozen=True)
class LayerCase:
    """One layer as a device runs it: a conv or linear with what is fused to it.

    `kernel`, `stride`, `padding`, `dilation`, `in_size`, `out_size` are (height, width); a linear layer has kernel
    (1, 1) and sizes (1, 1). `activation` and `batch_norm` say what directly follows and is fused by runtimes;
    `batch_norm` only where it has scale and shift. A batch norm that follows no conv or linear is a case of its own
    with op "batch_norm" and groups = channels, and `batch_norm` says the same of it. Everything else that costs
    something (attention, a recurrent layer, a layer norm) is an "other" of fixed size, with its `macs` (counted by
    torch) and `params`. `shared`: the weights were counted at an earlier use, and `params` are those that this use
    adds. Both numbers are 0 for all others.

    Operations without weights are cases too ("activation" that is fused to nothing, "max_pool", "average_pool", "add",
    "multiply", "move" for copies and changes of shape), but only providers that declare `every_operation` see them.
    `live`, for these providers only: activations, in elements, that are alive while this runs, its own inputs and
    output included; 0 elsewhere.
    """

    op: Literal[
        "conv1d", "conv2d", "linear", "batch_norm", "other",
        "activation", "max_pool", "average_pool", "add", "multiply", "move",
    ]  # fmt: skip
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    in_size: tuple[int, int] = (1, 1)
    out_size: tuple[int, int] = (1, 1)
    bias: bool = False
    batch_norm: bool = False
    activation: str | None = None
    macs: int = 0
    params: int = 0
    shared: bool = False
    live: int = 0

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel only."""
        return self.groups > 1 and self.groups == self.in_channels


@dataclass(frozen=True)
class Cost:
    """A price with its interval and its origin.

    `source` is one of "counted", "measured", "interpolated", "estimated", optionally followed by ": detail".
    """

    value: float
    unit: str
    low: float
    high: float
    source: str

    @classmethod
    def exact(cls, value: float, unit: str, source: str = "counted") -> Cost:
        """A cost without uncertainty: low = value = high."""
        return cls(value, unit, value, value, source)


@runtime_checkable
class CostProvider(Protocol):
    """Prices a layer case.

    Abilities are attributes, each left out where the default is meant.

    combine: how layers make a network, "sum" (the default) or "max".
    every_operation: whether it prices operations without weights too (default False), as whatever takes time does.
    overhead: a `Cost` that a network pays once, whatever its layers (default none).
    network_error: relative error of whole networks' prices, measured on networks the provider was not made from; it
        then gives a network's interval, which otherwise is the worst case of all layers together (default None).
    multiple_of: what widths are best multiples of, a number or a number by kind of layer ("conv2d", "depthwise",
    "linear", ..., "default"); for `growth.multiple_of = "auto"` (default None: nothing is known).
    provenance: the `Provenance` of the one measured table its prices come from, by which a price is compared with a
    measurement afterwards (default None).
    """

    unit: str

    def price(self, case: LayerCase) -> Cost:
        """The price of one layer case, in `unit`."""
        ...


class Priceable(Protocol):
    """What pricing and allocation need of a network: its groups and its layer cases at given widths."""

    @property
    def groups(self) -> Mapping[str, SplitGroup]:
        """Split groups by name."""
        ...

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each group."""
        ...

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        """Layer name -> case, at the present widths or at others."""
        ...

    def operations(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        """Name -> case of everything that runs, operations without weights too, in the order it runs."""
        ...

    def follows(self, operations: bool = False) -> dict[str, tuple[str, ...]]:
        """Name of each of `cases` (or `operations`) -> the groups whose widths it depends on."""
        ...

    def case(self, name: str, widths: Mapping[str, int], operations: bool = False) -> LayerCase:
        """One of `cases(widths)` (or `operations(widths)`); `widths` needs only the groups that it follows."""
        ...


@dataclass(frozen=True)
class SplitGroup:
    """A channel space: who writes, carries and mixes its channels (module names), and whether it can be split.

    channels: neurons, each with all its rows in all producers (a grouped convolution may give a neuron a row in every
    group). gates: the producers whose rows are copied but not moved, because they only scale what the others write
    (the second layer of squeeze-excite). reason: why the group can't be split.
    """

    name: str
    channels: int
    producers: tuple[str, ...]
    followers: tuple[str, ...]
    consumers: tuple[str, ...]
    splittable: bool = True
    reason: str = ""
    gates: tuple[str, ...] = ()

    @property
    def movers(self) -> tuple[str, ...]:
        """The producers whose rows move when a neuron is split."""
        return tuple(name for name in self.producers if name not in self.gates)


@dataclass(frozen=True)
class SplitIndex:
    """Splitting indices of one group.

    value: shape (neurons,), loss per squared unit step times two: a step of size e changes the loss by e^2/2 value.
    direction: producer name -> tensor shaped like that producer's weight, for the producers that move; over all of
        them, a neuron's rows have unit norm (less than that where `outgoing` has the rest).
    outgoing: consumer name -> tensor shaped like that consumer's weight, zero outside the group's columns; empty
        unless offspring may differ in their outgoing weights.
    stderr: shape (neurons,), standard error of `value` over images; None for a single image. Of kind "fresh": over
        batches.
    residual: shape (neurons,), ||S v - value v|| on the images the direction was found on; NaN where it was found on
        none (solver "random").
    images: number of images `value` is a mean over. held_out: whether they are others than the direction's.
    solver: name of the eigen-solver.
    same_images: shape (neurons,), `value` on the images the direction was found on: optimistic. None where it
        was found on none.
    sweeps: the solver's cost in passes over its whole sample.
    upper: the other end of the spectrum, with the largest eigenvalue as its `value`; None unless splits may be signed.
    kind: what is grown by it (`energysplit.kinds`): a "pair" of copies, or a "fresh" neuron beside the old one. Of the
        latter, value is the loss change of outgoing weights as long as the group's, to first order, and direction the
        whole move to the fresh neuron's rows, for a step of 1.
    """

    value: Float[Tensor, " neurons"]
    direction: dict[str, Tensor]
    stderr: Float[Tensor, " neurons"] | None
    residual: Float[Tensor, " neurons"]
    images: int
    solver: str
    held_out: bool = False
    same_images: Float[Tensor, " neurons"] | None = None
    sweeps: float = float("nan")
    outgoing: dict[str, Tensor] = field(default_factory=dict)
    upper: SplitIndex | None = None
    kind: str = "pair"


def check_traced(net: object) -> None:
    """Refuse a model in place of a network.

    Raises:
        InputError: it has no groups of channels.
    """
    if not hasattr(net, "groups"):
        raise InputError(
            f"a {type(net).__name__} is given as the network; expected what energysplit.trace(model, example_input) "
            "returns"
        )


@dataclass(frozen=True)
class Budget:
    """A provider, a limit and a scope.

    limit: absolute, as a number in the provider's unit or with its unit ("8 ms"), or "1.5x" of the network's price: of
    the seed's for scope "network", of the present network's for scope "stage".
    """

    provider: str | CostProvider
    limit: float | str
    scope: Scope = "network"


@dataclass(frozen=True)
class GroupBound:
    """How far a group may grow: up to `max_channels` channels (None: any number), or, if `frozen`, not at all."""

    max_channels: int | None = None
    frozen: bool = False


@dataclass(frozen=True)
class Allocation:
    """Which neurons to split.

    split: group -> sorted neuron numbers. predicted_gain: sum of -value of the chosen neurons, of signed splits that of
    minus both ends times the factors of their kinds (times the group's weight where weights were given); negative only
    by methods that take neurons whatever they bring ("random", or given sizes). price: budget name -> price of the
    grown network. limit: budget name -> absolute limit. gap: relative distance of `predicted_gain` to the bound of the
    linear relaxation with prices taken around this allocation. shadow_price: budget name -> gain that one more unit of
    budget would buy at the relaxation. Both are NaN where no gain was sought. mass, kinds: of signed splits, the mass,
    and group -> neuron -> kind of its split (`energysplit.kinds`), of fresh neurons too; empty where all are pairs.
    """

    split: dict[str, list[int]]
    predicted_gain: float
    price: dict[str, Cost]
    limit: dict[str, float]
    gap: float
    shadow_price: dict[str, float]
    status: str
    method: str = "milp"
    rounds: int = 0
    kinds: dict[str, dict[int, str]] = field(default_factory=dict)
    mass: float = 1.0

    @property
    def left(self) -> dict[str, float]:
        """Budget name -> what is left of it, in its provider's unit."""
        return {name: limit - self.price[name].value for name, limit in self.limit.items()}

    @property
    def chosen(self) -> Mapping[str, Sequence[int] | Mapping[int, str]]:
        """What `energysplit.split` takes: neurons by group, with their kinds where these are signed."""
        return self.kinds or self.split
