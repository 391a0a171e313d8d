"""Allocation from beginning to end: problem, method, check, and what the linear relaxation says about the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from energysplit.allocation.greedy import fill, top_k
from energysplit.allocation.knapsack import relax
from energysplit.allocation.linearise import linearise
from energysplit.allocation.problem import Blocks, Problem, build
from energysplit.allocation.search import search_lp, search_milp
from energysplit.allocation.verify import check
from energysplit.costs import amount
from energysplit.errors import InputError, nearest
from energysplit.types import Allocation, Budget, Priceable, SplitIndex

METHODS = ("milp", "lp", "greedy", "top_k")


def allocate(
    net: Priceable,
    index: Mapping[str, SplitIndex],
    budgets: Sequence[Budget] | Budget,
    *,
    method: str = "milp",
    multiple_of: int | Mapping[str, int] = 1,
    weights: Mapping[str, float] | None = None,
    seed_price: Mapping[str, float] | None = None,
) -> Allocation:
    """The neurons to split: largest predicted gain with the re-priced network inside every budget.

    Only neurons with an index below zero are split. No further block of any group fits (a neuron, or what
    `multiple_of` makes of it).

    Args:
        net: the network as it is.
        index: group -> splitting indices; groups left out are not split.
        budgets: at least one; several may share a provider.
        method: "milp" (whole-block knapsack and local search, never below "greedy" or "top_k"), "lp" (the paper's
            relaxation, rounded down), "greedy" (best gain per true price, step by step) or "top_k" (best index
            whatever it costs).
        multiple_of: a group that grows ends at a width that is a multiple of it; one number for all, or by group (1
            where missing).
        weights: group -> factor on its gains, 1 where missing.
        seed_price: budget or provider name -> price that "1.5x" of scope "network" multiplies; the present price
            where missing.

    Returns:
        The allocation. `gap` is the relative distance to the bound of the linear relaxation with prices taken around
        this very allocation (each group's true profile, the others held). Where layers' prices don't multiply widths
        that bound holds for every choice; with products (MACs) it holds for that linear model only, and 0 means that
        no exchange at these prices improves the allocation. `shadow_price` are that relaxation's duals.

    Raises:
        InputError: an argument is out of range or names a group the network has not.
        BudgetError: a budget can't be read or is below the present price.
        SolverFailed: the solver ended without an optimum.
        CheckFailed: the result would exceed a budget (a bug).
    """
    if method not in METHODS:
        raise InputError(f"allocation method {method!r}: {nearest(str(method), METHODS)}")
    listed = [budgets] if isinstance(budgets, Budget) else list(budgets)
    problem = build(net, index, listed, multiple_of=multiple_of, weights=weights, seed_price=seed_price)
    blocks, rounds = _choose(problem, method)
    check(problem, blocks)

    gain = problem.gain_at(blocks)
    gap, shadow_price = 0.0, {limit.name: 0.0 for limit in problem.limits}
    if problem.order:
        relaxation = relax(linearise(problem, problem.widths_at(blocks), blocks))
        shadow_price |= relaxation.shadow_price
        # The allocation itself is a solution of this relaxation, so a bound below its gain is the solver's rounding.
        gap = max(0.0, 1 - gain / relaxation.bound) if relaxation.bound > 0 else 0.0
    return Allocation(
        split=problem.split(blocks),
        predicted_gain=gain,
        price=problem.prices(blocks),
        limit={limit.name: limit.limit for limit in problem.limits},
        gap=gap,
        shadow_price=shadow_price,
        status=_status(problem, blocks, gap),
        method=method,
        rounds=rounds,
    )


def _choose(problem: Problem, method: str) -> tuple[Blocks, int]:
    if not problem.order:
        return problem.nothing, 0
    if method == "greedy":
        return fill(problem, problem.nothing), 0
    if method == "top_k":
        return top_k(problem), 0
    return search_milp(problem) if method == "milp" else search_lp(problem)


def _status(problem: Problem, blocks: Blocks, gap: float) -> str:
    """What happened, in a sentence or two."""
    unknown = f" Left out for an unknown (NaN) index: {_count(problem.unknown, 'neuron')}." if problem.unknown else ""
    if problem.unmeasured:
        names = ", ".join(map(repr, problem.unmeasured))
        unknown += f" Not wider than measured: {names}; {next(iter(problem.unmeasured.values()))}."
    multiple = " or ".join(str(number) for number in sorted(set(problem.multiples.values())))
    if not problem.order:
        if problem.short:
            return (
                f"Nothing to split: no group has enough neurons with an index below zero to end at a multiple of "
                f"{multiple}.{unknown}"
            )
        if problem.unmeasured:
            return f"Nothing to split inside what was measured.{unknown}"
        return f"Nothing to split: no neuron of a splittable group has an index below zero.{unknown}"
    used = ", ".join(
        f"{limit.name!r} at {amount(price.value, price.unit)} of {amount(limit.limit, price.unit)}"
        for limit, price in zip(problem.limits, problem.prices(blocks).values(), strict=True)
    )
    step = "neuron" if multiple == "1" else f"block up to a multiple of {multiple}"
    neurons = sum(problem.ends[name][count] for name, count in blocks.items())
    if neurons == 0:
        return f"Nothing fits: splitting one more {step} of any group would exceed a budget ({used}).{unknown}"
    groups = sum(count > 0 for count in blocks.values())
    rest = (
        "every neuron worth splitting is split"
        if all(count == problem.most(name) for name, count in blocks.items())
        else f"no further {step} fits"
    )
    return (
        f"{_count(neurons, 'neuron')} of {_count(groups, 'group')} to be split, {used}; {rest}; "
        f"{gap:.2%} below the bound of the linear relaxation.{unknown}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
