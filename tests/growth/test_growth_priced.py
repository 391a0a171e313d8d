"""Further prices of a recipe, under their own names, beside those of its report and budgets."""

from __future__ import annotations

import pytest
from growth_runs import tiny

from energysplit.costs import NetworkPricer
from energysplit.costs.configured import configured
from energysplit.errors import RecipeError
from energysplit.growth.planning import plan
from energysplit.growth.priced import priced
from energysplit.growth.setup import prepare

BOARDS = [
    {"name": "old", "provider": "energy", "options": {"profile": "eyeriss_65nm"}},
    {"name": "new", "provider": "energy", "options": {"profile": "generic_45nm"}},
]


def recipe(*prices, **sections):
    return tiny(report={"providers": ["macs"], "price": [*prices]}, growth={"stages": 1}, **sections)


def test_a_provider_under_several_names():
    found = priced(recipe(*BOARDS))
    assert list(found.providers) == ["macs", "old", "new"]
    assert [budget.provider for budget in found.budgets] == [found.providers["macs"]]
    prices = plan(recipe(*BOARDS)).prices
    assert {name: cost.unit for name, cost in prices.items()} == {"macs": "MAC", "old": "MAC-energy", "new": "J"}
    for board in BOARDS:
        own = configured(board["provider"], None, board["options"])
        assert prices[board["name"]].value == NetworkPricer(prepare(recipe()).seed, own).price().value
    assert prices["old"].value != prices["new"].value


def test_a_profile_of_the_recipe_is_that_of_prices_without_one():
    bare = {"name": "here", "provider": "energy"}
    old, new = (
        plan(recipe(bare, *BOARDS, hardware={"profile": name})).prices for name in ("eyeriss_65nm", "generic_45nm")
    )
    assert old["here"].value == old["old"].value == new["old"].value
    assert new["here"].value == new["new"].value == old["new"].value


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ([BOARDS[0], BOARDS[0]], "expected names that differ, given 'old' several times"),
        ([{"name": "a b", "provider": "macs"}], "price.0.name"),
        ([{"name": "", "provider": "macs"}], "price.0.name"),
    ],
)
def test_names_that_are_none(prices, message):
    with pytest.raises(ValueError, match=message):
        recipe(*prices)


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ({"name": "latency", "provider": "macs"}, "report.price: name 'latency' is that of a cost provider"),
        ({"name": "pixel", "provider": "roofine"}, r"report.price 'pixel': .*did you mean 'roofline'"),
        ({"name": "pixel", "provider": "roofline", "options": {"profile": "gap8"}}, "report.price 'pixel': .*gap8"),
        ({"name": "pixel", "provider": "macs", "options": {"profil": "gap9"}}, "report.price 'pixel': .*profil"),
    ],
)  # fmt: skip
def test_prices_that_can_t_be_had(price, message):
    with pytest.raises(RecipeError, match=message):
        priced(recipe(price))
