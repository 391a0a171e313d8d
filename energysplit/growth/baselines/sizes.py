"""Uniform sizes: all groups times one factor, as wide as prices allow.

Widths are whole numbers, so only finitely many networks lie on the way from factor 0 to any other, one between two
neighbouring factors at which some group's width changes. The widest within the limits is found by bisection over these
factors, each candidate priced as a whole network, which is exact where prices rise with the factor. A measured table's
may fall (16 channels can be faster than 15), and has none for networks outside what was measured; so wider candidates
are looked at too, all of them where they are few.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from energysplit.costs import NetworkPricer
from energysplit.errors import InputError, NotMeasured
from energysplit.growth.reference import Reference
from energysplit.types import Cost

_LARGEST_FACTOR = Fraction(2**20)
_LOOKED_AT = 200
"""Candidates behind what bisection found that are tried, evenly spaced; every one of them where there are fewer."""


@dataclass(frozen=True)
class Limits:
    """What a network may cost. Both by provider name: pricers of the network, and limits in their units."""

    pricers: Mapping[str, NetworkPricer]
    limit: Mapping[str, float]

    def within(self, widths: Mapping[str, int]) -> bool:
        """Whether no price passes its limit; a network that a table has no price for is not."""
        try:
            return all(pricer.value(widths) <= self.limit[name] for name, pricer in self.pricers.items())
        except NotMeasured:
            return False

    def passed_by(self, widths: Mapping[str, int]) -> bool:
        """Whether a price is known to pass its limit; one that a table does not have is not known to."""
        for name, pricer in self.pricers.items():
            try:
                if pricer.value(widths) > self.limit[name]:
                    return True
            except NotMeasured:
                continue
        return False

    def prices(self, widths: Mapping[str, int]) -> dict[str, Cost]:
        """The prices at these widths, by provider name."""
        return {name: pricer.price(widths) for name, pricer in self.pricers.items()}


@dataclass(frozen=True)
class Uniform:
    """Widths of all groups, some of them times `factor`."""

    factor: float
    widths: dict[str, int]


def widest(
    widths: Mapping[str, int], ceilings: Mapping[str, int], within: Callable[[Mapping[str, int]], bool]
) -> Uniform | None:
    """The widest network within the limits, some groups times one factor; None if none was found.

    Args:
        widths: of all groups, at factor 1.
        ceilings: group -> the most channels it may have, for the groups that follow the factor; 0: any number. Their
            widths are rounded (halves up), and at least 1.
        within: whether a network of these widths is within the limits.

    Raises:
        InputError: a million times the width is within the limits too, so they are none.
    """

    def at(factor: Fraction) -> dict[str, int]:
        return dict(widths) | {name: _times(widths[name], factor, most) for name, most in ceilings.items()}

    high = Fraction(1)
    while within(at(high)):
        # Twice as wide as this, and no group wider: all are at their ceilings.
        if high >= 1 and at(high) == at(2 * high):
            return Uniform(float(high), at(high))
        if high > _LARGEST_FACTOR:
            raise InputError(
                "the price of a network of a million times the width is within its limit: the budgets' providers don't "
                "price the groups that may be widened; give a budget that does"
            )
        high *= 2
    # Up to twice the factor that is not within: a price that falls again is looked for there.
    rising = {step for name, most in ceilings.items() for step in _steps(widths[name], Fraction(0), 2 * high, most)}
    factors = [Fraction(0), *sorted(rising)]
    known = bisect_right(factors, high / 2) - 1 if high > 1 else 0
    place = last_within(len(factors), lambda n: within(at(factors[n])), known)
    return None if place is None else Uniform(float(factors[place]), at(factors[place]))


def last_within(count: int, within: Callable[[int], bool], known: int = 0) -> int | None:
    """The last of `count` candidates, each dearer than the one before as a rule, that is within; None if none is.

    Exact where that rule holds, and wherever at most `_LOOKED_AT` candidates lie behind the one that bisection finds.
    Else the last may be missed, but what is returned is within.

    Args:
        count: of candidates, at least one.
        within: whether a candidate is within the limits.
        known: a candidate to begin with that is within, if any is.

    Example:
        >>> last_within(10, lambda n: n < 7 or n == 8), last_within(10, lambda n: n in (3, 4))
        (8, 4)
    """
    found = None
    if within(known):
        low, high = known, count  # within, and the first that is not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if within(middle) else (low, middle)
        found = low
    first = 0 if found is None else found + 1
    stride = -(-(count - first) // _LOOKED_AT) or 1
    for place in range(count - 1, first - 1, -stride):
        if within(place):
            # Between this one and the one looked at before, which was not within.
            return next(n for n in range(min(place + stride, count) - 1, place - 1, -1) if within(n))
    return found


def limit_of(reference: Reference, stage: int, names: Mapping[str, object], factor: float = 1.0) -> dict[str, float]:
    """Provider name -> price of a stage of the reference run, times a factor."""
    return {name: reference.price(stage, name).value * factor for name in names}


def _times(width: int, factor: Fraction, most: int) -> int:
    """The width times the factor, rounded, at least 1 and at most `most` (if that is not 0)."""
    times = max(1, (2 * width * factor.numerator + factor.denominator) // (2 * factor.denominator))
    return min(times, most) if most else times


def _steps(width: int, low: Fraction, high: Fraction, most: int) -> list[Fraction]:
    """The factors above `low`, up to `high`, at which this width grows by one."""
    first = _times(width, low, most) + 1
    last = _times(width, high, most)
    return [Fraction(2 * target - 1, 2 * width) for target in range(first, last + 1)]
