"""The relaxation over a pool of columns is that over all of them, and whole blocks lose nothing by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import linprog

from energysplit.allocation import allocate, knapsack
from energysplit.allocation.greedy import fill
from energysplit.allocation.knapsack import relax, solve_whole
from energysplit.allocation.linearise import LinearModel, linearise
from energysplit.allocation.problem import Problem, build
from energysplit.allocation.verify import shrink
from energysplit.types import Budget, Cost, LayerCase


def model_of(net, index, budgets: list[Budget]) -> tuple[Problem, LinearModel]:
    problem = build(net, index, budgets)
    return problem, linearise(problem, problem.widths, problem.nothing)


def best_fractions(model: LinearModel) -> tuple[float, np.ndarray]:
    """Optimum and duals of the relaxation over all columns, by scipy."""
    groups = np.zeros((len(model.groups), len(model.gain)))
    groups[model.group_of, np.arange(len(model.gain))] = 1
    found = linprog(
        -model.gain,
        A_ub=model.matrix.toarray(),
        b_ub=model.room,
        A_eq=groups,
        b_eq=np.ones(len(groups)),
        method="highs",
    )
    return -found.fun, -found.ineqlin.marginals


THREE = [Budget("macs", "1.3x"), Budget("params", "1.2x"), Budget("peak_memory", "1.4x")]


@pytest.mark.parametrize("few", [1000, 0], ids=["all columns at once", "columns as they pay"])
def test_the_relaxation_is_that_over_all_columns(
    few: int, chain: Callable, indices: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knapsack, "_FEW", few)
    for seed in range(8):
        net = chain([20 + 3 * seed, 30, 25, 40], bool(seed % 2))
        _, model = model_of(net, indices(net, seed), THREE)
        found = relax(model)
        value, duals = best_fractions(model)
        assert found.bound == pytest.approx(value, rel=1e-6)
        assert found.bound >= value * (1 - 1e-12), "a bound in any case"
        # The duals are those of a best solution: they give the bound by themselves.
        assert (np.array(found.penalty) >= 0).all()
        assert len(found.penalty) == len(model.gain)
        by_budget = dict.fromkeys(found.shadow_price, 0.0)
        for (name, scale), dual in zip(model.rows, duals, strict=True):
            by_budget[name] += dual / scale
        assert sum(found.shadow_price.values()) > 0
        for name, slope in found.shadow_price.items():
            assert slope == pytest.approx(by_budget[name], rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("few", [3000, 10], ids=["all columns", "some columns"])
def test_whole_blocks_against_every_choice(
    few: int, chain: Callable, indices: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knapsack, "_FEW_WHOLE", few)
    for seed in range(10):
        net = chain([6, 7, 5], bool(seed % 2))
        problem, model = model_of(net, indices(net, seed), THREE[:2])
        found = solve_whole(model, relax(model))
        columns = [range(a, b) for a, b in itertools.pairwise(model.start)]
        prices, best = model.matrix.toarray(), 0.0
        for chosen in itertools.product(*columns):
            if (prices[:, chosen].sum(1) <= model.room + 1e-9).all():
                best = max(best, float(model.gain[list(chosen)].sum()))
        assert problem.gain_at(found) >= best * (1 - 2 * knapsack.MIP_GAP)


def test_the_penalty_is_what_a_column_costs_at_least(chain: Callable, indices: Callable) -> None:
    net = chain([5, 6, 4])
    _, model = model_of(net, indices(net, 1), THREE[:2])
    found = relax(model)
    columns = [range(a, b) for a, b in itertools.pairwise(model.start)]
    prices = model.matrix.toarray()
    best_with = np.full(len(model.gain), -np.inf)
    for chosen in itertools.product(*columns):
        if (prices[:, chosen].sum(1) <= model.room).all():
            gain = float(model.gain[list(chosen)].sum())
            best_with[list(chosen)] = np.maximum(best_with[list(chosen)], gain)
    assert (best_with <= found.bound - found.penalty + 1e-9).all()
    assert (found.penalty > 0).any()


class Falls:
    """Made-up kernels that are much cheaper at multiples of four."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        slow = 3.0 if case.out_channels % 4 else 1.0
        return Cost.exact(slow * case.out_channels * case.out_size[0], self.unit, "estimated")


@pytest.mark.parametrize(("few", "whole"), [(0, 3000), (1000, 4), (0, 4)])
def test_pools_hold_a_choice_that_fits_though_prices_fall(
    few: int, whole: int, chain: Callable, indices: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knapsack, "_FEW", few)
    monkeypatch.setattr(knapsack, "_FEW_WHOLE", whole)
    for seed in range(25):
        net = chain([14, 17, 12, 20], bool(seed % 2))
        problem = build(net, indices(net, seed), [Budget(Falls(), "1.05x"), Budget("macs", "1.2x")])
        anchor = fill(problem, problem.nothing)
        for reach in (1.0, 0.25, 0.1):
            model = linearise(problem, problem.widths_at(anchor), anchor, reach)
            found = solve_whole(model, relax(model))
            # The anchor is a choice of the model, so the best is no worse.
            assert problem.gain_at(found) >= problem.gain_at(anchor) * (1 - 2 * knapsack.MIP_GAP)


def test_a_group_that_no_budget_charges(chain: Callable, indices: Callable) -> None:
    class First:
        """A maximum that only the first layer has a part in."""

        unit, combine = "B", "max"

        def price(self, case: LayerCase) -> Cost:
            return Cost.exact(case.out_channels if case.in_channels == 3 else 0, self.unit)

    net = chain([6, 5, 4])
    found = allocate(net, indices(net, 0), [Budget(First(), "1.4x")])
    good = {name: int((one.value < 0).sum()) for name, one in indices(net, 0).items()}
    assert len(found.split["conv0"]) == min(2, good["conv0"])
    assert [len(found.split[name]) for name in ("conv1", "conv2")] == [good["conv1"], good["conv2"]]


def test_shrinking_under_a_maximum_that_several_layers_share(chain: Callable, indices: Callable) -> None:
    class Widest:
        unit, combine = "channel", "max"

        def price(self, case: LayerCase) -> Cost:
            return Cost.exact(case.out_channels, self.unit)

    net = chain([10, 10, 10])
    index = indices(net, 0, {name: [-1.0 - i / 10 for i in range(10)] for name in ("conv0", "conv1", "conv2")})
    problem = build(net, index, [Budget(Widest(), 14.0)])
    assert shrink(problem, {"conv0": 9, "conv1": 9, "conv2": 3}) == {"conv0": 4, "conv1": 4, "conv2": 3}
