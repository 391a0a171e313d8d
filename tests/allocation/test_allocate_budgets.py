"""Budgets: names, limits made absolute, and what is said about those that can't be met or read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from energysplit.allocation import allocate, budget_names
from energysplit.allocation.budgets import resolve
from energysplit.costs import cost_provider, price
from energysplit.errors import BudgetError, InputError
from energysplit.types import Budget, Cost, LayerCase


class Channels:
    """A provider nobody registered."""

    unit = "channel"

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(case.out_channels, self.unit)


def test_names() -> None:
    assert budget_names([Budget(cost_provider("macs"), 1.0), Budget(Channels(), 1.0)]) == ["macs", "Channels"]
    twice = [Budget("macs", "2x", "stage"), Budget("macs", "2x"), Budget("params", 1.0)]
    assert budget_names(twice) == ["macs:stage", "macs:network", "params"]
    assert budget_names([Budget("macs", "2x"), Budget("macs", "3x")]) == ["macs:network#1", "macs:network#2"]


def test_relative_limits(chain: Callable) -> None:
    net = chain([4, 5])
    present = price(net, "macs").value

    def limit(*budgets: Budget, seed_price: dict[str, float] | None = None) -> list[float]:
        return [found.limit for found in resolve(net, budgets, seed_price)]

    stage, network = Budget("macs", "1.5x", "stage"), Budget("macs", " 4 x", "network")
    assert limit(stage) == [1.5 * present]
    assert limit(network) == [4 * present], "without a seed price, the present network is the seed"
    assert limit(stage, network, seed_price={"macs": present / 2}) == [1.5 * present, 2 * present]
    assert limit(stage, network, seed_price={"macs:network": present / 4}) == [1.5 * present, present]
    assert limit(Budget("macs", present)) == [present]


def test_the_tighter_scope_counts_and_both_are_reported(chain: Callable, indices: Callable) -> None:
    net = chain([6, 6, 6])
    seed = {"macs": price(net, "macs").value / 2}
    both = [Budget("macs", "1.8x", "stage"), Budget("macs", "2.4x", "network")]
    found = allocate(net, indices(net, 0), both, seed_price=seed)
    assert set(found.limit) == set(found.price) == set(found.shadow_price) == {"macs:stage", "macs:network"}
    assert found.limit["macs:network"] < found.limit["macs:stage"]
    assert found.price["macs:stage"].value <= found.limit["macs:network"]
    assert found.shadow_price["macs:stage"] == 0 < found.shadow_price["macs:network"]
    alone = allocate(net, indices(net, 0), both[1], seed_price=seed)
    assert found.split == alone.split


def test_below_the_present_price(chain: Callable, indices: Callable) -> None:
    net = chain([8])
    params = price(net, "params").value
    assert params == 8 * 27 + 16 + 8 * 256 * 10 + 10
    with pytest.raises(
        BudgetError,
        match=r"budget 'params': the limit of 20,000 param is below the price of the network as it is, 20,722 param, "
        r"by 722 param \(3\.6%\); raise the limit",
    ):
        allocate(net, indices(net, 0), [Budget("params", 20_000)])
    with pytest.raises(BudgetError, match=r"the limit of 10,361 param is below"):
        allocate(net, indices(net, 0), [Budget("params", "0.5x", "stage")])
    with pytest.raises(BudgetError, match=r"the limit of 0 param is below .* by 20,722 param; raise"):
        allocate(net, indices(net, 0), [Budget("params", 0)])


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (float("nan"), r"budget 'macs': limit nan is not a finite number of at least 0; expected a number in MAC"),
        (float("inf"), r"limit inf is not a finite number"),
        (-1.0, r"limit -1\.0 is not a finite number of at least 0"),
        ("1.5", r"limit '1\.5' can't be read; expected a number in MAC, such as 1\.5e8, or a factor such as '1\.5x'"),
        ("-2x", r"limit '-2x' can't be read"),
        ("nanx", r"limit 'nanx' can't be read"),
        ("", r"limit '' can't be read"),
        (None, r"limit None can't be read"),
        (True, r"limit True can't be read"),
    ],
)
def test_limits_that_can_t_be_read(limit: float | str, message: str, chain: Callable) -> None:
    with pytest.raises(BudgetError, match=message):
        resolve(chain([4]), [Budget("macs", limit)], None)


def test_other_wrong_budgets(chain: Callable) -> None:
    net = chain([4])
    with pytest.raises(BudgetError, match=r"no budget given; expected at least one"):
        resolve(net, [], None)
    with pytest.raises(BudgetError, match=r"scope 'stag' of a budget: did you mean 'stage'\?"):
        resolve(net, [Budget("macs", "2x", "stag")], None)  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match=r"budget 'macs': expected a Budget, such as"):
        resolve(net, ["macs"], None)  # type: ignore[list-item]
    with pytest.raises(BudgetError, match=r"seed price of 'macs' is nan; expected"):
        resolve(net, [Budget("macs", "2x")], {"macs": float("nan")})
    with pytest.raises(InputError, match=r"unknown cost provider 'latancy'"):
        resolve(net, [Budget("latancy", "2x")], None)
