"""Mixed precision of the passes: near the exact S v, and in float32 where sums are kept."""

from __future__ import annotations

import copy

import cases
import pytest
import torch
import torch.nn.functional as F

import energysplit as es
from energysplit.splitting.normalising import Followed
from energysplit.splitting.operator import SplittingOperator

FAMILIES = {"mobilenet": 0.03, "cnn": 0.02, "mlp": 0.02, "vgg": 0.12}
"""Allowed error of S v. Max pooling in vgg takes the larger of two numbers that bfloat16 can't tell apart."""


def operators(family, precision, **options):
    """In mixed precision, and exact."""
    module = cases.network(family).module
    x, y = cases.images(32)
    small = es.trace(copy.deepcopy(module).float(), x[:2].float())
    return (
        SplittingOperator(small, [(x.float(), y)], F.cross_entropy, precision=precision, **options),
        SplittingOperator(es.trace(module, x[:2]), [(x, y)], F.cross_entropy, **options),
    )


def error(found, exact):
    a, b = (torch.cat([v[name].double().flatten() for name in exact]) for v in (found, exact))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("curvature", ["exact", "producer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_near_the_exact_sweep(family, curvature, statistics):
    made, exact = operators(family, "bf16", curvature=curvature, statistics=statistics)
    vectors = made.random_vectors(0)
    doubled = {name: v.double() for name, v in vectors.items()}
    applied = made.apply(vectors)
    assert all(v.dtype == torch.float32 for v in applied.values())
    # Not less than bfloat16 has: else it would not have been used.
    assert 1e-4 < error(applied, exact.apply(doubled)) < FAMILIES[family]
    values, expected = (
        {n: each[0] for n, each in o.evaluate(v).items()} for o, v in ((made, vectors), (exact, doubled))
    )
    assert error(values, expected) < FAMILIES[family]


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_a_further_sweep_finds_the_same_from_what_is_kept(statistics):
    made, _ = operators("mobilenet", "bf16", statistics=statistics)
    vectors = made.random_vectors(0)
    first = made.apply(vectors)
    assert made.sample.kept
    assert all(torch.equal(v, first[name]) for name, v in made.apply(vectors).items())


def test_captures_take_half_the_memory():
    whole, half = (operators("mobilenet", precision)[0] for precision in ("no", "bf16"))
    used = []
    for operator in (whole, half):
        room = operator.sample.room
        operator.apply(operator.random_vectors(0))
        used.append(room - operator.sample.room)
    assert 0 < used[1] < 0.6 * used[0]


def test_batch_norms_statistics_stay_float32():
    """A mean far from 0 beside a small spread, of which bfloat16 would leave nothing."""
    torch.manual_seed(0)
    value = 100 + torch.randn(64, 3, 8, 8).bfloat16() * 0.5
    norm = torch.nn.BatchNorm2d(3)
    met = Followed(norm, value).met
    torch.testing.assert_close(met.mean, value.float().mean((0, 2, 3)))
    torch.testing.assert_close(met.invstd, (value.float().var((0, 2, 3), correction=0) + norm.eps).rsqrt())


def test_directions_found_in_bfloat16_are_nearly_as_good():
    """By the exact value of what was found, on the same images: the sum over all neurons."""
    x, y = cases.images(64)
    module = cases.network("mobilenet").module
    net = es.trace(copy.deepcopy(module).float(), x[:2].float())
    judge = SplittingOperator(es.trace(module, x[:2]), [(x, y)], F.cross_entropy)
    sums = []
    for precision in ("no", "bf16"):
        index = es.splitting_index(net, [(x.float(), y)], F.cross_entropy, precision=precision, seed=0)
        values = judge.evaluate(judge.vectors_of(index))
        sums.append(sum(float(each[0].sum()) for each in values.values()))
    assert sums[0] < 0
    assert sums[1] < 0.99 * sums[0]


def test_what_does_not_fit_is_refused():
    x, y = cases.images(4)
    with pytest.raises(es.errors.InputError, match="float64 parameters"):
        es.splitting_index(cases.network("mlp"), [(x, y)], F.cross_entropy, precision="bf16")
    with pytest.raises(es.errors.InputError, match="bf16"):
        es.splitting_index(cases.network("mlp"), [(x, y)], F.cross_entropy, precision="bf17")
