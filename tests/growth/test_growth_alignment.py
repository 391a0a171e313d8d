"""Widths that become multiples: what the recipe says, and what a table found."""

from __future__ import annotations

from types import SimpleNamespace

import device_tables
import growth_runs
import pytest
import torch

from energysplit import growth, models
from energysplit.costs import cost_provider
from energysplit.errors import RecipeError
from energysplit.graph import trace
from energysplit.growth.alignment import multiples


@pytest.fixture(scope="module")
def seed():
    module = models.build("cnn", widths=[3, 4], in_channels=1, activation="silu")
    return trace(module, torch.zeros(2, 1, 8, 8))


def says(multiple_of):
    return SimpleNamespace(multiple_of=multiple_of)


def by_group(net, multiple, *others):
    names = [name for name, group in net.groups.items() if group.splittable]
    return dict(zip(names, (multiple, *others) if others else (multiple,) * len(names), strict=True))


def grows(found, net):
    return {name: number for name, number in found.items() if net.groups[name].splittable}


def test_auto_is_what_the_table_says(seed, tmp_path):
    device_tables.write_table(tmp_path, seed, multiple_of=4)
    provider = cost_provider("latency", tables=tmp_path)
    assert provider.multiple_of == 4
    assert grows(multiples("auto", [provider], seed), seed) == by_group(seed, 4)


def test_auto_is_one_where_nothing_says_anything(seed):
    providers = [cost_provider("macs"), cost_provider("peak_memory")]
    assert grows(multiples("auto", providers, seed), seed) == by_group(seed, 1)


def test_several_budgets_are_all_kept(seed):
    wide = trace(models.build("cnn", widths=[24, 12], in_channels=1), torch.zeros(2, 1, 8, 8))
    assert grows(multiples("auto", [says(4), says(6)], wide), wide) == by_group(wide, 12)


def test_a_kind_of_layer_may_have_its_own(seed):
    said = [says({"conv2d": 4, "linear": 8, "default": 16})]
    assert grows(multiples("auto", said, seed), seed) == by_group(seed, 4)
    assert multiples("auto", said, seed)["classifier"] == 8


@pytest.mark.parametrize(
    ("width", "expected"), [(1, 2), (2, 4), (3, 4), (4, 8), (5, 8), (8, 16), (9, 16), (16, 16), (17, 16)]
)
def test_a_narrow_group_goes_to_the_largest_divisor_it_can_reach(width, expected):
    # Neurons double at most: from 3 channels 4 can be reached, 8 can't.
    net = trace(models.build("cnn", widths=[width, 16], in_channels=1), torch.zeros(2, 1, 8, 8))
    first = next(iter(net.groups))
    assert multiples("auto", [says(16)], net)[first] == expected


def test_what_the_recipe_says_is_taken_as_it_is(seed):
    assert multiples(5, [says(16)], seed) == 5
    assert multiples({"blocks.0.conv": 2}, [says(16)], seed) == {"blocks.0.conv": 2}


@pytest.mark.parametrize("setting", ["auto", {"blocks.0.conv": 2, "blocks.1.conv": 4}])
def test_a_growth_ends_at_multiples(tmp_path, seed, setting):
    device_tables.write_table(tmp_path / "tables", seed, multiple_of=4)
    recipe = growth_runs.tiny(
        train={"epochs": 1},
        growth={"stages": 1, "multiple_of": setting},
        budget=[{"provider": "latency", "limit": "2.0x"}],
        hardware={"tables": str(tmp_path / "tables")},
    )
    first, last = growth.grow(recipe, run_dir=tmp_path / "run").records
    expected = by_group(seed, 4) if setting == "auto" else setting
    grown = {name for name in expected if last.widths[name] > first.widths[name]}
    assert grown
    assert all(last.widths[name] % expected[name] == 0 for name in grown)
    assert grows(growth.plan(recipe).multiples, seed) == expected


def test_a_group_that_is_not_there_is_named_before_anything_runs(tmp_path):
    recipe = growth_runs.tiny(growth={"stages": 1, "multiple_of": {"blocks.0.cov": 4}})
    with pytest.raises(RecipeError, match=r"multiple_of: no group 'blocks.0.cov' .*did you mean 'blocks.0.conv'"):
        growth.grow(recipe, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
