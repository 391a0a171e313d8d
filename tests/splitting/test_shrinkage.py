"""Posterior means against the truth they stand for, and against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import energysplit as es
from energysplit.growth.arguments import judged
from energysplit.recipe import load
from energysplit.splitting.shrinkage import posterior, shrunk

RECIPE = Path(__file__).parents[2] / "recipes" / "digits.toml"


def _index(value, stderr, upper=None):
    value = torch.tensor(value, dtype=torch.float64)
    return es.SplitIndex(
        value=value,
        direction={"layer": torch.zeros(len(value), 1)},
        stderr=None if stderr is None else torch.tensor(stderr, dtype=torch.float64),
        residual=torch.zeros(len(value)),
        images=10,
        solver="lobpcg",
        held_out=True,
        upper=upper,
    )


def test_by_hand():
    """Errors 1 and values 0, 4, 8: mean 4, tau^2 = (32 - 2) / (3 - 1) = 15, trust 15/16, variance of the mean 16/3."""
    value, error = posterior(torch.tensor([0.0, 4.0, 8.0]).double(), torch.ones(3).double())
    torch.testing.assert_close(value, torch.tensor([0.25, 4.0, 7.75]).double())
    expected = math.sqrt(15 / 16 + (1 / 16) ** 2 * 16 / 3)
    torch.testing.assert_close(error, torch.full((3,), expected).double())


def test_it_is_nearer_to_the_truth_than_the_values_and_knows_how_near():
    """200 groups of 16 with a common mean and spread, errors of several sizes: squared error and coverage."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(200, 16, generator=generator, dtype=torch.float64)

    truth = -1 + 0.5 * draw()
    stderr = 0.5 + torch.rand(200, 16, generator=generator, dtype=torch.float64) * 2
    value = truth + stderr * draw()
    found = [posterior(v, s) for v, s in zip(value, stderr, strict=True)]
    made, error = torch.stack([v for v, _ in found]), torch.stack([s for _, s in found])
    assert (made - truth).square().mean() < 0.25 * (value - truth).square().mean()
    within = ((made - truth).abs() < 2 * error).double().mean()
    assert 0.75 < within < 0.99, "the model's own uncertainty is a little optimistic, as its docstring says"
    assert ((made < 0) == (truth < 0)).double().mean() > ((value < 0) == (truth < 0)).double().mean() + 0.15


@pytest.mark.parametrize(
    ("value", "stderr"),
    [
        ([-1.0, 2.0], [1.0, 1.0]),
        ([-1.0, 2.0, 3.0], [math.nan, math.nan, math.nan]),
        ([-1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
        ([], []),
    ],
    ids=["two", "unknown", "exact", "none"],
)
def test_what_tells_nothing_changes_nothing(value, stderr):
    value, stderr = torch.tensor(value).double(), torch.tensor(stderr).double()
    for before, after in zip((value, stderr), posterior(value, stderr), strict=True):
        torch.testing.assert_close(after, before, equal_nan=True, rtol=0, atol=0)


def test_values_far_apart_stay_and_equal_ones_meet():
    apart, _ = posterior(torch.tensor([-100.0, 0.0, 100.0]).double(), torch.ones(3).double())
    torch.testing.assert_close(apart, torch.tensor([-100.0, 0.0, 100.0]).double(), rtol=1e-3, atol=1e-3)
    near, _ = posterior(torch.tensor([-1.5, -1.0, 1.0]).double(), torch.full((3,), 5.0).double())
    torch.testing.assert_close(near, torch.full((3,), -0.5).double(), rtol=0, atol=1e-5)


def test_a_neuron_that_is_all_but_dead_does_not_speak_for_the_others():
    alive = torch.tensor([-1.0, -2.0, -1.5, -3.0]).double()
    for error in (1e-17, 1e-10, 1e-4):
        value = torch.cat([alive, torch.tensor([1e-9]).double()])
        made, deviation = posterior(value, torch.tensor([1.0, 1.0, 1.0, 1.0, error]).double())
        torch.testing.assert_close(made[:4], posterior(alive, torch.ones(4).double())[0])
        assert made[:4].max() < -1
        assert (float(made[4]), float(deviation[4])) == pytest.approx((1e-9, error))


def test_a_value_that_is_not_known_stays_so_alone():
    made, _ = posterior(torch.tensor([-1.0, -2.0, -1.5, math.nan]).double(), torch.ones(4).double())
    assert torch.isfinite(made[:3]).all()
    assert torch.isnan(made[3])


def test_neurons_keep_their_order_where_the_spread_is_lost_in_noise():
    value = torch.tensor([-0.2, -2.0, -1.0, -1.5, -0.5, -2.4]).double()
    made, _ = posterior(value, torch.full((6,), 3.0).double())
    assert made.max() - made.min() < 1e-4
    assert made.argsort().tolist() == value.argsort().tolist()


def test_both_ends_are_drawn_and_an_index_without_errors_is_not():
    upper = _index([1.0, 2.0, 3.0], [9.0, 9.0, 9.0])
    made = shrunk({"a": _index([-1.0, -2.0, 3.0], [9.0, 9.0, 9.0], upper), "b": _index([-1.0, -2.0, 3.0], None)})
    assert made["a"].value.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-5)
    assert made["a"].upper.value.tolist() == pytest.approx([2.0, 2.0, 2.0], abs=1e-5)
    assert made["b"].value.tolist() == [-1.0, -2.0, 3.0]


def test_a_recipe_says_by_what_neurons_are_chosen():
    index = {"a": _index([-1.0, -2.0, 2.0], [9.0, 9.0, 9.0])}
    plain = load(RECIPE, ['index.shrinkage="none"'])
    assert judged(plain, index)["a"].value.tolist() == [-1.0, -2.0, 2.0]
    assert judged(load(RECIPE), index)["a"].value.tolist() == pytest.approx([-1 / 3] * 3, abs=1e-5)
