"""Uniform sizes: all groups times one factor, as wide as prices allow.

Widths are whole numbers, so only finitely many networks lie on the way from factor 0 to any other, one between two
neighbouring factors at which some group's width changes. The widest within the limits is found by bisection over these
factors, each candidate priced as a whole network. That is exact where prices rise with the factor; where a measured
table falls somewhere, the network found is within the limits all the same, but a wider one may be too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from energysplit.costs import NetworkPricer
from energysplit.errors import InputError, NotMeasured
from energysplit.growth.reference import Reference
from energysplit.types import Cost

_LARGEST_FACTOR = Fraction(2**20)


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
    """The widest network within the limits, some groups times one factor; None if not even the narrowest is.

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

    low, high = Fraction(0), Fraction(1)
    if not within(at(low)):
        return None
    while within(at(high)):
        # Twice as wide as this, and no group wider: all are at their ceilings.
        if high >= 1 and at(high) == at(2 * high):
            return Uniform(float(high), at(high))
        if high > _LARGEST_FACTOR:
            raise InputError(
                "the price of a network of a million times the width is within its limit: the budgets' providers don't "
                "price the groups that may be widened; give a budget that does"
            )
        low, high = high, 2 * high
    steps = sorted({step for name, most in ceilings.items() for step in _steps(widths[name], low, high, most)})
    first, last = 0, len(steps)  # the first step that is not within: between them
    while first < last:
        middle = (first + last) // 2
        first, last = (middle + 1, last) if within(at(steps[middle])) else (first, middle)
    factor = steps[first - 1] if first else low
    return Uniform(float(factor), at(factor))


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
