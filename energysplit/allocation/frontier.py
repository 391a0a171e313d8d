"""What a budget buys: predicted gain against its limit, with the other budgets as they are, and with them left out.

Each point is an allocation of its own. A choice for a smaller limit is one for a larger limit too, and a choice inside
all budgets is one inside each of them, so the better of what was found is kept: gains never fall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from energysplit.allocation.budgets import Limit
from energysplit.allocation.problem import Problem, build
from energysplit.allocation.solve import BLIND, solve
from energysplit.errors import InputError, NotMeasured
from energysplit.progress import Progress, SilentProgress
from energysplit.types import Allocation, Budget, Cost, Priceable, SplitIndex

# A limit this many times the price of everything there is to buy is no limit.
_AMPLE = 4.0

MOST_POINTS = 200
"""Limits of one budget that are tried at most."""

# The first limit above the present price buys about one neuron, yet is at least this part of the way to the last.
_FIRST = 1 / 200


@dataclass(frozen=True)
class Point:
    """An allocation at one limit.

    price: of the grown network, under this budget. gap: to the bound of the relaxation at this limit. shadow_price:
    gain that one more unit of this budget would buy. allocation: the choice; where it was found for a smaller limit,
    its own limits, gap and status are of that one.
    """

    limit: float
    price: Cost
    gain: float
    gap: float
    shadow_price: float
    allocation: Allocation

    @property
    def neurons(self) -> int:
        """Neurons that are split."""
        return sum(len(neurons) for neurons in self.allocation.split.values())


@dataclass(frozen=True)
class Frontier:
    """What one budget buys.

    present: price of the network as it is. limit: the budget's own, which one of the points is at. points: limits
    rising, the other budgets at their limits. alone: the same limits without the other budgets; None where there are
    none. most: the gain if there were no budget at all.
    """

    name: str
    unit: str
    present: Cost
    limit: float
    points: tuple[Point, ...]
    alone: tuple[Point, ...] | None
    most: float

    @property
    def own(self) -> Point:
        """The point at the budget's own limit."""
        return next(point for point in self.points if point.limit == self.limit)


def frontier(
    net: Priceable,
    index: Mapping[str, SplitIndex],
    budgets: Sequence[Budget] | Budget,
    *,
    points: int = 12,
    progress: Progress | None = None,
    **arguments: Any,
) -> dict[str, Frontier]:
    """Budget name -> predicted gain against that budget's limit.

    Limits lie from the present price to where everything worth buying is bought, at distances from the present price
    that grow by a factor, from about one neuron's. The budget's own limit, and the limit from which on only the other
    budgets bind, are added.

    Args:
        net: the network as it is.
        index: group -> splitting indices.
        budgets: as `allocate` takes them.
        points: limits of each budget, the two ends included and those added not.
        progress: what work is reported to; silent by default.
        **arguments: of `allocate`.

    Raises:
        InputError: points out of range, or what `allocate` refuses.
        BudgetError: a budget can't be read, or is below the present price.
        SolverFailed: the solver ended without an optimum.
    """
    if isinstance(points, bool) or not isinstance(points, int) or not 2 <= points <= MOST_POINTS:
        raise InputError(f"points = {points!r} given, a whole number from 2 to {MOST_POINTS} expected")
    listed = [budgets] if isinstance(budgets, Budget) else list(budgets)
    method = arguments.pop("method", "milp")
    if method in BLIND:
        raise InputError(f"a frontier is of largest gains, which method {method!r} does not seek; give --method milp")
    problem = build(net, index, listed, **arguments)
    limits = problem.limits
    solver = _Solver(problem, method)
    several = len(limits) > 1
    given = {place: limit.limit for place, limit in enumerate(limits)}
    plans = []
    for place, limit in enumerate(limits):
        others = {other: value for other, value in given.items() if other != place}
        everything, last = solver.unlimited(place, {}), solver.unlimited(place, others)
        plans.append((others, last, _spread(limit, index, [last.price.value, everything.price.value], points)))
    curves: list[tuple[list[Point], list[Point]]] = []
    with (progress or SilentProgress()).task("frontier", sum(len(wanted) for _, _, wanted in plans)) as task:
        for place, (others, last, wanted) in enumerate(plans):
            alone, together = [], []
            for at in wanted:
                alone.append(solver.at({place: at}, place))
                # Above the last price it is the other budgets that bind.
                inner = at < last.price.value or at == limits[place].limit
                together.append(replace(solver.at({**others, place: at}, place) if inner else last, limit=at))
                task.advance(1)
            together = _rising(together)
            alone = _rising([_better(by_itself, point) for by_itself, point in zip(alone, together, strict=True)])
            curves.append((together, alone))
    most = max(point.gain for _, alone in curves for point in alone)
    return {
        limit.name: Frontier(
            limit.name,
            limit.pricer.unit,
            limit.present,
            limit.limit,
            tuple(together),
            tuple(alone) if several else None,
            most,
        )
        for limit, (together, alone) in zip(limits, curves, strict=True)
    }


