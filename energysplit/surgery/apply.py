"""Splits neurons: what a user asks for, checked, and turned into new channels and moves of weights.

A split neuron becomes two with producer rows theta + step v and theta - step v; followers are copied and each
consumer column w is shared half and half, so at step 0 the function is unchanged (Wang et al. 2019, section 2). With
an outgoing direction u the columns differ too: (w + step u)/2 and (w - step u)/2.

Signed splits (Wu et al. 2020, arXiv 2003.10392) make two to four copies, whose shares of the column may be negative:
copy i has rows theta + step (a_i v + b_i v') and columns share_i (w + step (a_i u + b_i u')), with (v, u) the direction
of the smallest and (v', u') that of the largest eigenvalue. `energysplit.kinds` has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from energysplit.errors import InputError, nearest
from energysplit.graph import Network
from energysplit.graph.channels import ChannelMap, channel_map
from energysplit.graph.edit import duplicate
from energysplit.surgery.moves import moves
from energysplit.types import Allocation, SplitIndex, check_traced

Chosen = Mapping[str, Sequence[int] | Mapping[int, str]]
"""Group -> channels that are split in two, or channel -> kind of its split."""


def split(
    net: Network,
    chosen: Chosen | Allocation,
    directions: Mapping[str, Mapping[str, Tensor] | SplitIndex] | None = None,
    step: float | Mapping[str, float] = 0.0,
    outgoing: Mapping[str, Mapping[str, Tensor]] | None = None,
    *,
    mass: float = 1.0,
) -> Network:
    """A new network in which each chosen neuron is split; `net` and its module stay as they are.

    Args:
        net: a traced network.
        chosen: group -> channels to split in two, each once; or group -> {channel: kind of its split}, with a name of
            `energysplit.kinds`. `Allocation.chosen` is either; of an `Allocation` itself its `mass` is taken too.
        directions: group -> producer name -> tensor shaped like that producer's weight; the rows of the split channels
            are used. Where the step is not 0, every producer that moves needs one; the group's gates may have one.
            Or group -> `SplitIndex`, of which all directions are used: outgoing ones and those of `upper` too.
        step: length of a step along a direction, in weight units; one number, or one per group.
        outgoing: group -> consumer name -> tensor shaped like that consumer's weight, of which the columns of the
            split channels are used; consumers without one only share their columns. Not for groups that have a
            `SplitIndex`, which brings its own.
        mass: the sizes of a neuron's shares together; above 1 for kinds with negative shares.

    Raises:
        InputError: unknown or unsplittable group, channels out of range, a kind that is unknown or needs a mass above
            1, directions missing, given twice, of a wrong shape or for layers that are none of the group's.
    """
    check_traced(net)
    maps = channel_maps(net, *((chosen.chosen, chosen.mass) if isinstance(chosen, Allocation) else (chosen, mass)))
    given = {} if directions is None else directions
    columns = {} if outgoing is None else outgoing
    return duplicate(
        net,
        maps,
        [
            move
            for name, channels in maps.items()
            for move in moves(net, name, channels, _step(name, step), given.get(name), columns.get(name))
        ],
    )


def channel_maps(net: Network, chosen: Chosen, mass: float = 1.0) -> dict[str, ChannelMap]:
    """Group -> its new channels, for the groups of which channels are chosen.

    Raises:
        InputError: unknown or unsplittable group, channels out of range, or a kind that is unknown at this mass.
    """
    maps = {}
    for name, channels in chosen.items():
        if name not in net.groups:
            raise InputError(f"no group {name!r} in this network: {nearest(name, net.groups)}")
        group = net.groups[name]
        if not group.splittable:
            raise InputError(f"group {name!r} can't be split: {group.reason}")
        if len(channels) > 0:
            maps[name] = channel_map(name, group.channels, channels, mass)
    return maps


def _step(group: str, step: float | Mapping[str, float]) -> float:
    """The step of one group, checked."""
    if isinstance(step, Mapping) and group not in step:
        raise InputError(f"group {group!r}: no step is given for it; steps of {sorted(step)} given")
    size = step[group] if isinstance(step, Mapping) else step
    if not isinstance(size, int | float) or not math.isfinite(size):
        raise InputError(f"group {group!r}: step {size!r} given, a finite number expected")
    return size
