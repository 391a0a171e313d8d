"""The rounds around the knapsack: linearise, solve, re-price the true network, linearise again where that led.

Few choices are all tried. Else first over all blocks, with prices half-way to the last solution; then around the best
choice found, moving less and less far, until the bound there says that nothing is left to gain. Where something is,
starts from the step-by-step methods and exchanges of blocks look for it. Every candidate is made true (`verify.fit`)
before it counts, and the best by predicted gain is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from energysplit.allocation.exhaustive import search_all
from energysplit.allocation.greedy import fill, top_k
from energysplit.allocation.knapsack import Relaxation, relax, solve_whole
from energysplit.allocation.linearise import halfway, linearise
from energysplit.allocation.problem import Blocks, Problem
from energysplit.allocation.verify import fit, improve

WIDE_ROUNDS = 4
ROUNDS = 10
ENOUGH = 1e-4
"""Relative distance to the bound of the relaxation at which no more is looked for."""
_NEARER = 0.25
_SMALL = 3000  # columns


@dataclass(frozen=True)
class Found:
    """A choice, the number of rounds it took, whether every choice was tried, and `relaxation_at` it, where known."""

    blocks: Blocks
    rounds: int = 0
    all_tried: bool = False
    relaxation: Relaxation | None = None


def search_milp(problem: Problem) -> Found:
    """The best choice found by the mixed-integer knapsack.

    Never worse than `fill` from nothing or `top_k`, unless it is within `ENOUGH` of the bound.
    """
    known = search_all(problem)
    if known is not None:
        return Found(fill(problem, known), all_tried=True)
    found = _near(problem, _wide(problem, whole=True))
    if found.relaxation is not None:  # near enough to its bound
        return found
    seen = [found.blocks]
    for start in (fill(problem, problem.nothing), top_k(problem)):
        if start not in seen:
            seen.append(start)
            found = _near(problem, Found(start, found.rounds))
            seen.append(found.blocks)
            # Its bound is that around itself: what was found elsewhere may still be better.
            if found.relaxation is not None and problem.gain_at(found.blocks) >= max(map(problem.gain_at, seen)):
                return found
    return Found(improve(problem, max(seen, key=problem.gain_at)), found.rounds)


def search_lp(problem: Problem) -> Found:
    """The linear relaxation's choice, rounded down and filled.

    Source: Wang et al. 2019, arXiv 1910.03103; the rounds are ours.
    """
    return _wide(problem, whole=False)


def relaxation_at(problem: Problem, blocks: Blocks) -> Relaxation:
    """The linear relaxation with prices taken around a choice."""
    return relax(linearise(problem, problem.widths_at(blocks), blocks))


def gap_to(relaxation: Relaxation, gain: float) -> float:
    """Relative distance of a gain to the bound of a relaxation that it is a solution of."""
    # So a bound below it is the solver's rounding.
    return max(0.0, 1 - gain / relaxation.bound) if relaxation.bound > 0 else 0.0


def _wide(problem: Problem, *, whole: bool) -> Found:
    """Rounds over all blocks, each with prices half-way to the solution before, as long as they find more.

    Large problems are rounded down even if whole blocks are wanted: a rounding is near enough to go on from.
    """
    best = anchor = problem.nothing
    rounds = 0
    while rounds < WIDE_ROUNDS:
        rounds += 1
        model = linearise(problem, halfway(problem, anchor), anchor)
        relaxation = relax(model)
        found = solve_whole(model, relaxation) if whole and len(model.gain) <= _SMALL else relaxation.floor
        before, best = best, _better(problem, best, fit(problem, found))
        if found == anchor or problem.gain_at(best) <= (1 + ENOUGH) * problem.gain_at(before):
            break
        anchor = found
    return Found(best, rounds)


def _near(problem: Problem, start: Found) -> Found:
    """Rounds around the best choice, over all blocks at first and then less and less far."""
    best, rounds, reach = start.blocks, 0, 1.0
    while rounds < ROUNDS:
        rounds += 1
        model = linearise(problem, problem.widths_at(best), best, reach)
        relaxation = relax(model)
        if reach >= 1 and gap_to(relaxation, problem.gain_at(best)) <= ENOUGH:
            return Found(best, start.rounds + rounds, relaxation=relaxation)
        found = solve_whole(model, relaxation)
        better = _better(problem, best, fit(problem, found))
        if better is best:
            # A solution that is its own anchor is one for every shorter reach too.
            if found == best or np.all(np.diff(model.start) <= 3):
                break
            reach *= _NEARER
        best = better
    return Found(best, start.rounds + rounds)


def _better(problem: Problem, best: Blocks, other: Blocks) -> Blocks:
    return other if problem.gain_at(other) > problem.gain_at(best) else best
