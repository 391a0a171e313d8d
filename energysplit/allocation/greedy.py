"""Step by step with true prices: the best block for its price first (`fill`), or the best index first (`top_k`).

Each step re-prices the whole network. A group's marginal prices change only when a group it shares a layer with has
grown, so the others' are kept; what is bought is always priced afresh first.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from energysplit.allocation.problem import Blocks, Problem


def merit(gain: float, relative_price: float) -> tuple[float, float]:
    """The sort key of a block: gain per relative price, then gain. What costs nothing comes before all else."""
    return (gain / relative_price if relative_price > 0 else math.inf, gain)


def relative_price(problem: Problem, before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """A price difference summed over budgets, each as a fraction of its room; what gets cheaper counts as free."""
    return math.fsum(
        max(new - old, 0.0) / limit.scale for limit, old, new in zip(problem.limits, before, after, strict=True)
    )


def changed(blocks: Blocks, group: str, by: int) -> Blocks:
    """The choice with `by` more blocks in `group`."""
    return {**blocks, group: blocks[group] + by}


def fill(problem: Problem, start: Blocks, closed: Collection[str] = ()) -> Blocks:
    """`start` with blocks added, best gain per relative price first, until no block of any group fits.

    Args:
        problem: the allocation problem.
        start: a choice inside every budget.
        closed: groups to add nothing to.
    """
    blocks, values = dict(start), problem.values(start)
    known: dict[str, tuple[float, ...]] = {}
    retried = False
    while True:
        best: tuple[tuple[float, float], str] | None = None
        for name in problem.order:
            if name in closed or blocks[name] == problem.most(name):
                continue
            if name in known:
                after = tuple(old + step for old, step in zip(values, known[name], strict=True))
            else:
                after = problem.values(changed(blocks, name, 1))
                known[name] = tuple(new - old for new, old in zip(after, values, strict=True))
            if any(new > limit.limit for new, limit in zip(after, problem.limits, strict=True)):
                continue
            key = merit(problem.block_gain(name, blocks[name]), relative_price(problem, values, after))
            if best is None or key > best[0]:
                best = (key, name)
        if best is None:
            if retried:
                return blocks
            # Kept differences carry rounding; the last word has a round of fresh ones.
            known, retried = {}, True
            continue
        name = best[1]
        after = problem.values(changed(blocks, name, 1))
        if any(new > limit.limit for new, limit in zip(after, problem.limits, strict=True)):
            # The kept difference was too good; this one can't be chosen until something next to it grows.
            known[name] = (math.inf,) * len(after)
            continue
        blocks[name] += 1
        values = after
        retried = False
        for neighbour in problem.neighbours[name]:
            known.pop(neighbour, None)


def top_k(problem: Problem) -> Blocks:
    """The blocks of best mean index, whatever they cost, up to the first that does not fit; then `fill`.

    Source: Wu et al. 2019, arXiv 1910.02366 (splitting steepest descent).
    """
    ranked = sorted(
        (
            (-problem.block_gain(name, number) / (ends[number + 1] - ends[number]), place, name, number)
            for place, (name, ends) in enumerate(problem.ends.items())
            for number in range(len(ends) - 1)
        ),
    )
    blocks = problem.nothing
    for _, _, name, number in ranked:
        # Blocks of a group rank in order up to rounding of their means; `max` keeps a swapped pair whole.
        wanted = {**blocks, name: max(blocks[name], number + 1)}
        if not problem.within(wanted):
            break
        blocks = wanted
    return fill(problem, blocks)
