"""The knapsack of a linear model, solved by CVXPY with HiGHS: in whole blocks, or relaxed to fractions of them.

One variable a block, x[g, j] in {0, 1} or [0, 1], ordered x[g, j + 1] <= x[g, j], so that the first block of a group
(which may fill up to a multiple) comes before the second. Prices are fractions of each budget's room and gains
fractions of the largest, so tolerances mean the same in MACs and in joules.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from energysplit.allocation.linearise import LinearModel
from energysplit.allocation.problem import Blocks
from energysplit.errors import SolverFailed

# HiGHS stops at this relative distance to its bound. No time limit: equal input must give equal output.
MIP_GAP = 1e-4

# A fraction above this is a whole block to the solver's tolerance.
_WHOLE = 1 - 1e-6


@dataclass(frozen=True)
class Relaxation:
    """The solution in fractions of blocks.

    floor: whole blocks, rounded down. bound: gain no choice of whole blocks can pass under the model's prices.
    shadow_price: budget name -> gain one more unit of the budget would bring (dual value; 0 where it does not bind).
    """

    floor: Blocks
    bound: float
    shadow_price: dict[str, float]


def solve_whole(model: LinearModel) -> Blocks:
    """The whole blocks of largest gain under the model's prices, within a relative `MIP_GAP`.

    Raises:
        SolverFailed: HiGHS ended with another status than optimal.
    """
    fractions, _, _ = _solve(model, boolean=True)
    return _counts(model, fractions, 0.5)


def relax(model: LinearModel) -> Relaxation:
    """The linear relaxation: its bound, its duals and its solution rounded down.

    Source: Wang et al. 2019, arXiv 1910.03103.

    Raises:
        SolverFailed: HiGHS ended with another status than optimal.
    """
    fractions, gain, duals = _solve(model, boolean=False)
    shadow_price: dict[str, float] = {}
    for (name, scale), dual in zip(model.rows, duals, strict=True):
        shadow_price[name] = shadow_price.get(name, 0.0) + float(dual) / scale
    return Relaxation(_counts(model, fractions, _WHOLE), model.fixed_gain + gain, shadow_price)


def _solve(model: LinearModel, *, boolean: bool) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Values of the variables, gain above the model's fixed gain, and a dual per row (zeros for whole blocks).

    Raises:
        SolverFailed: HiGHS ended with another status than optimal.
    """
    gains = np.concatenate(list(model.gains.values()))
    if gains.size == 0:
        return gains, 0.0, np.zeros(len(model.rows))
    largest = float(gains.max())
    variables = cvxpy.Variable(gains.size, boolean=True) if boolean else cvxpy.Variable(gains.size, bounds=[0, 1])
    constraints = []
    budget = None
    if model.rows:
        prices = sparse.csr_array(np.concatenate(list(model.prices.values()), axis=1))
        budget = prices @ variables <= model.room
        constraints.append(budget)
    order = _order(model)
    if order.shape[0]:
        constraints.append(order @ variables <= 0)
    problem = cvxpy.Problem(cvxpy.Maximize((gains / largest) @ variables), constraints)
    options = {"parallel": "off", "random_seed": 0} | ({"mip_rel_gap": MIP_GAP} if boolean else {})
    what = f"{'knapsack' if boolean else 'linear relaxation'} of {gains.size} blocks under {len(model.rows)} prices"
    try:
        problem.solve(solver=cvxpy.HIGHS, highs_options=options)
    except cvxpy.error.SolverError as error:
        raise SolverFailed(f"{what}: HiGHS failed ({error}); method='greedy' needs no solver") from error
    if problem.status != cvxpy.OPTIMAL or variables.value is None:
        raise SolverFailed(f"{what}: HiGHS ended with status {problem.status!r}; method='greedy' needs no solver")
    duals = np.zeros(len(model.rows))
    if budget is not None and not boolean:
        duals = np.maximum(np.atleast_1d(budget.dual_value), 0.0) * largest
    return np.asarray(variables.value), float(gains @ variables.value), duals


def _order(model: LinearModel) -> sparse.csr_array:
    """Rows x[g, j + 1] - x[g, j], over all groups."""
    first: list[int] = []
    place = 0
    for gains in model.gains.values():
        first.extend(range(place, place + len(gains) - 1))
        place += len(gains)
    number = np.arange(len(first))
    data = np.concatenate([-np.ones(len(first)), np.ones(len(first))])
    columns = np.concatenate([first, np.array(first) + 1]).astype(int)
    return sparse.csr_array((data, (np.concatenate([number, number]), columns)), shape=(len(first), place))


def _counts(model: LinearModel, fractions: NDArray[np.float64], threshold: float) -> Blocks:
    counts, place = {}, 0
    for name, gains in model.gains.items():
        counts[name] = model.low[name] + int(np.sum(fractions[place : place + len(gains)] > threshold))
        place += len(gains)
    return counts
