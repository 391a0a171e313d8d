"""Prices made linear: what each number of blocks costs near one choice, so that a knapsack solver can take over.

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
from scipy import sparse

from energysplit.allocation.ledger import Ledger
from energysplit.allocation.problem import Blocks, Problem
from energysplit.allocation.profile import Rows, profile

Array = NDArray[np.float64]

_FAR = 1e6  # times the room


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A multiple-choice knapsack: of each group's columns (numbers of blocks) take one, within every row's room.

    start: shape (groups + 1,), first column of each group. anchor: shape (groups,), the column of each group at which
    prices are the true ones. count: shape (columns,), the number of blocks. gain: shape (columns,). matrix: shape
    (rows, columns), price against the group's first column as a fraction of its row's scale. room: shape (rows,), same
    fractions. rows: the budget's name and the scale (budget units) of each row.
    """

    groups: tuple[str, ...]
    start: NDArray[np.int64]
    anchor: NDArray[np.int64]
    count: NDArray[np.int64]
    gain: Array
    matrix: sparse.csr_array
    room: Array
    rows: tuple[tuple[str, float], ...]

    @property
    def group_of(self) -> NDArray[np.int64]:
        """Shape (columns,): number of the group of each column."""
        return np.repeat(np.arange(len(self.groups)), np.diff(self.start))

    def blocks(self, columns: NDArray[np.int64]) -> Blocks:
        """The choice that takes these columns, one of each group."""
        return {name: int(self.count[column]) for name, column in zip(self.groups, columns, strict=True)}


def halfway(problem: Problem, blocks: Blocks) -> dict[str, int]:
    """Widths half-way between the present network and the one with `blocks`, rounded."""
    grown = problem.widths_at(blocks)
    return {name: (width + grown[name]) // 2 for name, width in problem.widths.items()}


def linearise(problem: Problem, centre: Mapping[str, int], anchor: Blocks, reach: float = 1.0) -> LinearModel:
    """The linear model of a problem's prices.

    Args:
        problem: the allocation problem, of one group at least.
        centre: widths the other groups are held at while one group's profile is priced.
        anchor: the choice at which the model's prices are the true ones.
        reach: fraction of a group's blocks the solution may move from the anchor, one block at least. Below 1 the
            anchor must be inside every budget.
    """
    ledger = Ledger(problem.limits, problem.touched, centre)
    counts = {name: _window(count, problem.most(name), reach) for name, count in anchor.items()}
    entries = _Entries(problem, anchor)
    for name, window in counts.items():
        place = anchor[name] - window.start
        every = problem.every_width(name)
        rows = profile(ledger, name, every[window.start : window.stop], place)
        entries.add(rows, len(window), place)
    start = np.concatenate([[0], np.cumsum([len(window) for window in counts.values()])]).astype(np.int64)
    matrix, room, rows_kept = entries.assembled(reach >= 1)
    return LinearModel(
        tuple(counts),
        start,
        start[:-1] + np.array([anchor[name] - window.start for name, window in counts.items()]),
        np.concatenate([np.array(window) for window in counts.values()]),
        np.concatenate([np.array(problem.gains[name])[list(window)] for name, window in counts.items()]),
        matrix,
        room,
        rows_kept,
    )


def _window(count: int, most: int, reach: float) -> range:
    distance = max(1, round(reach * most)) if reach < 1 else most
    return range(max(0, count - distance), min(most, count + distance) + 1)


class _Entries:
    """The rows of a model while groups are added to it."""

    def __init__(self, problem: Problem, anchor: Blocks) -> None:
        self.limits = problem.limits
        at = problem.ledger(anchor)
        self.number: dict[tuple[int, str], int] = {}
        self.room: list[float] = []
        for place, limit in enumerate(problem.limits):
            values = at.by_layer(place) if limit.pricer.combine == "max" else {"": at.values[place]}
            for layer, value in values.items():
                self.number[place, layer] = len(self.room)
                self.room.append(limit.limit - value)
        self.scale = [self.limits[place].scale for place, _ in self.number]
        self.columns = 0
        self.parts: list[tuple[int, int, Array]] = []  # row, first column, prices

    def add(self, rows: list[Rows], columns: int, anchor: int) -> None:
        """The columns of one more group."""
        for place, found in enumerate(rows):
            for layer, values in found.items():
                number = self.number[place, layer]
                self.room[number] += float(values[anchor] - values[0])
                self.parts.append((number, self.columns, values - values[0]))
        self.columns += columns

    def assembled(self, from_nothing: bool) -> tuple[sparse.csr_array, Array, tuple[tuple[str, float], ...]]:
        """Matrix, room and rows, without the rows that no choice can pass."""
        # A price far above the room can't be paid; how far is nothing a solver should have to compute with.
        scale = np.array(self.scale)
        room = np.array(self.room) / scale
        # From no blocks anywhere, nothing is always inside. Otherwise the anchor is, and the model is exact there.
        room = np.maximum(room, 0.0) if from_nothing else room
        most = np.zeros(len(room))
        for number, _, values in self.parts:
            most[number] += max(0.0, float(values.max())) / scale[number]
        kept = np.flatnonzero(most > room)
        place = {int(number): new for new, number in enumerate(kept)}
        parts = [
            (place[number], first, np.clip(values / scale[number], -_FAR, _FAR))
            for number, first, values in self.parts
            if number in place
        ]
        data = np.concatenate([np.zeros(0), *(values for _, _, values in parts)])
        rows = np.concatenate([np.zeros(0, int), *(np.full(len(values), number) for number, _, values in parts)])
        columns = np.concatenate(
            [np.zeros(0, int), *(np.arange(first, first + len(values)) for _, first, values in parts)]
        )
        matrix = sparse.csr_array((data, (rows, columns)), shape=(len(kept), self.columns))
        names = [self.limits[place].name for place, _ in self.number]
        return matrix, room[kept], tuple((names[number], float(scale[number])) for number in kept)
