"""Slow and exact references the tests compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx

import energysplit as es
from energysplit.graph.channels import channel_map
from energysplit.graph.network import Role, Slot
from energysplit.kinds import PAIR, kinds

Batch = tuple[Tensor, Tensor]
Chosen = Mapping[str, Sequence[int] | Mapping[int, str]]


def loss_of(net: es.Network, batches: Sequence[Batch]) -> float:
    """Mean loss of the network in eval mode."""
    net.module.eval()
    with torch.no_grad():
        total = sum(float(F.cross_entropy(net.module(x), y, reduction="sum")) for x, y in batches)
    return total / sum(len(x) for x, _ in batches)


def grown(
    net: es.Network, index: dict[str, es.SplitIndex], chosen: Chosen, step: float, mass: float = 1.0
) -> es.Network:
    """The network really split along the directions of indices."""
    return es.split(net, chosen, directions={name: index[name] for name in chosen}, step=step, mass=mass)


def realised_change(
    net: es.Network,
    batches: Sequence[Batch],
    index: dict[str, es.SplitIndex],
    chosen: Chosen,
    step: float,
    mass: float = 1.0,
) -> float:
    """Loss change of the real surgery."""
    return loss_of(grown(net, index, chosen, step, mass), batches) - loss_of(net, batches)


def windows_that_switch(
    net: es.Network, x: Tensor, index: dict[str, es.SplitIndex], chosen: Chosen, step: float, mass: float = 1.0
) -> int:
    """Max-pooling windows whose largest element is another one after the split.

    Max pooling is piecewise linear: where no window switches, the second-order prediction is exact.
    """
    before = _positions(net, x)
    switched = 0
    for name, (spans, after) in _positions(grown(net, index, chosen, step, mass), x).items():
        old_spans, old = before[name]
        for span, old_span in zip(spans, old_spans, strict=True):
            source = channel_map(span.group, net.widths[span.group], chosen.get(span.group, []), mass).source
            new_index = span.index(len(source))
            old_index = old_span.index(net.widths[span.group])[source]
            one = old.index_select(span.dim, old_index.flatten())
            other = after.index_select(span.dim, new_index.flatten())
            switched += int((one != other).sum())
    return switched


def _positions(net: es.Network, x: Tensor) -> dict[str, tuple]:
    """Max pooling's name -> (spans, positions of the maxima)."""
    env: dict[fx.Node, object] = {}
    found = {}
    with torch.no_grad():
        for op in net.ops:
            env[op.node] = x if op.node.op == "placeholder" else op.run(net.module, env)
            if op.pool is not None:
                found[op.name] = (op.spans, op.pool(env[op.node.all_input_nodes[0]])[1])
    return found


def step_without_switch(
    net: es.Network,
    x: Tensor,
    index: dict[str, es.SplitIndex],
    chosen: Chosen,
    step: float = 1e-3,
    mass: float = 1.0,
) -> float:
    """The step, or the first smaller one at which no max-pooling window changes its largest element."""
    while windows_that_switch(net, x, index, chosen, step, mass) > 0:
        step /= 3
    return step


def predicted_change(index: dict[str, es.SplitIndex], chosen: Chosen, step: float, mass: float = 1.0) -> float:
    """Second-order prediction: step^2/2 times the sum of the chosen indices, each end times its kind's factor."""
    total = 0.0
    for name, channels in chosen.items():
        ways = channels.items() if isinstance(channels, Mapping) else [(channel, PAIR) for channel in channels]
        for channel, way in ways:
            kind = kinds(mass)[way]
            total += kind.low * float(index[name].value[channel])
            if kind.high:
                total += kind.high * float(index[name].upper.value[channel])
    return step**2 / 2 * total


def outgoing_scale(net: es.Network, group: str) -> float:
    """Norm of all columns of a group in its consumers over the norm of all rows that move."""
    norms = {Role.PRODUCER: 0.0, Role.CONSUMER: 0.0}
    for slot in _moving(net, group, outgoing=True):
        rows = _tensor(net, slot.tensor).movedim(slot.span.dim, 0)[slot.span.index(net.widths[group]).flatten()]
        norms[slot.role] += float(rows.square().sum())
    return (norms[Role.CONSUMER] / norms[Role.PRODUCER]) ** 0.5


