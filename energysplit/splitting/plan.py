"""Where tangents go in a network: found from its operations alone, without data.

A tangent of a group starts at the layers that move, goes through everything that acts on channels one by one, counts
where it is bent, and stops where channels are mixed. Only what leads to a bend (or to a consumer whose columns move
too) is kept. Groups whose tangents meet form a segment; segments are passed through one after another, so that the
memory of one is free for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum

import torch.nn.functional as F
from torch import fx, nn

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.network import STOPS, Kind, Op, Role
from energysplit.splitting.folding import folded
from energysplit.splitting.layout import weight_name
from energysplit.splitting.pieces import weight_of
from energysplit.splitting.statistics import following


class Action(Enum):
    """What a step of the tangent pass does."""

    START = "a tangent starts: the layer's input, mixed by the move of its rows"
    CARRY = "tangents go through the operation, and count where it bends"
    READ = "a tangent counts where a consumer's moving columns read it"
    UNIT = "a tangent counts as if sigma'' were 1"


@dataclass(frozen=True)
class Step:
    """One step of the tangent pass.

    groups: whose tangents. sources: nodes whose tangents it takes. place: the operation in whose result the neurons of
    what counts stand. counts: whether something does, which takes the gradient of the loss to the result. passes:
    whether its own tangent is needed later. norm: the batch norm that is folded into the operation. frees: nodes whose
    tangents are not needed any more.
    """

    action: Action
    op: Op
    groups: frozenset[str]
    sources: tuple[fx.Node, ...]
    place: Op
    counts: bool
    passes: bool
    norm: Op | None = None
    frees: tuple[fx.Node, ...] = ()

    @property
    def result(self) -> fx.Node:
        """The node that the tangent is of."""
        return (self.norm or self.op).node


@dataclass(frozen=True)
class Segment:
    """Groups whose tangents meet, and the steps of their pass in order."""

    groups: tuple[str, ...]
    steps: tuple[Step, ...]


def segments(net: Network, curvature: str, linear: str, statistics: str = "running") -> tuple[Segment, ...]:
    """The tangent passes of all groups that take part.

    Args:
        net: the network.
        curvature: "exact" counts every bend up to the consumers. "producer": only those directly behind the producers;
            the tangent stops at the first nonlinearity and at filters, as in Wang et al. 2019, eq. 7.
        linear: groups that are bent nowhere are left out under "skip". "unit" counts sigma'' = 1 at the outputs of
            their movers, after a batch norm (the paper's code). "outgoing": the columns of consumers move too, and
            all groups take part.
        statistics: "running" or "batch"; with a batch's own, batch norms bend too. It changes nothing about which
            groups take part: without another nonlinearity a batch norm's bend is 0 at an optimum.

    Raises:
        InputError: a rule is unknown, two do not go together, or a batch norm can't be given a batch's statistics.
    """
    if curvature not in ("exact", "producer") or linear not in ("skip", "unit", "outgoing"):
        raise InputError(
            f"curvature={curvature!r}, linear={linear!r} given; curvature 'exact' or 'producer' and linear 'skip', "
            "'unit' or 'outgoing' expected"
        )
    if linear == "outgoing" and curvature != "exact":
        raise InputError(
            "linear='outgoing' follows tangents up to the consumers, which curvature='producer' stops before; use "
            "curvature='exact'"
        )
    if statistics == "batch" and any(op.node.target is F.batch_norm for op in net.ops):
        raise InputError(
            "statistics='batch' given for a network that calls torch.nn.functional.batch_norm, which does not say what "
            "it does in training; use statistics='running', or batch norms as layers"
        )
    able = [name for name, group in net.groups.items() if group.splittable and group.movers]
    flow = _Flow(net, able, curvature == "producer")
    bent = {name for op in net.ops for name in flow.bent(op)}
    if linear == "outgoing":
        reads = _columns(net)
        units: set[fx.Node] = set()
    else:
        reads = {}
        straight = frozenset(able) - bent
        units = flow.outputs(straight) if linear == "unit" else set()
        if linear == "skip":
            flow = _Flow(net, [name for name in able if name in bent], curvature == "producer")
    steps = _steps(flow, units, reads, bent if statistics == "batch" else None, folded(net, statistics))
    return _grouped(net, steps)


class _Flow:
    """Which operations' results carry tangents of which groups."""

    def __init__(self, net: Network, groups: Iterable[str], producer_only: bool) -> None:
        self.net = net
        self.at = {op.node: op for op in net.ops}
        self.starting = {layer: name for name in groups for layer in net.groups[name].movers}
        self.reach: dict[fx.Node, frozenset[str]] = {}
        for op in net.ops:
            found = self.arriving(op)
            if op.kind in STOPS:
                found = self.starts(op)
            elif producer_only and (op.kind is Kind.DEPTHWISE or self.bent(op)):
                found = frozenset()
            self.reach[op.node] = found

    def arriving(self, op: Op) -> frozenset[str]:
        """Groups whose tangents reach the operation's inputs."""
        return frozenset().union(*(self.reach[node] for node in op.node.all_input_nodes))

    def starts(self, op: Op) -> frozenset[str]:
        """The group whose tangent starts here, if one does."""
        moves = op.layer in self.starting and op.kind is Kind.MIX and _owned(op, self.net.module)
        return frozenset([self.starting[op.layer]] if moves else [])

    def bent(self, op: Op) -> frozenset[str]:
        """Groups whose tangents the operation bends."""
        if op.kind is Kind.ACTIVATION:
            return self.arriving(op)
        if op.kind is Kind.PRODUCT:  # two factors that move
            factors = [self.reach[arg] for arg in op.node.args if isinstance(arg, fx.Node)]
            return factors[0] & factors[1] if len(factors) == 2 else frozenset()
        return frozenset()

    def outputs(self, groups: frozenset[str]) -> set[fx.Node]:
        """Outputs of these groups' movers, after a batch norm that directly follows."""
        found = set()
        for op in self.net.ops:
            if self.starts(op) & groups:
                norms = [user for user in op.node.users if user in self.at and self.at[user].kind is Kind.NORM]
                found.add(norms[0] if norms else op.node)
        return found

    def sources(self, op: Op) -> tuple[fx.Node, ...]:
        """Inputs of an operation that carry tangents."""
        return tuple(node for node in op.node.all_input_nodes if self.reach[node])


def _steps(
    flow: _Flow,
    units: set[fx.Node],
    reads: dict[str, set[str]],
    bent: Set[str] | None,
    folds: Mapping[fx.Node, Op],
) -> list[Step]:
    """All steps in order; what leads nowhere is left out.

    reads: consumer -> groups whose columns in it move. bent: groups with a nonlinearity, where batch norms follow their
    batch; None: they don't. folds: see `folding.folded`.
    """
    steps: list[Step] = []
    follow = set() if bent is None else set(following(flow.net.module))
    norms = {norm.node for norm in folds.values()}
    wanted = set(units)
    for op in reversed(flow.net.ops):
        node, sources = op.node, flow.sources(op)
        norm = folds.get(node)
        if node in units:
            steps.append(Step(Action.UNIT, op, flow.reach[node], (node,), op, True, False))
        if op.kind is Kind.MIX:
            if node in wanted and flow.reach[node]:
                steps.append(Step(Action.START, op, flow.reach[node], (), op, False, True, norm))
            read = flow.arriving(op) & reads.get(op.layer, frozenset())
            if read and _owned(op, flow.net.module):
                wanted.update(sources)
                steps.append(Step(Action.READ, op, read, sources, flow.at[sources[0]], True, False, norm))
        elif sources and op.kind not in STOPS:
            counts, passes = bool(flow.bent(op)), node in wanted and bool(flow.reach[node])
            # Behind the last nonlinearity too, where the tangent itself is wanted no more.
            if bent is not None and (passes or flow.arriving(op) & bent):
                counts = counts or _layer(op, flow.net.module) in follow
            if counts or passes:
                wanted.update(sources)
                if node not in norms:
                    steps.append(Step(Action.CARRY, op, flow.arriving(op), sources, op, counts, passes, norm))
    # What counts must find its neurons.
    assert all(step.groups <= {span.group for span in step.place.spans} for step in steps if step.counts)
    return steps[::-1]


def _grouped(net: Network, steps: list[Step]) -> tuple[Segment, ...]:
    """The steps by segment; each frees the tangents it is the last to take."""
    leader = {name: name for step in steps for name in step.groups}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for step in steps:
        first, *others = sorted(step.groups)
        for name in others:
            leader[find(name)] = find(first)
    found: dict[str, list[Step]] = {}
    seen: set[fx.Node] = set()
    for step in reversed(steps):
        frees = tuple(node for node in step.sources if node not in seen)
        seen.update(frees)
        found.setdefault(find(min(step.groups)), []).append(replace(step, frees=frees))
    groups: dict[str, list[str]] = {}
    for name in net.groups:
        if name in leader:
            groups.setdefault(find(name), []).append(name)
    return tuple(Segment(tuple(groups[root]), tuple(reversed(mine))) for root, mine in reversed(found.items()))


def _columns(net: Network) -> dict[str, set[str]]:
    """Layer -> the groups that have columns in its weight."""
    found: dict[str, set[str]] = {}
    for slot in net.slots:
        layer = slot.tensor.rpartition(".")[0]
        if slot.role is Role.CONSUMER and slot.tensor == weight_name(layer):
            found.setdefault(layer, set()).add(slot.group)
    return found


def _layer(op: Op, module: nn.Module) -> nn.Module | None:
    """The layer whose whole forward pass the operation is, if it is one's."""
    return module.get_submodule(str(op.node.target)) if op.node.op == "call_module" else None


def _owned(op: Op, module: nn.Module) -> bool:
    """Whether the weight a mixing layer uses is its owner's `weight`."""
    owned = getattr(module.get_submodule(op.layer), "weight", None)
    return owned is not None and weight_of(op, module) is owned
