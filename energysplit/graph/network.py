"""A traced network: the live module, the operations it runs, and the split groups of its channels.

The module stays the user's own; the operations only say in which order its layers act and what each does to channels.
Surgery edits tensors through `slots`, prices read `cases`, splitting indices walk `ops`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache, reduce
from typing import Any

from torch import Tensor, fx, nn

from energysplit.errors import InputError, nearest
from energysplit.graph.activations import Activation
from energysplit.graph.spans import Span, moved
from energysplit.types import WEIGHTLESS, LayerCase, SplitGroup

PER_CHANNEL = ("batch_norm", *WEIGHTLESS)


class Kind(Enum):
    """What an operation does to channels. A small change t of its input goes through it as each value says."""

    MIX = "mixes channels: consumes some and produces new ones; t stops here, and starts where a weight moves"
    DEPTHWISE = "filters each channel by itself: a linear filter of t"
    NORM = "scales each channel by frozen statistics: t times the scale"
    ACTIVATION = "bends each element: t times the slope"
    MAX_POOL = "keeps the largest element of each window: t there"
    SUM = "adds or subtracts tensors: the same of their t"
    PRODUCT = "multiplies tensors, or divides by one that does not change: product rule"
    LINEAR = "moves elements or averages positions: the same of t"
    VALUE = "an input, a parameter or a size: no t"
    OPAQUE = "is not followed: none of its channels can be split, so no t comes here"


STOPS = (Kind.MIX, Kind.VALUE, Kind.OPAQUE)
"""Where a change of the input goes no further."""


class Role(Enum):
    """How a tensor's dimension runs along a group's channels."""

    PRODUCER = "producer"
    FOLLOWER = "follower"
    CONSUMER = "consumer"


@dataclass(frozen=True)
class Slot:
    """One dimension of one parameter or buffer that runs along a group's channels; tensor: qualified name."""

    tensor: str
    role: Role
    span: Span

    @property
    def group(self) -> str:
        """The group whose channels these are."""
        return self.span.group


@dataclass(frozen=True)
class Op:
    """One operation of the forward pass in eval mode.

    name: the module's, or the operation's own. node: in the symbolic trace, for the order and the arguments.
    function: what to call, out of place, instead of what the node says. layer: the module that holds the weight, for
    MIX; a weight that two modules share counts as the first one's. pool: for MAX_POOL, (output, flat indices of the
    maxima over the pooled dimensions). scale: for NORM, makes the scale of each channel from the module's tensors.
    spans: the groups' channels in its output, all along one dimension.
    """

    name: str
    kind: Kind
    node: fx.Node
    function: Callable[..., Any] | None = None
    layer: str = ""
    activation: Activation | None = None
    pool: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    scale: Callable[[nn.Module], Tensor] | None = None
    spans: tuple[Span, ...] = ()

    def run(self, module: nn.Module, env: Mapping[fx.Node, Any]) -> Any:
        """The operation's result; `env` holds the results of those before it."""
        node = self.node
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: env[n])  # type: ignore[misc]
        if self.function is not None:
            return self.function(*args, **kwargs)
        match node.op:
            case "get_attr":
                return reduce(getattr, str(node.target).split("."), module)
            case "call_module":
                return module.get_submodule(str(node.target))(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)


@dataclass(frozen=True)
class Count:
    """A number of channels that follows the groups' widths: fixed + sum of width x indices per channel."""

    fixed: int
    terms: tuple[tuple[str, int], ...] = ()

    def at(self, widths: Mapping[str, int]) -> int:
        """The number at these widths."""
        return self.fixed + sum(widths[group] * multiple for group, multiple in self.terms)

    def __mul__(self, factor: int) -> Count:
        return Count(self.fixed * factor, tuple((group, multiple * factor) for group, multiple in self.terms))

    def __add__(self, other: Count) -> Count:
        terms: dict[str, int] = {}
        for group, multiple in (*self.terms, *other.terms):
            terms[group] = terms.get(group, 0) + multiple
        return Count(self.fixed + other.fixed, tuple(terms.items()))


@dataclass(frozen=True)
class Layer:
    """What is priced: its case at the traced widths and how its numbers follow the groups' widths.

    live: activations alive while it runs, in elements. parts: names of the operations it stands for; none for a
    parameter that is used outside layers, which costs memory and no time.
    """

    case: LayerCase
    inputs: Count
    outputs: Count
    live: Count = Count(0)
    parts: tuple[str, ...] = ()

    def at(self, widths: Mapping[str, int], live: bool = False) -> LayerCase:
        """The case at other widths."""
        alive = self.live.at(widths) if live else 0
        return _resized(self.case, self.inputs.at(widths), self.outputs.at(widths), alive)

    def follows(self, live: bool = False) -> tuple[str, ...]:
        """The groups whose widths its case depends on, each once."""
        counts = (self.inputs, self.outputs, *((self.live,) if live else ()))
        return tuple(dict.fromkeys(group for count in counts for group, _ in count.terms))

    @property
    def weightless(self) -> bool:
        """Whether this has no weights, so that only providers that price every operation see it."""
        return self.case.op in WEIGHTLESS


