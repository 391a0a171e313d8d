"""Prices made linear: what each block costs near one choice, so that a knapsack solver can take over.

Widths of neighbours multiply and measured tables have steps, so the price of a network is no sum over groups. Here it
is made one: each group gets its own price profile, the whole-network price with the other groups held at a centre.
The model is exact at an anchor. Two centres are used:

- half-way between the present network and the anchor. For costs in which widths multiply in pairs (MACs, parameters)
  profiles then add up to exactly the price of the anchor, P(w + k) - P(w) = sum_g m_g(w + k/2) k_g.
- the anchor itself: exact for every change of a single group, so a solution that reproduces its anchor can't be
  improved by any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energysplit.allocation.problem import Blocks, Problem

# Widths at which a profile is priced; between them it is linear. Groups with fewer blocks are priced at every one.
_PROFILE_POINTS = 64


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A knapsack: choose blocks between `low` and `high`, in order, so that the prices stay within `room`.

    gains: group -> shape (high - low,). prices: group -> shape (rows, high - low), each block's price as a fraction of
    its row's scale. room: shape (rows,), same fractions. rows: the budget's name and the scale (budget units) of each.
    """

    low: Blocks
    high: Blocks
    gains: dict[str, NDArray[np.float64]]
    prices: dict[str, NDArray[np.float64]]
    room: NDArray[np.float64]
    rows: tuple[tuple[str, float], ...]
    fixed_gain: float


def halfway(problem: Problem, blocks: Blocks) -> dict[str, int]:
    """Widths half-way between the present network and the one with `blocks`, rounded."""
    grown = problem.widths_at(blocks)
    return {name: (width + grown[name]) // 2 for name, width in problem.widths.items()}


def linearise(problem: Problem, centre: Mapping[str, int], anchor: Blocks, reach: float = 1.0) -> LinearModel:
    """The linear model of a problem's prices.

    Args:
        problem: the allocation problem.
        centre: widths the other groups are held at while one group's profile is priced.
        anchor: the choice at which the model's prices are the true ones.
        reach: fraction of a group's blocks the solution may move from the anchor, one block at least. Below 1 the
            anchor must be inside every budget.
    """
    rows = [(limit, place) for limit in problem.limits for place in range(len(limit.rows(problem.widths)))]
    scale = np.array([limit.scale for limit, _ in rows])
    ceiling = np.array([limit.limit for limit, _ in rows])
    low, high = {}, {}
    for name, count in anchor.items():
        distance = max(1, round(reach * problem.most(name))) if reach < 1 else problem.most(name)
        low[name], high[name] = max(0, count - distance), min(problem.most(name), count + distance)

    gains, prices = {}, {}
    room = (ceiling - _rows(problem, problem.widths_at(anchor))) / scale
    for name in problem.order:
        profile = _profile(problem, name, centre, low[name], high[name], anchor[name]) / scale
        prices[name] = np.diff(profile, axis=0).T
        gains[name] = np.diff(np.array(problem.gains[name][low[name] : high[name] + 1]))
        room = room + profile[anchor[name] - low[name]] - profile[0]
    # From `low` = nothing, nothing is always inside. Otherwise the anchor is, and the model is exact there.
    room = np.maximum(room, 0.0) if reach >= 1 else room
    binding = np.zeros(len(rows), dtype=bool)
    for table in prices.values():
        binding |= np.any(table != 0, axis=1)
    return LinearModel(
        low,
        high,
        gains,
        {name: table[binding] for name, table in prices.items()},
        room[binding],
        tuple((limit.name, limit.scale) for (limit, _), keep in zip(rows, binding, strict=True) if keep),
        problem.gain_at(low),
    )


def _rows(problem: Problem, widths: Mapping[str, int]) -> NDArray[np.float64]:
    return np.array([value for limit in problem.limits for value in limit.rows(widths)], dtype=np.float64)


def _profile(
    problem: Problem, group: str, centre: Mapping[str, int], low: int, high: int, anchor: int
) -> NDArray[np.float64]:
    """Prices, shape (high - low + 1, rows), of the network at `centre` with `low` to `high` blocks in `group`."""
    ends = np.array(problem.ends[group][low : high + 1])
    if len(ends) <= _PROFILE_POINTS:
        points = np.arange(len(ends))
    else:
        spread = np.linspace(0, len(ends) - 1, _PROFILE_POINTS).round().astype(int)
        points = np.unique(np.append(spread, anchor - low))
    width = problem.widths[group]
    priced = np.array([_rows(problem, {**centre, group: width + int(ends[point])}) for point in points])
    # Priced at the points, linear in the number of neurons between them.
    return np.stack([np.interp(ends, ends[points], column) for column in priced.T], axis=1)
