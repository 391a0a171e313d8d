"""Surgery on a copy of the module: every tensor that runs along a split group gets its new channels.

A split neuron becomes two with producer rows theta + step v and theta - step v; followers are copied and each
consumer column is shared half and half, so at step 0 the function is unchanged (Wang et al. 2019, section 2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from energysplit.errors import InputError, nearest
from energysplit.graph import Network, trace
from energysplit.graph.network import Role, Slot
from energysplit.surgery.channels import ChannelMap, channel_map
from energysplit.surgery.layers import set_sizes

Directions = Mapping[str, Mapping[str, Tensor]]
_ORDER = (Role.PRODUCER, Role.FOLLOWER, Role.CONSUMER)


def split(
    net: Network,
    chosen: Mapping[str, Sequence[int]],
    directions: Directions | None = None,
    step: float | Mapping[str, float] = 0.0,
) -> Network:
    """A new network in which each chosen neuron is split in two; `net` and its module stay as they are.

    Args:
        net: a traced network.
        chosen: group -> channels to split, each once.
        directions: group -> producer name -> tensor shaped like that producer's weight; rows of the split channels
            are used. Needed where the step is not 0.
        step: distance each copy moves along its direction, in weight units; one number, or one per group.

    Raises:
        InputError: unknown or unsplittable group, channels out of range, directions missing or of a wrong shape.
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
    steps = {name: _step(name, step) for name in maps}
    moves = {
        f"{producer}.weight": (steps[name], _direction(net, name, producer, directions))
        for name in maps
        if steps[name] != 0
        for producer in net.groups[name].producers
    }

    def edit(slot: Slot, tensor: Tensor) -> Tensor:
        channels = maps[slot.group]
        out = _gather(tensor, slot, channels)
        if slot.role is Role.CONSUMER:
            return out * _along(channels.share, slot, out)
        if slot.role is Role.PRODUCER and slot.tensor in moves:
            size, direction = moves[slot.tensor]
            moved = _gather(direction.to(tensor), slot, channels)
            return out + size * _along(channels.sign, slot, out) * moved
        return out

    return _rebuild(net, maps, edit)


def resize(net: Network, widths: Mapping[str, int]) -> Network:
    """A new network with these widths and zeros in every resized tensor, to be filled from a checkpoint.

    Raises:
        InputError: a group is unknown, or a width is below 1.
    """
    net.cases(widths)
    changed = {name for name, width in widths.items() if width != net.groups[name].channels}

    def edit(slot: Slot, tensor: Tensor) -> Tensor:
        shape = list(tensor.shape)
        shape[slot.dim] = widths[slot.group] * slot.block
        return tensor.new_zeros(shape)

    return _rebuild(net, changed, edit)


def mapped(net: Network, maps: Mapping[str, ChannelMap], name: str, tensor: Tensor, power: float) -> Tensor:
    """A tensor shaped like parameter `name` carried through a split.

    Copies of producers and followers are multiplied by 2^-power, columns of consumers are copied as they are: that is
    how gradients (power 1) and their squares (power 2) of the split network follow from those before.
    """
    for slot in _slots(net, maps):
        if slot.tensor == name:
            channels = maps[slot.group]
            tensor = _gather(tensor, slot, channels)
            if slot.role is not Role.CONSUMER:
                tensor = tensor * _along(channels.share**power, slot, tensor)
    return tensor


def _slots(net: Network, groups: Mapping[str, object] | set[str]) -> list[Slot]:
    """Slots of these groups; producers first, so that rows move before columns of other groups are shared."""
    return [slot for role in _ORDER for slot in net.slots if slot.role is role and slot.group in groups]


def _rebuild(net: Network, groups: Mapping[str, object] | set[str], edit: Callable[[Slot, Tensor], Tensor]) -> Network:
    """A copy of the network with every slot of these groups edited, traced again."""
    module = copy.deepcopy(net.module)
    touched = set()
    with torch.no_grad():
        for slot in _slots(net, groups):
            path, _, key = slot.tensor.rpartition(".")
            owner = module.get_submodule(path)
            tensor = getattr(owner, key)
            edited = edit(slot, tensor.detach()).contiguous()
            if isinstance(tensor, nn.Parameter):
                setattr(owner, key, nn.Parameter(edited, requires_grad=tensor.requires_grad))
            else:
                setattr(owner, key, edited)
            touched.add(owner)
    for owner in touched:
        set_sizes(owner)
    return trace(module, net.example_input.to(next(module.parameters()).device))


def _gather(tensor: Tensor, slot: Slot, channels: ChannelMap) -> Tensor:
    return tensor.index_select(slot.dim, channels.indices(slot.block).to(tensor.device))


def _along(values: Tensor, slot: Slot, like: Tensor) -> Tensor:
    """Values per new channel, shaped to multiply `like` along the slot's dimension."""
    shape = [1] * like.dim()
    shape[slot.dim] = -1
    return values.repeat_interleave(slot.block).to(like).reshape(shape)


def _step(group: str, step: float | Mapping[str, float]) -> float:
    """The step of one group, checked."""
    if isinstance(step, Mapping) and group not in step:
        raise InputError(f"group {group!r}: no step is given for it; steps of {sorted(step)} given")
    size = step[group] if isinstance(step, Mapping) else step
    if not isinstance(size, int | float) or not math.isfinite(size):
        raise InputError(f"group {group!r}: step {size!r} given, a finite number expected")
    return size


def _direction(net: Network, group: str, producer: str, directions: Directions | None) -> Tensor:
    """The direction of one producer, checked."""
    if directions is None or group not in directions or producer not in directions[group]:
        raise InputError(
            f"group {group!r}: step is not 0 but no direction is given for producer {producer!r}; "
            "pass directions={group: {producer: tensor}} (a SplitIndex has them) or step=0"
        )
    direction = directions[group][producer]
    expected = net.weight(producer).shape
    if direction.shape != expected:
        raise InputError(
            f"group {group!r}: direction for {producer!r} has shape {tuple(direction.shape)}, "
            f"{tuple(expected)} expected (that of its weight)"
        )
    if not bool(torch.isfinite(direction).all()):
        raise InputError(f"group {group!r}: the direction for {producer!r} holds NaN or infinity")
    return direction
