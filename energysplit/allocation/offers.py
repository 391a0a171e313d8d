"""What growing a group brings: the largest gain for every number of channels added, and the splits that make it.

Within a group all channels have one price, so only their number matters to the budgets. A neuron offers splits of one,
two or three channels more (`energysplit.kinds`), each with its own gain, and takes one of them at most. With plain
pairs the best choice of n is the n best indices. With signed splits it is a knapsack over the group's neurons by
itself, solved exactly by dynamic programming, once, whatever the budgets are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energysplit.errors import InputError
from energysplit.kinds import FRESH, kinds
from energysplit.types import SplitIndex


@dataclass(frozen=True)
class Option:
    """A way to grow: what it adds to a group and what it brings (loss per squared unit step times two, above 0)."""

    neuron: int
    kind: str
    added: int
    gain: float


@dataclass(frozen=True, eq=False)
class Offer:
    """What a group offers.

    gain: shape (most + 1,), the largest gain of exactly n channels more; minus infinity where no choice has n. unknown:
    neurons left out because their index is NaN. unsure: neurons left out because of `risk` alone.
    """

    gain: NDArray[np.float64]
    unknown: int
    unsure: int
    _choice: Callable[[int], dict[int, str]]

    def bought(self, count: int) -> dict[int, str]:
        """Neuron -> kind of its split, by neuron, for `count` channels more."""
        return dict(sorted(self._choice(count).items()))


def offer(name: str, index: SplitIndex, channels: int, *, mass: float = 1.0, risk: float = 0.0) -> Offer:
    """What a group offers by its indices.

    Args:
        name: of the group, for messages.
        index: its indices.
        channels: it has.
        mass: of signed splits; 1 for plain pairs only.
        risk: standard errors by which an eigenvalue must be on the side of 0 that pays.

    Raises:
        InputError: as many indices as channels are not given, one is infinite on the paying side, or what `risk` or
            `mass` needs is missing.
    """
    kinds(mass)  # refuses what is no mass
    if mass > 1 and index.kind == FRESH:
        raise InputError(f"mass = {mass:g} given for indices of fresh neurons, which are no splits; use mass=1")
    if mass > 1 and index.upper is None:
        raise InputError(
            f"index of group {name!r} has no upper end, which mass = {mass:g} needs; use splitting_index(..., "
            "signed=True) or mass=1"
        )

    def paying(at_risk: float) -> NDArray[np.float64]:
        low = _paying(name, index, channels, at_risk, sign=-1.0)
        if mass <= 1 or index.upper is None:
            return np.stack([low, np.zeros(channels)])
        return np.stack([low, _paying(f"{name} (upper end)", index.upper, channels, at_risk, sign=1.0)])

    ends = paying(risk)
    known = ~np.isnan(ends).any(0)
    low, high = np.where(known, ends, 0.0)
    unknown = int(np.sum(~known))
    unsure = int(np.sum(known & (low + high == 0) & (paying(0.0).sum(0) > 0)))
    if mass <= 1:
        return _alike(low, index.kind, unknown, unsure)
    listed = tuple(found for neuron in range(channels) if (found := _options(neuron, low[neuron], high[neuron], mass)))
    return _signed(listed, unknown, unsure)


def offer_in_order(name: str, index: SplitIndex, channels: int, order: Sequence[int]) -> Offer:
    """What a group offers if its neurons are split in an order that is given, whatever they bring; one channel each.

    Args:
        name: of the group, for messages.
        index: its indices; those of `order` are finite.
        channels: it has.
        order: neurons that may be split.

    Raises:
        InputError: as many indices as channels are not given.
    """
    values = np.array(index.value.tolist(), dtype=np.float64)
    if len(values) != channels:
        raise InputError(f"index of group {name!r} has {len(values)} values, but the group has {channels} neurons")
    gain = np.concatenate([[0.0], np.cumsum(-values[list(order)])])
    unknown = int(np.sum(~np.isfinite(values)))
    return Offer(gain, unknown, 0, lambda count: dict.fromkeys(order[:count], index.kind))


def _paying(name: str, index: SplitIndex, channels: int, risk: float, sign: float) -> NDArray[np.float64]:
    """How far each eigenvalue is on the paying side of 0, and 0 where it is not surely there; NaN where unknown."""
    values = np.array(index.value.tolist(), dtype=np.float64)
    if len(values) != channels:
        raise InputError(f"index of group {name!r} has {len(values)} values, but the group has {channels} neurons")
    if np.any(sign * values == math.inf):
        raise InputError(
            f"index of group {name!r} holds {'minus ' if sign < 0 else ''}infinity; expected finite numbers"
        )
    sure = sign * values
    if risk > 0:
        if index.stderr is None:
            raise InputError(
                f"index of group {name!r} has no standard errors, which risk = {risk:g} needs; estimate it on more "
                "than one image, best with held_out=..., or use risk=0"
            )
        errors = np.array(index.stderr.tolist(), dtype=np.float64)
        if len(errors) != channels:
            raise InputError(f"index of group {name!r} has {len(errors)} standard errors for {channels} neurons")
        sure = sure - risk * errors
    return np.where(np.isnan(values) | np.isnan(sure), math.nan, np.where(sure > 0, sign * values, 0.0))


def _options(neuron: int, low: float, high: float, mass: float) -> tuple[Option, ...]:
    """The splits of a neuron that bring something: for each number of channels the best, if better than with fewer."""
    best: list[Option] = []
    found = [
        Option(neuron, kind.name, kind.added, float(kind.low * low - kind.high * high)) for kind in kinds(mass).values()
    ]
    for added in sorted({option.added for option in found}):
        option = max((each for each in found if each.added == added), key=lambda each: each.gain)
        if option.gain > (best[-1].gain if best else 0.0):
            best.append(option)
    return tuple(best)


def _alike(low: NDArray[np.float64], kind: str, unknown: int, unsure: int) -> Offer:
    """One channel more a neuron, all in one way, the best indices first."""
    # Stable: neurons with equal indices keep their order.
    order = np.argsort(-low, kind="stable")[: int(np.sum(low > 0))]
    gain = np.concatenate([[0.0], np.cumsum(low[order])])
    return Offer(gain, unknown, unsure, lambda count: dict.fromkeys(order[:count].tolist(), kind))


def _signed(listed: Sequence[tuple[Option, ...]], unknown: int, unsure: int) -> Offer:
    """The best gain for every number of channels, by dynamic programming over neurons; listed: options of each."""
    most = sum(options[-1].added for options in listed)
    gain = np.full(most + 1, -math.inf)
    gain[0] = 0.0
    taken = np.zeros((len(listed), most + 1), dtype=np.int8)
    for number, options in enumerate(listed):
        before = gain.copy()
        for place, option in enumerate(options, start=1):
            with_it = before[: most + 1 - option.added] + option.gain
            better = with_it > gain[option.added :]
            gain[option.added :][better] = with_it[better]
            taken[number, option.added :][better] = place

    def choice(count: int) -> dict[int, str]:
        found = {}
        for number in range(len(listed) - 1, -1, -1):
            place = taken[number, count]
            if place > 0:
                option = listed[number][place - 1]
                found[option.neuron] = option.kind
                count -= option.added
        return found

    return Offer(gain, unknown, unsure, choice)
