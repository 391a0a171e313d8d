"""Makes a choice true: the whole network re-priced, blocks dropped until it fits, blocks added until none fits.

Nothing leaves the allocator without `check`. A budget is never exceeded by the re-priced network.
"""

from __future__ import annotations

from collections.abc import Collection

from energysplit.allocation.greedy import fill, ratio, steps
from energysplit.allocation.lazy_queue import Keyed, LazyQueue
from energysplit.allocation.problem import Blocks, Problem
from energysplit.costs import amount
from energysplit.errors import CheckFailed

# Passes of `improve`, and groups up to which it is tried; each pass prices some 4 x groups x groups blocks.
_PASSES = 10
_MOST_GROUPS = 150
_BETTER = 1e-9


def shrink(problem: Problem, start: Blocks, closed: Collection[str] = ()) -> Blocks | None:
    """`start` with blocks dropped, least gain per relative price first, until inside every budget.

    Only the budgets that are passed count as a price. Returns None if all but the `closed` groups' blocks are dropped
    and it still does not fit.
    """
    blocks, ledger = dict(start), problem.ledger(start)

    def key(name: str) -> Keyed | None:
        best: Keyed | None = None
        count = blocks[name]
        for target in steps(problem, name, count, -1):
            saved = ledger.saved(name, problem.width(name, target))
            lost = problem.gains[name][count] - problem.gains[name][target]
            found = (ratio(lost, saved), lost), target
            best = found if best is None or found < best else best
        return best

    queue = LazyQueue([name for name in problem.ends if name not in closed], key)
    while not ledger.inside():
        found = queue.pop()
        if found is None:
            return None
        name, blocks[found[0]] = found
        ledger.set(name, problem.width(name, blocks[name]))
        for neighbour in problem.neighbours[name]:
            queue.refresh(neighbour)
    return blocks


def fit(problem: Problem, blocks: Blocks) -> Blocks:
    """The choice made true: shrunk into every budget, then filled until no further block fits."""
    inside = shrink(problem, blocks)
    # Buying nothing is inside every budget: that was checked when budgets were resolved.
    assert inside is not None
    return fill(problem, inside)


def improve(problem: Problem, start: Blocks) -> Blocks:
    """A choice of at least the gain of `start`, by forcing one block in or out and repairing around it.

    Forced in: the others shrink until it fits. Forced out: the others fill the room. Repeated until nothing helps.
    """
    best, gain = start, problem.gain_at(start)
    for _ in range(_PASSES if len(problem.ends) <= _MOST_GROUPS else 0):
        before = gain
        for name in problem.ends:
            for by in (1, -1):
                if not 0 <= best[name] + by <= problem.most(name):
                    continue
                trial = shrink(problem, {**best, name: best[name] + by}, closed=(name,))
                if trial is None:
                    continue
                trial = fill(problem, fill(problem, trial, closed=(name,)))
                if problem.gain_at(trial) > gain * (1 + _BETTER):
                    best, gain = trial, problem.gain_at(trial)
        if gain <= before:
            break
    return best


def check(problem: Problem, blocks: Blocks) -> None:
    """Returns if the network with `blocks`, priced afresh, is inside every budget.

    Raises:
        CheckFailed: it is not; the allocator has a bug.
    """
    for limit in problem.limits:
        price = limit.pricer.price(problem.widths_at(blocks))
        if price.value > limit.limit:
            raise CheckFailed(
                f"budget {limit.name!r}: the allocation costs {amount(price.value, price.unit)}, more than its "
                f"limit of {amount(limit.limit, price.unit)}; nothing was split. Please report this network and budget"
            )
