"""Makes a choice true: the whole network re-priced, blocks dropped until it fits, blocks added until none fits.

Nothing leaves the allocator without `check`. A budget is never exceeded by the re-priced network.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from energysplit.allocation.greedy import changed, fill, merit
from energysplit.allocation.problem import Blocks, Problem
from energysplit.costs import amount
from energysplit.errors import CheckFailed

# Passes of `improve`; each costs some 4 x groups x groups whole-network prices.
_PASSES = 10
_BETTER = 1e-9


def shrink(problem: Problem, start: Blocks, closed: Collection[str] = ()) -> Blocks | None:
    """`start` with blocks dropped, least gain per relative price first, until inside every budget.

    Only the budgets that are passed count as a price. Returns None if all but the `closed` groups' blocks are dropped
    and it still does not fit.
    """
    blocks, values = dict(start), problem.values(start)
    known: dict[str, tuple[float, ...]] = {}
    while any(value > limit.limit for value, limit in zip(values, problem.limits, strict=True)):
        worst: tuple[tuple[float, float], str] | None = None
        for name, count in blocks.items():
            if count == 0 or name in closed:
                continue
            if name not in known:
                after = problem.values(changed(blocks, name, -1))
                known[name] = tuple(old - new for old, new in zip(values, after, strict=True))
            saved = math.fsum(
                max(step, 0.0) / limit.scale
                for step, value, limit in zip(known[name], values, problem.limits, strict=True)
                if value > limit.limit
            )
            key = merit(problem.block_gain(name, count - 1), saved)
            if worst is None or key < worst[0]:
                worst = (key, name)
        if worst is None:
            return None
        name = worst[1]
        blocks[name] -= 1
        values = problem.values(blocks)
        for neighbour in problem.neighbours[name]:
            known.pop(neighbour, None)
    return blocks


def fit(problem: Problem, blocks: Blocks) -> Blocks:
    """The choice made true: shrunk into every budget, then filled until no further block fits."""
    inside = shrink(problem, blocks)
    # Buying nothing is inside every budget (checked when budgets are resolved), so shrinking everything succeeds.
    return fill(problem, problem.nothing if inside is None else inside)


def improve(problem: Problem, start: Blocks) -> Blocks:
    """A choice of at least the gain of `start`, by forcing one block in or out and repairing around it.

    Forced in: the others shrink until it fits. Forced out: the others fill the room. Repeated until nothing helps.
    """
    best, gain = start, problem.gain_at(start)
    for _ in range(_PASSES):
        before = gain
        for name in problem.order:
            for by in (1, -1):
                if not 0 <= best[name] + by <= problem.most(name):
                    continue
                trial = shrink(problem, changed(best, name, by), closed=(name,))
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
