"""Removes neurons from a network: the opposite of a split, for methods that prune.

A removed neuron takes its producers' rows, its followers' channels and its consumers' columns with it, so the narrowed
network computes what the original computes with those columns at zero. What stays is copied bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from energysplit.errors import InputError, nearest
from energysplit.graph import Network
from energysplit.graph.channels import ChannelMap
from energysplit.graph.edit import carried, duplicate

Kept = Mapping[str, Sequence[int]]
"""Group -> channels that stay; groups left out stay whole."""


def narrow(net: Network, kept: Kept) -> Network:
    """A new network with only these channels; `net` and its module stay as they are.

    Args:
        net: a traced network.
        kept: group -> channels that stay, each once, in any order (their order in the network does not change).

    Raises:
        InputError: unknown or unsplittable group, no channel left, or channels out of range or named twice.
    """
    return duplicate(net, _maps(net, kept))


def narrow_state(net: Network, kept: Kept, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimiser's state for the narrowed network: that of the kept channels, bit for bit.

    Args:
        net: the network before.
        kept: as given to `narrow`.
        state: "<parameter>/<key>" -> tensor, shaped like the parameter, or a number (a step counter).

    Raises:
        InputError: a tensor is not shaped like its parameter, or channels that `narrow` would refuse.
    """
    maps = _maps(net, kept)
    parameters = dict(net.module.named_parameters())
    by_key: dict[str, dict[str, Tensor]] = defaultdict(dict)
    result: dict[str, Tensor] = {}
    for entry, tensor in state.items():
        name, _, key = entry.rpartition("/")
        if tensor.dim() == 0:
            result[entry] = tensor.clone()
            continue
        if name not in parameters or tensor.shape != parameters[name].shape:
            expected = f"{tuple(parameters[name].shape)} expected" if name in parameters else "no such parameter"
            raise InputError(
                f"optimiser state {entry!r} of shape {tuple(tensor.shape)} can't be narrowed: {expected}; pass the "
                "state of this network, before it is narrowed"
            )
        by_key[key][name] = tensor
    for key, tensors in by_key.items():
        # Shares are 1: a gathered gradient or square of one is what it was.
        for name, tensor in carried(net, maps, tensors, torch.clone).items():
            result[f"{name}/{key}"] = tensor
    return {entry: result[entry] for entry in state}


def _maps(net: Network, kept: Kept) -> dict[str, ChannelMap]:
    """Group -> its new channels, for the groups that lose some."""
    maps = {}
    for name, channels in kept.items():
        if name not in net.groups:
            raise InputError(f"no group {name!r} in this network: {nearest(name, net.groups)}")
        group = net.groups[name]
        numbers = _checked(name, channels, group.channels)
        if len(numbers) == group.channels:
            continue
        if not group.splittable:
            raise InputError(f"group {name!r} can't be narrowed: {group.reason}")
        ones = torch.ones(len(numbers), dtype=torch.float64)
        maps[name] = ChannelMap(torch.tensor(numbers), ones, torch.zeros_like(ones), torch.zeros_like(ones))
    return maps


def _checked(group: str, channels: Sequence[int], width: int) -> list[int]:
    """The channels in order.

    Raises:
        InputError: there are none, or they are no channels of the group, or one is named twice.
    """
    numbers = list(channels)
    wrong = [each for each in numbers if isinstance(each, bool) or not isinstance(each, int) or not 0 <= each < width]
    if wrong:
        raise InputError(f"group {group!r}: channels {wrong[:5]} to be kept, 0 to {width - 1} expected")
    if not numbers:
        raise InputError(f"group {group!r}: no channel is kept; at least one must stay")
    if len(set(numbers)) != len(numbers):
        raise InputError(f"group {group!r}: a channel to be kept is named twice in {sorted(numbers)}; name each once")
    return sorted(numbers)
