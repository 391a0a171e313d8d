"""The multiple-choice knapsack of a linear model, solved by CVXPY with HiGHS: relaxed to fractions, or in whole blocks.

One variable a group and number of blocks, y[g, n] in {0, 1} or [0, 1], sum over n of y[g, n] = 1. Prices are fractions
of each budget's room and gains fractions of the largest, so tolerances mean the same in MACs and in joules.

Networks have many more columns than matter. The relaxation is solved over a pool of them, and every column that its
duals would pay for joins the pool, until none is left out that could (column generation, Gilmore and Gomory 1961); its
bound holds for all columns. A column whose reduced gain is so far below the best of its group that taking it would cost
more than the gap to a known choice can't be in a better one, so whole blocks are searched among the others only
(reduced-cost fixing); that loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from energysplit.allocation.linearise import Array, LinearModel
from energysplit.allocation.problem import Blocks
from energysplit.errors import SolverFailed

# HiGHS stops at this relative distance to its bound. No time limit: equal input must give equal output.
MIP_GAP = 1e-4

# Columns up to which all are in the pool from the start, and up to which whole blocks are searched among all.
_FEW, _FEW_WHOLE = 1000, 3000
# Of a group, in a larger problem: places spread evenly that are in the pool at the start. Few: 3 took a fifth of the
# time that 12 took (1,000 groups of 100 neurons), as the duals soon say which other columns matter.
_SPREAD = 3
# Relative distance of the pool's optimum to the bound over all columns at which no more columns are looked for.
_CLOSED = 1e-7
_MOST_ROUNDS = 60

Columns = NDArray[np.int64]


@dataclass(frozen=True)
class Relaxation:
    """The solution in fractions.

    floor: whole blocks, rounded down. bound: gain no choice can pass under the model's prices. shadow_price: budget
    name -> gain one more unit of the budget would bring (dual value; 0 where it does not bind). penalty: shape
    (columns,), what taking a column instead of its group's best costs at least, in gain.
    """

    floor: Blocks
    bound: float
    shadow_price: dict[str, float]
    penalty: Array


def relax(model: LinearModel) -> Relaxation:
    """The linear relaxation: its bound, its duals and its solution rounded down.

    Source: Wang et al. 2019, arXiv 1910.03103, with numbers of blocks in place of neurons.

    Raises:
        SolverFailed: HiGHS ended with another status than optimal.
    """
    pool = _first_pool(model)
    group_of = model.group_of
    first, length = model.start[:-1], len(model.groups)
    for _ in range(_MOST_ROUNDS):
        columns = np.flatnonzero(pool)
        fractions, value, duals = _solve(model, columns, boolean=False)
        reduced = model.gain - model.matrix.T @ duals
        best = np.maximum.reduceat(reduced, first)
        bound = float(duals @ model.room + best.sum())
        new = np.array([int(np.argmax(reduced[a:b])) + a for a, b in zip(first, model.start[1:], strict=True)])
        if bound - value <= _CLOSED * max(abs(bound), 1e-300) or pool[new].all():
            break
        pool[new] = True
    penalty = best[group_of] - reduced
    shadow_price: dict[str, float] = {}
    for (name, scale), dual in zip(model.rows, duals, strict=True):
        shadow_price[name] = shadow_price.get(name, 0.0) + float(dual) / scale
    floor = np.full(length, np.iinfo(np.int64).max)
    taken = columns[fractions > 1e-6]
    np.minimum.at(floor, group_of[taken], taken)
    return Relaxation(model.blocks(floor), bound, shadow_price, np.maximum(penalty, 0.0))


def solve_whole(model: LinearModel, relaxation: Relaxation) -> Blocks:
    """The whole blocks of largest gain under the model's prices, within a relative `MIP_GAP`.

    Args:
        model: the linear model.
        relaxation: of the same model.

    Raises:
        SolverFailed: HiGHS ended with another status than optimal.
    """
    penalty = relaxation.penalty.copy()
    penalty[_always(model)] = 0.0
    order = np.sort(penalty)
    within = float(order[min(len(order), max(_FEW_WHOLE, 3 * len(model.groups))) - 1])
    while True:
        columns = np.flatnonzero(penalty <= within)
        fractions, value, _ = _solve(model, columns, boolean=True)
        gap = relaxation.bound - value
        if gap <= within or len(columns) == len(penalty):
            taken = columns[fractions > 0.5]
            return model.blocks(taken)
        within = gap


def _always(model: LinearModel) -> Columns:
    """Columns that are in every pool: the first of each group and the anchor's, of which one choice or other fits."""
    return np.concatenate([model.start[:-1], model.anchor])


def _first_pool(model: LinearModel) -> NDArray[np.bool_]:
    """Columns to begin with: all, or some of each group."""
    pool = np.ones(len(model.gain), dtype=bool)
    if len(pool) > _FEW:
        pool[:] = False
        pool[_always(model)] = True
        for a, b in zip(model.start[:-1], model.start[1:], strict=True):
            pool[np.linspace(a, b - 1, min(_SPREAD, b - a)).round().astype(int)] = True
    return pool


def _solve(model: LinearModel, columns: Columns, *, boolean: bool) -> tuple[Array, float, Array]:
    """Values of the columns' variables, gain, and a dual per row (zeros for whole blocks).

    Raises:
        SolverFailed: HiGHS ended with another status than optimal.
    """
    gains = model.gain[columns]
    largest = float(gains.max()) or 1.0
    groups = sparse.csr_array(
        (np.ones(len(columns)), (model.group_of[columns], np.arange(len(columns)))),
        shape=(len(model.groups), len(columns)),
    )
    variables = cvxpy.Variable(len(columns), boolean=True) if boolean else cvxpy.Variable(len(columns), nonneg=True)
    constraints = [groups @ variables == 1]
    if model.rows:
        constraints.append(model.matrix[:, columns] @ variables <= model.room)
    problem = cvxpy.Problem(cvxpy.Maximize((gains / largest) @ variables), constraints)
    options: dict[str, object] = {"parallel": "off", "random_seed": 0}
    if boolean:
        options["mip_rel_gap"] = MIP_GAP
    kind = "knapsack" if boolean else "linear relaxation"
    what = f"{kind} of {len(columns)} choices in {len(model.groups)} groups under {len(model.rows)} prices"
    try:
        problem.solve(solver=cvxpy.HIGHS, highs_options=options)
    except cvxpy.error.SolverError as error:
        raise SolverFailed(f"{what}: HiGHS failed ({error}); method='greedy' needs no solver") from error
    if problem.status != cvxpy.OPTIMAL or variables.value is None:
        raise SolverFailed(f"{what}: HiGHS ended with status {problem.status!r}; method='greedy' needs no solver")
    duals = np.zeros(len(model.rows))
    if model.rows and not boolean:
        duals = np.maximum(np.atleast_1d(constraints[1].dual_value), 0.0) * largest
    fractions = np.asarray(variables.value, dtype=np.float64)
    return fractions, float(gains @ fractions), duals
