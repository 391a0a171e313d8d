"""Budgets: names, limits made absolute, and what is said about those that can't be met or read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import energysplit as es
from energysplit.allocation import allocate, budget_names
from energysplit.allocation.budgets import resolve
from energysplit.costs import cost_provider, price
from energysplit.errors import BudgetError
from energysplit.types import Budget, Cost, LayerCase


class Channels:
    """A provider nobody registered."""

    unit = "channel"

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(case.out_channels, self.unit)


SMALL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


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
    with pytest.raises(BudgetError, match=r"by 18,722 param \(936\.1%\); raise"):
        allocate(net, indices(net, 0), [Budget("params", 2000)])
    with pytest.raises(BudgetError, match=r"by 20,712 param; raise"):  # twenty thousand percent
        allocate(net, indices(net, 0), [Budget("params", "10 params")])
    with pytest.raises(BudgetError, match=r"the limit of 10,361 param is below"):
        allocate(net, indices(net, 0), [Budget("params", "0.5x", "stage")])
    with pytest.raises(BudgetError, match=r"the limit of 0 param is below .* by 20,722 param; raise"):
        allocate(net, indices(net, 0), [Budget("params", 0)])


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            float("nan"),
            r"budget 'macs': limit nan is not a finite number of at least 0; expected a number in MAC, or text",
        ),
        (float("inf"), r"limit inf is not a finite number"),
        (-1.0, r"limit -1\.0 is not a finite number of at least 0"),
        ("fast", r"budget 'macs': limit 'fast' does not begin with a number; expected such as '100 MMAC' or '1\.5x'"),
        ("-2x", r"budget 'macs': limit '-2x' is not a finite number of at least 0"),
        ("nan", r"budget 'macs': limit 'nan' is not a finite number of at least 0"),
        ("-3 MMAC", r"budget 'macs': limit '-3 MMAC' is not a finite number of at least 0"),
        ("nanx", r"limit 'nanx' does not begin with a number"),
        ("", r"budget 'macs': limit '' is empty; expected such as '100 MMAC'"),
        (
            "6 ms",
            r"budget 'macs': limit '6 ms' is in seconds \(s\), but its prices are in MAC; expected such as "
            r"'100 MMAC' or '1\.5x'",
        ),
        ("100m", r"budget 'macs': limit '100m' does not fit prices in MAC; did you mean '100M'\?"),
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


def test_an_unknown_provider_is_one_message_with_the_budget_and_the_nearest(chain: Callable) -> None:
    with pytest.raises(
        BudgetError, match=r"budget 'latancy': unknown cost provider 'latancy'; did you mean 'latency'\?"
    ):
        resolve(chain([4]), [Budget("macs", "2x"), Budget("latancy", "2x")], None)
    with pytest.raises(BudgetError, match=r"budget 'latancy:network': unknown cost provider"):
        resolve(chain([4]), [Budget("latancy", "2x"), Budget("latancy", "2x", "stage")], None)
    with pytest.raises(BudgetError, match=r"budget 'Chanels': cost provider '.*:Chanels': .*did you mean 'Channels'\?"):
        resolve(chain([4]), [Budget(f"{__name__}:Chanels", "2x")], None)


@pytest.mark.parametrize(
    ("provider", "text", "expected"),
    [("macs", "1 MMAC", 1e6), ("params", "0.1 M params", 1e5), ("peak_memory", "512 KiB", 2**19), ("macs", "1G", 1e9)],
)
def test_limits_with_a_unit(chain: Callable, provider: str, text: str, expected: float) -> None:
    net = chain([4, 5]) if provider != "peak_memory" else es.trace(SMALL, torch.zeros(1, 3, 8, 8))
    (limit,) = resolve(net, [Budget(provider, text)], None)
    assert limit.limit == expected
    assert resolve(net, [Budget(provider, text, "stage")], {provider: 1.0})[0].limit == expected


@pytest.mark.parametrize(
    ("limit", "end"),
    [
        (1.8, "; did you mean '1.8x'?"),
        (" 1.2 ", "; did you mean '1.2x'?"),
        (20, "; did you mean '20x'?"),
        (21, "; raise the limit or start from a smaller network"),
        (0.5, "; raise the limit or start from a smaller network"),
        ("1.2 MAC", "; raise the limit or start from a smaller network"),
    ],
)
def test_a_factor_without_its_x_is_proposed_with_it(chain: Callable, limit: float | str, end: str) -> None:
    net = chain([8])
    macs = price(net, "macs").value
    assert macs > 20 * 1000
    for scope in ("network", "stage"):
        with pytest.raises(BudgetError) as caught:
            resolve(net, [Budget("macs", limit, scope)], None)
        assert str(caught.value).endswith(end)
        assert "%" not in str(caught.value)
    with pytest.raises(BudgetError) as caught:
        resolve(net, [Budget("macs", limit), Budget("params", 20_000)], None)
    proposed = f", {end[2:]}; 'params'" if "x'?" in end else " MAC; 'params'"
    assert proposed in str(caught.value)
    # Near its price a number is what it says.
    with pytest.raises(BudgetError, match=r"by 8 channel \(80\.0%\); raise"):
        resolve(net, [Budget(Channels(), 10)], None)


def test_every_budget_that_is_passed_already_is_named_and_which_binds_most(chain: Callable) -> None:
    net = chain([8])
    macs, params = price(net, "macs").value, price(net, "params").value
    budgets = [Budget("macs", macs - 1000), Budget(Channels(), 100), Budget("params", "20 k")]
    over, share = params - 20_000, params / 20_000 - 1
    with pytest.raises(BudgetError) as caught:
        resolve(net, budgets, None)
    assert str(caught.value) == (
        f"2 of 3 budgets are below the price of the network as it is: 'macs': limit {macs - 1000:,.0f} MAC, price "
        f"{macs:,.0f} MAC, by 1,000 MAC ({1000 / (macs - 1000):.1%}); 'params': limit 20,000 param, price "
        f"{params:,.0f} param, by {over:,.0f} param ({share:.1%}); 'params' binds most; raise these limits or start "
        "from a smaller network"
    )
    with pytest.raises(BudgetError, match=r"3 of 3 .*'Channels': limit 0 channel, price 18 channel, by 18 channel; .*"):
        resolve(net, [budgets[0], Budget(Channels(), 0), budgets[2]], None)
    with pytest.raises(BudgetError, match=r"'Channels' binds most; raise"):
        resolve(net, [budgets[0], Budget(Channels(), 0), budgets[2]], None)


def test_a_stage_above_the_whole_growth(chain: Callable) -> None:
    net = chain([4, 5])
    present = price(net, "macs").value
    network = Budget("macs", 2 * present)
    for stage in ("3x", 2.5 * present, f"{2.5 * present} MAC"):
        with pytest.raises(
            BudgetError,
            match=r"budget 'macs:stage': .* MAC for the first stage is above .* MAC for the whole growth "
            r"\('macs:network'\), so it would never count; lower the limit of scope 'stage'",
        ):
            resolve(net, [network, Budget("macs", stage, "stage")], None)
    # Later stages: the factor counts from the seed, whatever the network has become.
    (limit, _) = resolve(net, [Budget("macs", "3x", "stage"), network], {"macs": present / 2})
    assert limit.limit == 3 * present
    with pytest.raises(BudgetError, match="above"):
        resolve(net, [Budget("macs", "5x", "stage"), network], {"macs": present / 2})
    with pytest.raises(BudgetError, match="above"):
        resolve(net, [Budget("macs", "5x", "stage"), network], {"macs:network": present / 2})
    # As much as the whole growth, another provider, other options: all fine.
    resolve(net, [Budget("macs", "2x", "stage"), network], None)
    resolve(net, [Budget("params", "3x", "stage"), network], None)
    resolve(net, [Budget(Channels(), "3x", "stage"), Budget(Channels(), "2x")], None)


def test_a_factor_that_overflows_is_refused(chain: Callable) -> None:
    with pytest.raises(BudgetError, match=r"budget 'macs': limit '9e14x' is not a finite number"):
        resolve(chain([4]), [Budget("macs", "9e14x")], {"macs": 1e300})