@lru_cache(maxsize=100_000)
def _resized(case: LayerCase, inputs: int, outputs: int, live: int) -> LayerCase:
    """The case with other numbers of channels; remembered, as prices are asked for thousands of times."""
    groups = case.groups
    if groups == case.in_channels and (groups > 1 or case.op in PER_CHANNEL):  # one filter, or one scale, a channel
        groups = inputs
    params = case.params
    if params and case.out_channels:  # as many for each channel
        params = params * outputs // case.out_channels
    return replace(case, in_channels=inputs, out_channels=outputs, groups=groups, params=params, live=live)


class Network:
    """A module with its channel analysis; made by `energysplit.trace`, never edited in place."""

    def __init__(
        self,
        module: nn.Module,
        example_input: Tensor,
        groups: dict[str, SplitGroup],
        slots: tuple[Slot, ...],
        ops: tuple[Op, ...],
        layers: dict[str, Layer],
        output: Any,
    ) -> None:
        self.module = module
        self.example_input = example_input
        self.groups = groups
        self.slots = slots
        self.ops = ops
        self.layers = layers
        self.output = output  # of the symbolic trace: a node, or nodes in tuples and dicts

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
            return {name: layer.case for name, layer in self.layers.items() if not layer.weightless}
        full = self._full(widths)
        return {name: layer.at(full) for name, layer in self.layers.items() if not layer.weightless}

    def operations(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        """Name -> case of everything that runs, in order: layers, and operations without weights.

        `live` is filled here. What runtimes fuse to a layer (batch norm, activation) is part of it; views are part of
        what they look at.

        Raises:
            InputError: a group is unknown or a width is below 1.
        """
        full = self._full(widths or {})
        return {name: layer.at(full, live=True) for name, layer in self.layers.items() if layer.parts}

    def follows(self, operations: bool = False) -> dict[str, tuple[str, ...]]:
        """Name of each of `cases` (or `operations`) -> the groups whose widths it depends on."""
        return {
            name: layer.follows(operations)
            for name, layer in self.layers.items()
            if (layer.parts if operations else not layer.weightless)
        }

    def case(self, name: str, widths: Mapping[str, int], operations: bool = False) -> LayerCase:
        """One of `cases(widths)` (or `operations(widths)`); `widths` needs only the groups that it follows."""
        return self.layers[name].at(widths, live=operations)

    def _full(self, widths: Mapping[str, int]) -> dict[str, int]:
        for name, width in widths.items():
            if name not in self.groups:
                raise InputError(f"no group {name!r} in this network: {nearest(name, self.groups)}")
            if width < 1:
                raise InputError(f"group {name!r}: width {width} given, at least 1 expected")
        return {**self.widths, **widths}

    def weight(self, layer: str) -> Tensor:
        """The weight of a producer or consumer, detached: shape (outputs, fan-in ...)."""
        weight = self.module.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    def dimensions(self) -> dict[tuple[str, int], tuple[Slot, ...]]:
        """(Tensor, dimension) -> the slots that share it."""
        found: dict[tuple[str, int], list[Slot]] = defaultdict(list)
        for slot in self.slots:
            found[slot.tensor, slot.span.dim].append(slot)
        return {key: tuple(slots) for key, slots in found.items()}

    def rewidened(self, module: nn.Module, widths: Mapping[str, int]) -> Network:
        """The analysis of a module that is this one at other widths."""
        before, after = self.widths, {**self.widths, **widths}
        slots = []
        for shared in self.dimensions().values():
            spans = moved((slot.span for slot in shared), before, after)
            slots += [replace(slot, span=span) for slot, span in zip(shared, spans, strict=True)]
        return Network(
            module,
            self.example_input,
            {name: replace(group, channels=after[name]) for name, group in self.groups.items()},
            tuple(slots),
            tuple(replace(op, spans=moved(op.spans, before, after)) for op in self.ops),
            {name: replace(layer, case=layer.at(after)) for name, layer in self.layers.items()},
            self.output,
        )

    def __repr__(self) -> str:
        return f"Network({type(self.module).__name__}, widths={self.widths})"


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """A parameter or buffer by its qualified name."""
    path, _, key = name.rpartition(".")
    tensor = getattr(module.get_submodule(path), key)
    assert isinstance(tensor, Tensor)
    return tensor
