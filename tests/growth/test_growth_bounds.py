"""Bounds on groups, risk, and several budgets at once, from the recipe to the grown network."""

from __future__ import annotations

import growth_runs
import pytest
import torch

from energysplit import growth
from energysplit.allocation import allocate
from energysplit.allocation.bounds import tightest
from energysplit.costs import price
from energysplit.errors import BudgetError, InputError, RecipeError
from energysplit.growth.arguments import allocation_arguments, recipe_bounds
from energysplit.growth.setup import prepare
from energysplit.output.indices import load_index
from energysplit.types import GroupBound, SplitIndex

FIRST, SECOND = "blocks.0.conv", "blocks.1.conv"


def recipe(**growth_keys):
    """The tiny recipe with room to grow, one stage, and some keys of [growth]."""
    return growth_runs.tiny(
        train={"epochs": 1},
        growth={"stages": 1, **growth_keys},
        budget=[{"provider": "macs", "limit": "3x", "scope": "stage"}],
    )


def falling(net):
    """Indices by which every neuron of every group is worth splitting."""
    groups = {name: group for name, group in net.groups.items() if group.splittable}
    return {
        name: SplitIndex(-torch.arange(1.0, group.channels + 1), {}, torch.ones(group.channels), torch.zeros(1), 1, "")
        for name, group in groups.items()
    }


def test_a_frozen_group_is_untouched_and_a_bounded_one_ends_at_its_bound(tmp_path):
    (free, wide) = growth.grow(recipe(), run_dir=tmp_path / "free").records
    assert all(wide.widths[name] > free.widths[name] for name in (FIRST, SECOND)), "without bounds both groups grow"
    bounds = {"blocks.0.*": {"frozen": True}, SECOND: {"max_channels": 5}}
    (before, after) = growth.grow(recipe(bounds=bounds), run_dir=tmp_path / "run").records
    assert (before.widths[FIRST], before.widths[SECOND]) == (3, 4)
    assert (after.widths[FIRST], after.widths[SECOND]) == (3, 5)
    assert set(before.growth.allocation.split) == {SECOND}
    assert set(load_index(tmp_path / "run" / "stages" / "0" / "index.safetensors")) == {FIRST, SECOND}


def test_signed_splits_keep_to_bounds_too(tmp_path):
    bounds = {FIRST: {"frozen": True}, "blocks.1.*": {"max_channels": 6}}
    (before, after) = growth.grow(recipe(bounds=bounds, signed=True), run_dir=tmp_path / "run").records
    assert after.widths[FIRST] == before.widths[FIRST]
    assert before.widths[SECOND] < after.widths[SECOND] <= 6


def test_a_growth_that_bounds_forbid_stops_and_says_so(tmp_path):
    (only,) = growth.grow(recipe(bounds={"*": {"frozen": True}}), run_dir=tmp_path / "run").records
    assert only.growth is None
    assert only.stopped


def test_the_tightest_of_several_bounds_counts():
    said = {"*": {"max_channels": 9}, "blocks.1.*": {"max_channels": 7}, FIRST: {"frozen": True}}
    seed = prepare(recipe()).seed
    found = tightest(recipe_bounds(recipe(bounds=said)), seed.groups)
    assert found[FIRST] == GroupBound(frozen=True)
    assert found[SECOND] == GroupBound(max_channels=7)
    assert found["classifier"] == GroupBound(max_channels=9)


@pytest.mark.parametrize("found", [growth.plan, lambda given: growth.grow(given, run_dir="/nowhere/at/all")])
def test_a_pattern_that_matches_nothing_is_named_before_anything_runs(found):
    with pytest.raises(
        RecipeError, match=r"growth\.bounds: no group .*'blocks\.0\.cnv'; did you mean 'blocks\.0\.conv'\?"
    ):
        found(recipe(bounds={"blocks.0.cnv": {"frozen": True}}))


def test_a_plan_has_the_bounds_and_warns_of_groups_that_are_wider():
    found = growth.plan(
        recipe(bounds={FIRST: {"max_channels": 2}, "*": {"max_channels": 4}, "classifier": {"max_channels": 1}})
    )
    assert found.bounds == {FIRST: GroupBound(max_channels=2), SECOND: GroupBound(max_channels=4)}
    (warning,) = [text for text in found.warnings if "growth.bounds" in text]
    assert warning == (
        "group 'blocks.0.conv' has 3 channels, more than the 2 that growth.bounds allow it; it stays at 3"
    )
    assert growth.plan(recipe()).bounds == {}


def test_the_arguments_are_those_of_the_recipe():
    said = {"risk": 1.5, "signed": True, "mass": 3.0, "bounds": {FIRST: {"frozen": True}}, "method": "lp"}
    setup = prepare(recipe(multiple_of=2, **said))
    index = falling(setup.seed)
    found = allocation_arguments(setup.recipe, setup.priced, setup.seed_price, setup.seed, index)
    assert found["bounds"] == recipe_bounds(setup.recipe) == {FIRST: GroupBound(frozen=True)}
    assert (found["risk"], found["mass"], found["method"], found["multiple_of"]) == (1.5, 3.0, "lp", 2)
    assert (found["budgets"], found["seed_price"]) == (setup.budgets, setup.seed_price)
    for name in (FIRST, SECOND):
        weight = setup.seed.weight(name).double()
        assert found["weights"][name] == pytest.approx(float(weight.square().sum()) / len(weight))
    plain = prepare(growth_runs.tiny(step={"policy": "fixed"}, growth={"mass": 3.0}))
    found = allocation_arguments(plain.recipe, plain.priced, plain.seed_price, plain.seed, index)
    assert (found["mass"], found["weights"]) == (1.0, {FIRST: 1.0, SECOND: 1.0})


