"""Channel maps: which old channel each new channel copies, with what sign and what share.

A copy stands next to its original, so that grouped and concatenated channels keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energysplit.errors import InputError


@dataclass(frozen=True)
class ChannelMap:
    """New channels in terms of old ones.

    source: old channel of each new channel. sign: +1 and -1 for the two copies, 0 for channels left alone.
    share: part of the outgoing weight each new channel gets; shares of one old channel sum to 1.
    """

    source: Int[Tensor, " new"]
    sign: Float[Tensor, " new"]
    share: Float[Tensor, " new"]

    def indices(self, block: int) -> Int[Tensor, " new_indices"]:
        """Old index of each new index when a channel is a run of `block` indices."""
        return (self.source[:, None] * block + torch.arange(block)).flatten()


def channel_map(group: str, channels: int, chosen: Sequence[int]) -> ChannelMap:
    """The map that splits the chosen channels in two.

    Raises:
        InputError: a channel is out of range, not an integer, or named twice.
    """
    if any(isinstance(channel, bool) for channel in chosen):
        raise InputError(f"group {group!r}: {list(chosen)} given; channel numbers are expected, not a mask")
    numbers = [int(channel) for channel in chosen]
    wrong = [channel for channel in numbers if not 0 <= channel < channels]
    if wrong or numbers != list(chosen):
        raise InputError(f"group {group!r}: channels {wrong or list(chosen)} given, 0 to {channels - 1} expected")
    if len(set(numbers)) != len(numbers):
        raise InputError(f"group {group!r}: a channel is named twice in {sorted(numbers)}; name each once")
    copies = torch.ones(channels, dtype=torch.long)
    copies[numbers] = 2
    source = torch.repeat_interleave(torch.arange(channels), copies)
    split = copies[source] == 2
    first = torch.ones_like(split)
    first[1:] = source[1:] != source[:-1]
    sign = torch.where(split, torch.where(first, 1.0, -1.0), 0.0)
    return ChannelMap(source, sign.double(), (1.0 / copies[source].double()))
