"""Splits neurons: what a user asks for, checked, and turned into new channels and moves of weights.

A split neuron becomes two with producer rows theta + step v and theta - step v; followers are copied and each
consumer column w is shared half and half, so at step 0 the function is unchanged (Wang et al. 2019, section 2). With
an outgoing direction u the columns differ too: (w + step u)/2 and (w - step u)/2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from energysplit.errors import InputError, nearest
from energysplit.graph import Network
from energysplit.graph.channels import ChannelMap, channel_map
from energysplit.graph.edit import Move, duplicate
from energysplit.graph.network import Role

Directions = Mapping[str, Mapping[str, Tensor]]


def split(
    net: Network,
    chosen: Mapping[str, Sequence[int]],
    directions: Directions | None = None,
    step: float | Mapping[str, float] = 0.0,
    outgoing: Directions | None = None,
) -> Network:
    """A new network in which each chosen neuron is split in two; `net` and its module stay as they are.

    Args:
        net: a traced network.
        chosen: group -> channels to split, each once.
        directions: group -> producer name -> tensor shaped like that producer's weight; the rows of the split channels
            are used. Where the step is not 0, every producer that moves needs one; the group's gates may have one.
        step: distance each copy moves along its direction, in weight units; one number, or one per group.
        outgoing: group -> consumer name -> tensor shaped like that consumer's weight, of which the columns of the
            split channels are used; consumers without one share their columns half and half.

    Raises:
        InputError: unknown or unsplittable group, channels out of range, directions missing, of a wrong shape or for
            layers that are none of the group's.
    """
    maps = channel_maps(net, chosen)
    moves = [move for name in maps for move in _moves(net, name, _step(name, step), directions, outgoing)]
    return duplicate(net, maps, moves)


def channel_maps(net: Network, chosen: Mapping[str, Sequence[int]]) -> dict[str, ChannelMap]:
    """Group -> its new channels, for the groups of which channels are chosen.

    Raises:
        InputError: unknown or unsplittable group, or channels out of range.
    """
    maps = {}
    for name, channels in chosen.items():
        if name not in net.groups:
            raise InputError(f"no group {name!r} in this network: {nearest(name, net.groups)}")
        group = net.groups[name]
        if not group.splittable:
            raise InputError(f"group {name!r} can't be split: {group.reason}")
        if len(channels) > 0:
            maps[name] = channel_map(name, group.channels, channels)
    return maps


def _moves(
    net: Network, name: str, size: float, directions: Directions | None, outgoing: Directions | None
) -> list[Move]:
    """What moves when neurons of a group are split."""
    if size == 0:
        return []
    group = net.groups[name]
    given = {} if directions is None else directions.get(name, {})
    columns = {} if outgoing is None else outgoing.get(name, {})
    for producer in group.movers:
        if producer not in given:
            raise InputError(
                f"group {name!r}: step is not 0 but no direction is given for producer {producer!r}; "
                "pass directions={group: {producer: tensor}} (a SplitIndex has them) or step=0"
            )
    asked = (
        (given, Role.PRODUCER, group.producers, "direction"),
        (columns, Role.CONSUMER, group.consumers, "outgoing direction"),
    )
    moving = {(slot.tensor, slot.role) for slot in net.slots if slot.group == name}
    moves = []
    for tensors, role, layers, what in asked:
        for layer, direction in tensors.items():
            weight = f"{layer}.weight" if layer else "weight"
            if layer not in layers:
                raise InputError(
                    f"group {name!r}: {what} for {layer!r}, which is no {role.value} of it: {nearest(layer, layers)}"
                )
            if (weight, role) not in moving:
                raise InputError(f"group {name!r}: {what} for {layer!r}, which mixes its channels by other tensors")
            _check(net, name, layer, direction, what)
            moves.append(Move(weight, role, name, size, direction))
    return moves


def _check(net: Network, group: str, layer: str, direction: Tensor, what: str) -> None:
    """Refuse a direction that does not fit its layer."""
    expected = net.weight(layer).shape
    if direction.shape != expected:
        raise InputError(
            f"group {group!r}: {what} for {layer!r} has shape {tuple(direction.shape)}, "
            f"{tuple(expected)} expected (that of its weight)"
        )
    if not bool(torch.isfinite(direction).all()):
        raise InputError(f"group {group!r}: the {what} for {layer!r} holds NaN or infinity")


def _step(group: str, step: float | Mapping[str, float]) -> float:
    """The step of one group, checked."""
    if isinstance(step, Mapping) and group not in step:
        raise InputError(f"group {group!r}: no step is given for it; steps of {sorted(step)} given")
    size = step[group] if isinstance(step, Mapping) else step
    if not isinstance(size, int | float) or not math.isfinite(size):
        raise InputError(f"group {group!r}: step {size!r} given, a finite number expected")
    return size
