"""Step by step with true prices: the best block for its price first (`fill`), or the best index first (`top_k`).

What a block costs is asked of the ledger when it is about to be bought; keys that went stale are computed again then.
Where prices have steps, a longer step may be the cheaper one, so that those that end at aligned widths are tried too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from energysplit.allocation.lazy_queue import Keyed, LazyQueue
from energysplit.allocation.problem import Blocks, Problem

_ALIGNED = (4, 8, 16, 32)


def ratio(gain: float, relative_price: float) -> float:
    """Gain per relative price; what costs nothing comes before all else."""
    return gain / relative_price if relative_price > 0 else math.inf


def relative_price(problem: Problem, before: Sequence[float], after: Sequence[float]) -> float:
    """A price difference summed over budgets, each as a fraction of its room; what gets cheaper counts as free."""
    return math.fsum(
        max(new - old, 0.0) / limit.scale for limit, old, new in zip(problem.limits, before, after, strict=True)
    )


def steps(problem: Problem, group: str, count: int, sign: int) -> list[int]:
    """Numbers of blocks to go to from `count`: the next one up (1) or down (-1), and the next of aligned widths."""
    end = problem.most(group) if sign > 0 else 0
    if count == end:
        return []
    found = [count + sign]
    if group in problem.stepped:
        for multiple in _ALIGNED:
            place = found[-1]
            while problem.width(group, place) % multiple and place != end:
                place += sign
            if place != found[-1]:
                found.append(place)
    return found


def fill(problem: Problem, start: Blocks, closed: Collection[str] = ()) -> Blocks:
    """`start` with blocks added, best gain per relative price first, until no block of any group fits.

    Args:
        problem: the allocation problem.
        start: a choice inside every budget.
        closed: groups to add nothing to.
    """
    blocks, ledger = dict(start), problem.ledger(start)
    limits = [limit.limit for limit in problem.limits]

    def key(name: str) -> Keyed | None:
        best: Keyed | None = None
        count = blocks[name]
        for target in steps(problem, name, count, 1):
            after = ledger.after(name, problem.width(name, target))
            if any(value > limit for value, limit in zip(after, limits, strict=True)):
                continue
            gain = problem.gains[name][target] - problem.gains[name][count]
            found = (-ratio(gain, relative_price(problem, ledger.values, after)), -gain), target
            best = found if best is None or found < best else best
        return best

    queue = LazyQueue([name for name in problem.ends if name not in closed], key)
    swept = True
    while True:
        found = queue.pop()
        if found is None:
            if swept:
                return blocks
            # What did not fit before may fit now, where a price fell.
            queue, swept = LazyQueue([name for name in problem.ends if name not in closed], key), True
            continue
        name, blocks[found[0]] = found
        ledger.set(name, problem.width(name, blocks[name]))
        swept = False
        for neighbour in problem.neighbours[name]:
            queue.refresh(neighbour)


def top_k(problem: Problem) -> Blocks:
    """The blocks of best mean index, whatever they cost, up to the first that does not fit; then `fill`.

    Source: Wu et al. 2019, arXiv 1910.02366 (splitting steepest descent).
    """
    ranked = sorted(
        (-(problem.gains[name][number + 1] - problem.gains[name][number]) / (ends[number + 1] - ends[number]), place,
         name, number)
        for place, (name, ends) in enumerate(problem.ends.items())
        for number in range(len(ends) - 1)
    )  # fmt: skip
    blocks = problem.nothing
    ledger = problem.ledger(blocks)
    for _, _, name, number in ranked:
        # Blocks of a group need not rank in order (rounding, signed splits); `max` keeps what comes first whole.
        wanted = max(blocks[name], number + 1)
        after = ledger.after(name, problem.width(name, wanted))
        if any(value > limit.limit for value, limit in zip(after, problem.limits, strict=True)):
            break
        blocks[name] = wanted
        ledger.set(name, problem.width(name, wanted))
    return fill(problem, blocks)