class _Solver:
    """Allocations of one network at any limits, each solved once."""

    def __init__(self, problem: Problem, method: str) -> None:
        self.problem, self.method, self.limits = problem, method, problem.limits
        self._known: dict[tuple[tuple[int, float], ...], Allocation] = {}

    def at(self, limits: Mapping[int, float], place: int) -> Point:
        """The allocation within these limits, by place of the budget, as the budget at `place` sees it."""
        key = tuple(sorted(limits.items()))
        if key not in self._known:
            under = [replace(self.limits[number], limit=limit) for number, limit in key]
            self._known[key] = solve(self.problem.under(under), self.method)
        found, name = self._known[key], self.limits[place].name
        return Point(limits[place], found.price[name], found.predicted_gain, found.gap, found.shadow_price[name], found)

    def unlimited(self, place: int, others: Mapping[int, float]) -> Point:
        """The allocation that a budget does not bind, the others at these limits."""
        pricer = self.limits[place].pricer
        everything = pricer.value(self.problem.widths_at(self.problem.everything))
        limit = _AMPLE * max(everything, self.limits[place].present.value) or 1.0
        return replace(self.at({**others, place: limit}, place), shadow_price=0.0)


def _spread(limit: Limit, index: Mapping[str, SplitIndex], ends: Sequence[float], points: int) -> list[float]:
    """The limits of a frontier, rising: the present price, `points` - 1 more up to the last end, the ends, its own."""
    present = limit.present.value
    span = max(ends) - present
    wanted = {present, limit.limit, *(end for end in ends if end > present)}
    if span > 0:
        first = min(max(_cheapest(limit, index), span * _FIRST), span)
        ratio = (span / first) ** (1 / max(1, points - 2))
        wanted |= {present + first * ratio**number for number in range(points - 2)}
    return sorted(wanted)


def _cheapest(limit: Limit, index: Mapping[str, SplitIndex]) -> float:
    """The least price above zero of one more neuron in any group that has indices; 0 if there is none."""
    pricer, found = limit.pricer, []
    for name, group in pricer.net.groups.items():
        if group.splittable and name in index:
            try:
                found.append(pricer.marginal(pricer.net.widths, name))
            except NotMeasured:
                continue
    return min((price for price in found if price > 0), default=0.0)


def _rising(points: Sequence[Point]) -> list[Point]:
    """The points, each at least as good as the one before: what fits a smaller limit fits a larger one."""
    best: list[Point] = []
    for point in points:
        best.append(_better(point, best[-1]) if best else point)
    return best


def _better(point: Point, other: Point) -> Point:
    """`point`, or the choice of `other`, which fits its limit too, where that gains more."""
    if other.gain <= point.gain:
        return point
    bound = point.gain / (1 - point.gap) if point.gap < 1 else 0.0
    gap = max(0.0, 1 - other.gain / bound) if bound > 0 else point.gap
    return replace(point, price=other.price, gain=other.gain, gap=gap, allocation=other.allocation)
