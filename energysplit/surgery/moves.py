"""What moves when neurons of a group are split: directions as users give them, checked against the network.

Directions belong to an end of the spectrum: "low" to the smallest eigenvalue, "high" to the largest. An end along which
no copy moves needs none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from energysplit.errors import InputError, nearest
from energysplit.graph import Network
from energysplit.graph.channels import ENDS, ChannelMap, End
from energysplit.graph.edit import Move
from energysplit.graph.network import Role
from energysplit.kinds import FRESH
from energysplit.types import SplitIndex

ByLayer = Mapping[str, Tensor]


def moves(
    net: Network,
    name: str,
    channels: ChannelMap,
    size: float,
    directions: ByLayer | SplitIndex | None,
    outgoing: ByLayer | None,
) -> list[Move]:
    """What moves in one group, along each end that a copy moves along.

    Args:
        net: the network before.
        name: of the group.
        channels: its new channels.
        size: length of a step.
        directions: by producer, or with everything else in a `SplitIndex`.
        outgoing: by consumer; not beside a `SplitIndex`.

    Raises:
        InputError: directions are missing, given twice, of a wrong shape, not finite, or for layers that are none of
            the group's.
    """
    if isinstance(directions, SplitIndex) and outgoing is not None:
        raise InputError(
            f"group {name!r}: outgoing directions are given beside a SplitIndex, which has its own; leave them out, or "
            "pass the index's .direction"
        )
    in_two = bool((channels.low * channels.share != 0).any())
    if isinstance(directions, SplitIndex) and directions.kind == FRESH and in_two:
        raise InputError(
            f"group {name!r}: these indices are of fresh neurons, but neurons are to be split in two; pass "
            f"Allocation.chosen, or {{channel: {FRESH!r}}} in place of a list of channels"
        )
    ends: list[End] = [end for end in ENDS if size != 0 and bool((channels.moves(end) != 0).any())]
    found = []
    for end in ends:
        rows, columns = _of_end(name, end, directions, outgoing)
        for producer in net.groups[name].movers:
            if producer not in rows:
                raise InputError(
                    f"group {name!r}: step is not 0 but no direction is given for producer {producer!r}; "
                    "pass directions={group: {producer: tensor}} (or a SplitIndex) or step=0"
                )
        found += _checked(net, name, end, size, rows, Role.PRODUCER)
        found += _checked(net, name, end, size, columns, Role.CONSUMER)
    return found


def _of_end(
    name: str, end: End, directions: ByLayer | SplitIndex | None, outgoing: ByLayer | None
) -> tuple[ByLayer, ByLayer]:
    """Directions by producer and by consumer along one end.

    Raises:
        InputError: there are none along the upper end.
    """
    index = directions
    if end == "high":
        index = directions.upper if isinstance(directions, SplitIndex) else None
        if index is None:
            raise InputError(
                f"group {name!r}: a chosen kind of split moves along the largest eigenvalue, but no direction for it "
                "is given; pass directions={group: SplitIndex} from splitting_index(..., signed=True), or step=0"
            )
    if isinstance(index, SplitIndex):
        return index.direction, index.outgoing
    return index or {}, outgoing or {}


def _checked(net: Network, name: str, end: End, size: float, tensors: ByLayer, role: Role) -> list[Move]:
    """Moves of one role's layers."""
    group = net.groups[name]
    layers, what = (group.producers, "direction") if role is Role.PRODUCER else (group.consumers, "outgoing direction")
    moving = {slot.tensor for slot in net.slots if (slot.group, slot.role) == (name, role)}
    found = []
    for layer, direction in tensors.items():
        weight = f"{layer}.weight" if layer else "weight"
        if layer not in layers:
            raise InputError(
                f"group {name!r}: {what} for {layer!r}, which is no {role.value} of it: {nearest(layer, layers)}"
            )
        if weight not in moving:
            raise InputError(f"group {name!r}: {what} for {layer!r}, which mixes its channels by other tensors")
        _check(net, name, layer, direction, what)
        found.append(Move(weight, role, name, size, direction, end))
    return found


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
