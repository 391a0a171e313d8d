"""Channel maps: which old channel each new channel copies, with what share, and how far it moves.

A copy stands next to its original, so that grouped and concatenated channels keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energysplit.errors import InputError, nearest
from energysplit.kinds import PAIR, Copy, every_kind, kinds

End = Literal["low", "high"]
"""The end of a spectrum: of its smallest or of its largest eigenvalue."""

ENDS: tuple[End, ...] = ("low", "high")

_ALONE = (Copy(1.0),)


@dataclass(frozen=True)
class ChannelMap:
    """New channels in terms of old ones.

    source: old channel of each new channel. share: part of the outgoing weight each new channel gets, which may be
    negative; shares of one old channel sum to 1. low, high: steps each new channel makes along the directions of the
    smallest and of the largest eigenvalue (`energysplit.kinds`), 0 for channels left alone.
    """

    source: Int[Tensor, " new"]
    share: Float[Tensor, " new"]
    low: Float[Tensor, " new"]
    high: Float[Tensor, " new"]

    def indices(self, block: int) -> Int[Tensor, " new_indices"]:
        """Old index of each new index when a channel is a run of `block` indices."""
        return (self.source[:, None] * block + torch.arange(block)).flatten()

    def moves(self, end: End) -> Float[Tensor, " new"]:
        """Steps of each new channel along the direction of one end."""
        return self.low if end == "low" else self.high


def channel_map(group: str, channels: int, chosen: Sequence[int] | Mapping[int, str], mass: float = 1.0) -> ChannelMap:
    """The map that splits the chosen channels.

    Args:
        group: its name, for messages.
        channels: in the group.
        chosen: channels to split in two, each once; or channel -> kind of its split.
        mass: of the splits, see `energysplit.kinds`.

    Raises:
        InputError: a channel is out of range, not an integer, or named twice; or a kind is unknown at this mass.
    """
    if any(isinstance(channel, bool) or str(getattr(channel, "dtype", "")).endswith("bool") for channel in chosen):
        raise InputError(f"group {group!r}: {list(chosen)} given; channel numbers are expected, not a mask")
    try:
        numbers = [int(channel) for channel in chosen]
    except (TypeError, ValueError) as error:
        raise InputError(f"group {group!r}: channels {list(chosen)} given, 0 to {channels - 1} expected") from error
    wrong = [channel for channel in numbers if not 0 <= channel < channels]
    if wrong or numbers != list(chosen):
        raise InputError(f"group {group!r}: channels {wrong or list(chosen)} given, 0 to {channels - 1} expected")
    if len(set(numbers)) != len(numbers):
        raise InputError(f"group {group!r}: a channel is named twice in {sorted(numbers)}; name each once")
    names = list(chosen.values()) if isinstance(chosen, Mapping) else [PAIR] * len(numbers)
    copies = {number: _copies(group, number, name, mass) for number, name in zip(numbers, names, strict=True)}
    each = [(channel, copy) for channel in range(channels) for copy in copies.get(channel, _ALONE)]
    shares, lows, highs = zip(*((copy.share, copy.low, copy.high) for _, copy in each), strict=True)
    return ChannelMap(
        torch.tensor([channel for channel, _ in each]),
        *(torch.tensor(values, dtype=torch.float64) for values in (shares, lows, highs)),
    )


def _copies(group: str, channel: int, name: str, mass: float) -> tuple[Copy, ...]:
    """The copies of a channel that is split in this way.

    Raises:
        InputError: there is no such kind at this mass.
    """
    known = every_kind(mass)
    if name in known:
        return known[name].copies
    if name in kinds(2.0):
        raise InputError(
            f"group {group!r}: kind {name!r} of channel {channel} has negative shares, which need a mass above 1; "
            f"mass = {mass:g} given"
        )
    raise InputError(f"group {group!r}: no kind of split {name!r} (channel {channel}): {nearest(str(name), known)}")