def test_auto_multiples_fit_inside_a_bound():
    from types import SimpleNamespace

    from energysplit.growth.alignment import multiples

    net = prepare(recipe()).seed  # 3 and 4 channels
    provider = SimpleNamespace(multiple_of=8)
    assert {name: multiples("auto", [provider], net)[name] for name in (FIRST, SECOND)} == {FIRST: 4, SECOND: 8}
    assert multiples("auto", [provider], net, {SECOND: 7})[SECOND] == 2
    assert multiples("auto", [provider], net, {SECOND: 5})[SECOND] == 1
    assert multiples("auto", [provider], net, {SECOND: 4})[SECOND] == 8, "a frozen group grows to no multiple at all"


def test_a_risk_leaves_uncertain_neurons_alone(tmp_path):
    bought = []
    for risk in (0.0, 2.0, 1e6):
        folder = tmp_path / f"{risk:g}"
        first = growth.grow(recipe(risk=risk), run_dir=folder).records[0]
        index = load_index(folder / "stages" / "0" / "index.safetensors")
        split = first.growth.allocation.split if first.growth else {}
        for name, channels in split.items():
            assert bool((index[name].value + risk * index[name].stderr)[channels].lt(0).all())
        bought.append(sum(map(len, split.values())))
    assert bought[0] > bought[1] >= bought[2] == 0


THREE = [
    {"provider": "macs", "limit": "8 k MACs"},
    {"provider": "params", "limit": "420"},
    {"provider": "peak_memory", "limit": "1.6x"},
]


@pytest.mark.parametrize("signed", [False, True])
def test_three_budgets_at_once(tmp_path, signed):
    given = growth_runs.tiny(budget=THREE, growth={"stages": 2, "signed": signed}, train={"epochs": 1})
    found = growth.plan(given)
    limits = {budget["name"]: budget["limit"] for budget in found.budgets}
    assert limits == {
        "macs": 8000,
        "params": 420,
        "peak_memory": pytest.approx(1.6 * found.prices["peak_memory"].value),
    }
    records = growth.grow(given, run_dir=tmp_path / "run").records
    assert records[0].growth.allocation.limit == limits
    for record in records:
        assert all(record.prices[name].value <= limit for name, limit in limits.items())
    assert sum(records[-1].widths.values()) > sum(records[0].widths.values())


@pytest.mark.parametrize("tight", ["macs", "params", "peak_memory"])
def test_each_of_three_budgets_can_be_the_one_that_binds(tight):
    setup = prepare(growth_runs.tiny(budget=THREE))
    index = falling(setup.seed)
    loose = {"macs": "50x", "params": "50x", "peak_memory": "50x", tight: "1.5x"}
    chosen = prepare(growth_runs.tiny(budget=[{"provider": name, "limit": text} for name, text in loose.items()]))
    arguments = allocation_arguments(chosen.recipe, chosen.priced, chosen.seed_price, chosen.seed, index)
    found = allocate(chosen.seed, index, **arguments)
    free = allocate(setup.seed, index, **{**arguments, "budgets": [b for b in chosen.budgets if b.limit == "50x"]})
    assert price(chosen.seed, tight, grown(chosen.seed, found)).value <= found.limit[tight]
    assert price(chosen.seed, tight, grown(chosen.seed, free)).value > found.limit[tight]


def grown(net, allocation):
    return {name: net.widths[name] + len(split) for name, split in allocation.split.items()}


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            [{"provider": "macs", "limit": "1 k"}, {"provider": "params", "limit": "100"}],
            r"2 of 2 budgets are below .*'macs': limit 1,000 MAC, price 3,496 MAC, by 2,496 MAC \(249\.6%\).*"
            r"'params': .*99\.0%.*'macs' binds most",
        ),
        (
            [{"provider": "macs", "limit": "6 ms"}],
            r"budget 'macs': limit '6 ms' is in seconds \(s\), but its prices are",
        ),
        ([{"provider": "mcas", "limit": "2x"}], r"budget 'mcas': unknown cost provider 'mcas'; did you mean 'macs'\?"),
        (
            [{"provider": "macs", "limit": "5 k"}, {"provider": "macs", "limit": "2x", "scope": "stage"}],
            r"budget 'macs:stage': 6,992 MAC for the first stage is above 5,000 MAC for the whole growth",
        ),
    ],
)
def test_wrong_budgets_are_one_message_before_anything_is_written(tmp_path, budgets, message):
    with pytest.raises(BudgetError, match=message):
        growth.grow(growth_runs.tiny(budget=budgets), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_provider_of_the_report_is_no_budget():
    with pytest.raises(InputError, match=r"^unknown cost provider 'mcas'"):
        growth.plan(growth_runs.tiny(report={"providers": ["mcas"]}))
