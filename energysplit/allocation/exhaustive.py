"""The best choice of all there are, where they are few enough: every number of blocks in every group at once.

A layer's price depends on the groups it follows only, so it is asked for each combination of those, and the prices of
all choices are sums (or maxima) of such small tables, spread over a grid with one axis a group.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from energysplit.allocation.budgets import Limit
from energysplit.allocation.problem import Blocks, Problem

MOST_CHOICES = 2**20
"""Choices up to which all are tried: some 8 MiB a grid."""

_MOST_PRICES = 20_000  # layer prices that are asked for at most: a table takes some 0.1 ms for each
_CLOSE = 1e-9  # of a limit: nearer to it, a choice is priced again, free of rounding
_TRIES = 100  # of such choices, before others should search

Array = NDArray[np.float64]


def choices(problem: Problem) -> int:
    """How many choices there are."""
    return math.prod(len(ends) for ends in problem.ends.values())


def search_all(problem: Problem) -> Blocks | None:
    """The choice of largest gain inside every budget; None if there are too many to try, or too many at a limit."""
    if choices(problem) > MOST_CHOICES or _prices(problem) > _MOST_PRICES:
        return None
    names = list(problem.ends)
    shape = tuple(len(problem.ends[name]) for name in names)
    gain = np.zeros(shape)
    for axis, name in enumerate(names):
        gain += np.array(problem.gains[name]).reshape([-1 if place == axis else 1 for place in range(len(names))])
    for limit in problem.limits:
        gain[_grid(problem, limit, names, shape) > limit.limit * (1 + _CLOSE)] = -math.inf
    for _ in range(_TRIES):
        best = np.unravel_index(int(np.argmax(gain)), shape)
        blocks = dict(zip(names, map(int, best), strict=True))
        if problem.within(blocks):
            return blocks
        gain[best] = -math.inf
    return None


def _prices(problem: Problem) -> int:
    return sum(
        math.prod(len(problem.ends[group]) for group in groups if group in problem.ends)
        for limit in problem.limits
        for groups in limit.pricer.follows.values()
    )


def _grid(problem: Problem, limit: Limit, names: list[str], shape: tuple[int, ...]) -> Array:
    """Price of the network for every choice."""
    pricer = limit.pricer
    largest = pricer.combine == "max"
    total = np.full(shape, -math.inf) if largest else np.full(shape, pricer.total([0.0]))
    for layer, groups in pricer.follows.items():
        axes = [names.index(group) for group in groups if group in problem.ends]
        table = np.empty([shape[axis] for axis in axes])
        for counts in itertools.product(*(range(shape[axis]) for axis in axes)):
            chosen = {names[axis]: count for axis, count in zip(axes, counts, strict=True)}
            widths = {group: problem.widths[group] for group in groups}
            widths |= {name: problem.width(name, count) for name, count in chosen.items()}
            table[counts] = pricer.layer_value(layer, widths)
        # The table's axes in the order of the grid's.
        table = table.transpose(np.argsort(axes)).reshape([shape[a] if a in axes else 1 for a in range(len(shape))])
        if largest:
            np.maximum(total, table, out=total)
        else:
            total += table
    return total
