"""Allocation from beginning to end: problem, method, check, and what the linear relaxation says about the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from energysplit.allocation import by_chance
from energysplit.allocation.greedy import fill, top_k
from energysplit.allocation.problem import Blocks, Problem, build
from energysplit.allocation.search import Found, gap_to, relaxation_at, search_lp, search_milp
from energysplit.allocation.status import status
from energysplit.allocation.verify import check
from energysplit.errors import InputError, nearest
from energysplit.kinds import PAIR
from energysplit.types import BLIND, Allocation, Budget, GroupBound, Priceable, SplitIndex, check_traced

SEEKING = ("milp", "lp", "greedy", "top_k")
"""The methods that look for the largest gain."""
METHODS = (*SEEKING, *BLIND)


def allocate(
    net: Priceable,
    index: Mapping[str, SplitIndex],
    budgets: Sequence[Budget] | Budget,
    *,
    method: str = "milp",
    multiple_of: int | Mapping[str, int] = 1,
    weights: Mapping[str, float] | None = None,
    seed_price: Mapping[str, float] | None = None,
    risk: float = 0.0,
    mass: float = 1.0,
    bounds: Mapping[str, GroupBound] | None = None,
    seed: int = 0,
) -> Allocation:
    """The neurons to split: largest predicted gain with the re-priced network inside every budget.

    Only neurons whose index is below zero are split (or, where splits are signed, whose upper end is above zero), but
    for methods "random" and "cheapest". No further block of any group fits (a channel, or what `multiple_of` makes of
    it).

    Args:
        net: the network as it is.
        index: group -> splitting indices; groups left out are not split.
        budgets: at least one; several may share a provider.
        method: "milp" (whole-block knapsack and local search; every choice is tried where they are few), "lp" (the
            paper's relaxation, rounded down), "greedy" (best gain per true price, step by step), "top_k" (best index
            whatever it costs); and to compare with, whatever the indices are: "random" (neurons in a random order) or
            "cheapest" (as many neurons as the budgets hold, random ones of each group).
        multiple_of: a group that grows ends at a width that is a multiple of it; one number for all, or by group (1
            where missing).
        weights: group -> factor on its gains, 1 where missing; a group of weight 0 is not split.
        seed_price: budget or provider name -> price that "1.5x" of scope "network" multiplies; the present price
            where missing.
        risk: a neuron is split only if its index plus so many of its standard errors is below zero; no effect with
            "random" and "cheapest".
        mass: of signed splits (S3D, arXiv 2003.10392), which needs indices with an `upper` end: copies may have
            negative outgoing weights, of sizes that add up to `mass` times the neuron's. 1 for plain pairs.
        bounds: group name or pattern (`*`, `?`, `[...]`) -> how far it may grow.
        seed: of the random order.

    Returns:
        The allocation. `gap` is the relative distance to the bound of the linear relaxation with prices taken around
        this very allocation (each group's true profile, the others held). Where layers' prices don't multiply widths
        that bound holds for every choice; with products (MACs) it holds for that linear model only, and 0 means that
        no exchange at these prices improves the allocation. `shadow_price` are that relaxation's duals. With "random"
        and "cheapest" no gain was sought: both are NaN, and `predicted_gain` may be negative.

    Raises:
        InputError: an argument is out of range or names a group the network has not, or "random" or "cheapest" is
            given a mass.
        BudgetError: a budget can't be read or is below the present price.
        SolverFailed: the solver ended without an optimum.
        CheckFailed: the result would exceed a budget (a bug).
    """
    check_traced(net)
    order = None
    if method in BLIND:
        if mass > 1:
            raise InputError(
                f"method {method!r} with mass = {mass:g}: it chooses neurons, not kinds of signed splits; use mass=1"
            )
        order = by_chance.shuffled(net, index, seed)
    problem = build(
        net,
        index,
        [budgets] if isinstance(budgets, Budget | str) else list(budgets),
        multiple_of=multiple_of,
        weights=weights,
        seed_price=seed_price,
        risk=risk,
        mass=mass,
        bounds=bounds,
        order=None if order is None else by_chance.by_group(order),
    )
    if order is not None:
        if method == "random":
            found, how = Found(by_chance.take(problem, order)), "taken in a random order"
        else:
            found, how = _most(problem), "as many as were found to fit"
        return unbounded(problem, found.blocks, method, status(problem, found, f"{how}, whatever they bring"))
    return solve(problem, method)


def solve(problem: Problem, method: str = "milp") -> Allocation:
    """The allocation of a problem of neurons that pay; see `allocate`.

    Raises:
        InputError: an unknown method, or "random" or "cheapest", which are no answer to such a problem.
        SolverFailed: the solver ended without an optimum.
        CheckFailed: the result would exceed a budget (a bug).
    """
    if method not in METHODS:
        raise InputError(f"allocation method {method!r}: {nearest(str(method), METHODS)}")
    if method in BLIND:
        raise InputError(
            f"allocation method {method!r} takes neurons that don't pay too; give 'milp' here, or use allocate"
        )
    found = _choose(problem, method)
    check(problem, found.blocks)

    gap, shadow_price = 0.0, {limit.name: 0.0 for limit in problem.limits}
    if problem.ends:
        relaxation = found.relaxation or relaxation_at(problem, found.blocks)
        gap = gap_to(relaxation, problem.gain_at(found.blocks))
        shadow_price |= relaxation.shadow_price
    how = f"{gap:.2%} below the bound of the linear relaxation"
    return _allocation(problem, found, method, gap, shadow_price, status(problem, found, how))


def unbounded(problem: Problem, blocks: Blocks, method: str, text: str) -> Allocation:
    """The allocation of a choice that optimised nothing: there is no bound to be near to and no price of a limit.

    Raises:
        CheckFailed: the choice would exceed a budget (a bug).
    """
    check(problem, blocks)
    return _allocation(problem, Found(blocks), method, math.nan, {one.name: math.nan for one in problem.limits}, text)


def _most(problem: Problem) -> Found:
    """As many channels as the limits hold: the choice of largest gain where all neurons bring the same."""
    alike = {name: tuple(float(added) for added in ends) for name, ends in problem.ends.items()}
    return search_milp(replace(problem, gains=alike)) if problem.ends else Found({})


def _allocation(
    problem: Problem, found: Found, method: str, gap: float, shadow_price: dict[str, float], text: str
) -> Allocation:
    bought = problem.bought(found.blocks)
    return Allocation(
        split={name: sorted(neurons) for name, neurons in bought.items()},
        predicted_gain=problem.gain_at(found.blocks),
        price=problem.prices(found.blocks),
        limit={limit.name: limit.limit for limit in problem.limits},
        gap=gap,
        shadow_price=shadow_price,
        status=text,
        method=method,
        rounds=found.rounds,
        kinds=bought if problem.mass > 1 or any(set(each.values()) != {PAIR} for each in bought.values()) else {},
        mass=problem.mass,
    )


def _choose(problem: Problem, method: str) -> Found:
    if not problem.ends:
        return Found({})
    if method == "greedy":
        return Found(fill(problem, problem.nothing))
    if method == "top_k":
        return Found(top_k(problem))
    return search_milp(problem) if method == "milp" else search_lp(problem)