def splitting_matrix(
    net: es.Network, batches: Sequence[Batch], group: str, channel: int, outgoing: bool = False
) -> Tensor:
    """The splitting matrix of one neuron by differentiating twice the loss of a network that holds two copies of it.

    In the really split network the rows theta of the two copies are moved by +o and -o, and with `outgoing` their
    columns w/2 by +k p/2 and -k p/2. The Hessian in (o, p) at 0 is the matrix; shape (dims, dims).
    """
    split = es.split(net, {group: [channel]})
    held = {**dict(split.module.named_parameters()), **dict(split.module.named_buffers())}
    held = {name: tensor.detach() for name, tensor in held.items()}
    k = outgoing_scale(net, group) if outgoing else 0.0
    moving = _moving(net, group, outgoing)
    places = [slot.span.index(net.widths[group])[channel] for slot in moving]
    weights = [_tensor(net, slot.tensor).movedim(slot.span.dim, 0) for slot in moving]
    sizes = [len(place) * weight[0].numel() for place, weight in zip(places, weights, strict=True)]

    def loss(offset: Tensor) -> Tensor:
        moved = dict(held)
        for slot, place, weight, part in zip(moving, places, weights, offset.split(sizes), strict=True):
            entries = part.reshape(len(place), *weight.shape[1:]) * (1.0 if slot.role is Role.PRODUCER else k)
            direction = torch.zeros_like(weight).index_copy(0, place, entries).movedim(0, slot.span.dim)
            moved[slot.tensor] = moved[slot.tensor] + _copied(net, split, slot, channel, direction)
        total = torch.zeros((), dtype=torch.float64)
        for x, y in batches:
            out = torch.func.functional_call(split.module, moved, (x,))
            total = total + F.cross_entropy(out, y, reduction="sum")
        return total / sum(len(x) for x, _ in batches)

    split.module.eval()
    return torch.autograd.functional.hessian(loss, torch.zeros(sum(sizes), dtype=torch.float64))


def _moving(net: es.Network, group: str, outgoing: bool) -> list[Slot]:
    """The dimensions along which weights move when a neuron is split."""
    asked = [(Role.PRODUCER, net.groups[group].movers)] + [(Role.CONSUMER, net.groups[group].consumers)] * outgoing
    return [
        slot
        for role, layers in asked
        for layer in layers
        for slot in net.slots
        if (slot.tensor, slot.role, slot.group) == (f"{layer}.weight", role, group)
    ]


def _copied(net: es.Network, split: es.Network, moving: Slot, channel: int, direction: Tensor) -> Tensor:
    """What a move of an old weight along one dimension adds to the split weight; split along the other too."""
    channels = channel_map(moving.group, net.widths[moving.group], [channel])
    for slot in net.slots:
        if slot.tensor == moving.tensor and slot.group == moving.group:
            (new,) = (s for s in split.slots if (s.tensor, s.role, s.group) == (slot.tensor, slot.role, slot.group))
            old_index = slot.span.index(net.widths[slot.group])[channels.source]
            new_index = new.span.index(len(channels.source))
            size = _tensor(split, slot.tensor).shape[slot.span.dim]
            factor = channels.low if slot == moving else torch.ones(len(channels.low), dtype=torch.float64)
            if slot.role is Role.CONSUMER:
                factor = factor * channels.share
            chosen = direction.movedim(slot.span.dim, 0)[old_index] * factor.reshape(-1, *(1,) * direction.dim())
            spread = chosen.new_zeros(size, *chosen.shape[2:])
            direction = spread.index_copy(0, new_index.flatten(), chosen.flatten(0, 1)).movedim(0, slot.span.dim)
    return direction


def _tensor(net: es.Network, name: str) -> Tensor:
    return net.module.get_parameter(name).detach()
