"""The rounds around the knapsack: linearise, solve, re-price the true network, linearise again where that led.

First over all blocks, with prices half-way to the last solution; then around the best choice found, moving less and
less far, until neither a round nor an exchange of blocks improves it. Every candidate is made true (`verify.fit`)
before it counts, and the best by predicted gain is kept.
"""

from __future__ import annotations

from energysplit.allocation.greedy import fill, top_k
from energysplit.allocation.knapsack import relax, solve_whole
from energysplit.allocation.linearise import halfway, linearise
from energysplit.allocation.problem import Blocks, Problem
from energysplit.allocation.verify import fit, improve

WIDE_ROUNDS = 4
ROUNDS = 10
_NEARER = 0.25


def search_milp(problem: Problem) -> tuple[Blocks, int]:
    """The best choice found by the mixed-integer knapsack, and the number of rounds.

    Never worse than `fill` from nothing or `top_k`: the rounds start from the better of the two.
    """
    best = _better(problem, fill(problem, problem.nothing), top_k(problem))
    anchor, rounds = best, 0
    while rounds < WIDE_ROUNDS:
        rounds += 1
        found = solve_whole(linearise(problem, halfway(problem, anchor), anchor))
        best = _better(problem, best, fit(problem, found))
        if found == anchor:
            break
        anchor = found
    reach = 1.0
    while rounds < ROUNDS:
        rounds += 1
        model = linearise(problem, problem.widths_at(best), best, reach)
        found = solve_whole(model)
        better = _better(problem, best, fit(problem, found))
        if better is best:
            # A solution that is its own anchor is one for every shorter reach too.
            if found == best or all(
                high - low <= 2 for low, high in zip(model.low.values(), model.high.values(), strict=True)
            ):
                break
            reach *= _NEARER
        best = better
    return improve(problem, best), rounds


def search_lp(problem: Problem) -> tuple[Blocks, int]:
    """The linear relaxation's choice, rounded down and filled, and the number of rounds.

    Source: Wang et al. 2019, arXiv 1910.03103; the rounds are ours.
    """
    best = anchor = problem.nothing
    rounds = 0
    while rounds < WIDE_ROUNDS:
        rounds += 1
        found = relax(linearise(problem, halfway(problem, anchor), anchor)).floor
        best = _better(problem, best, fit(problem, found))
        if found == anchor:
            break
        anchor = found
    return best, rounds


def _better(problem: Problem, best: Blocks, other: Blocks) -> Blocks:
    return other if problem.gain_at(other) > problem.gain_at(best) else best
