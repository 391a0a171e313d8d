"""Directions by chance against every splitting matrix: unit, seeded, and worth the trace over the dimensions."""

from __future__ import annotations

import cases
import oracles
import pytest
import torch
import torch.nn.functional as F

import energysplit as es
from energysplit.splitting import SplittingOperator
from energysplit.splitting import by_chance as chance

BATCHES = cases.batches_of(cases.images(32), 16)
HELD_OUT = cases.batches_of(cases.images(24, seed=9), 24)


def by_chance(net: es.Network, seed: int = 0, **options) -> dict[str, es.SplitIndex]:
    return es.splitting_index(net, BATCHES, F.cross_entropy, method="random", seed=seed, **options)


@pytest.mark.parametrize("linear", ["skip", "outgoing"])
def test_directions_are_unit_over_all_rows_and_follow_the_seed(linear):
    net = cases.network("mobilenet")
    operator = SplittingOperator(net, BATCHES, F.cross_entropy, linear=linear)
    first, again, other = (operator.vectors_of(by_chance(net, seed, linear=linear)) for seed in (1, 1, 2))
    assert list(first) == list(operator.shapes)
    for name, v in first.items():
        assert v.shape == operator.shapes[name]
        torch.testing.assert_close(v.norm(dim=1), torch.ones(len(v), dtype=v.dtype))
        assert torch.equal(v, again[name])
        assert not torch.equal(v, other[name])


def test_nothing_is_swept_and_nothing_claimed_of_it():
    net = cases.network("vgg")
    for found in by_chance(net, held_out=HELD_OUT).values():
        assert (found.sweeps, found.solver, found.held_out, found.images) == (0.0, "random", True, 24)
        assert bool(found.residual.isnan().all()), "no image was looked at, so no residual is known"
        assert found.same_images is None
        assert found.stderr is not None
        assert bool((found.stderr > 0).all())


@pytest.mark.parametrize("held_out", [None, HELD_OUT], ids=["sample", "held out"])
def test_values_are_the_quadratic_form_of_the_images_they_are_taken_on(held_out):
    net = cases.network("cnn")
    index = by_chance(net, seed=4, held_out=held_out)
    name = next(iter(index))
    matrix = oracles.splitting_matrix(net, held_out or BATCHES, name, 1)
    v = torch.cat([index[name].direction[mover][1].flatten() for mover in net.groups[name].movers])
    assert float(index[name].value[1]) == pytest.approx(float(v @ matrix @ v), rel=1e-9)


def test_the_mean_value_is_the_trace_over_the_dimensions():
    """Exact in float64: E[v^T S v] = tr S / d over uniform unit v, here within five standard errors of 400 seeds."""
    net = cases.network("mlp")
    batches = [cases.images(16)]
    operator = SplittingOperator(net, batches, F.cross_entropy)
    name = next(iter(operator.shapes))
    matrix = oracles.splitting_matrix(net, batches, name, 0)
    found = (operator.evaluate(chance.solve(operator, seed=seed).vectors)[name] for seed in range(400))
    values = torch.stack([value[0] for value, _ in found])
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - float(matrix.trace()) / len(matrix)) < 5 * error
    # The variance of a quadratic form over the sphere is known too: (2 tr S^2 - 2 (tr S)^2 / d) / (d (d + 2)).
    d = len(matrix)
    variance = 2 * float((matrix @ matrix).trace() - matrix.trace() ** 2 / d) / (d * (d + 2))
    assert float(values.var()) == pytest.approx(variance, rel=0.3)


def test_signed_has_a_second_direction_and_values_predict_the_split():
    net = cases.network("cnn")
    index = by_chance(net, seed=5, signed=True)
    operator = SplittingOperator(net, BATCHES, F.cross_entropy)
    low = operator.vectors_of(index)
    high = operator.vectors_of({name: found.upper for name, found in index.items()})
    for name in low:
        assert not torch.allclose(low[name], high[name])
        torch.testing.assert_close(high[name].norm(dim=1), torch.ones(len(high[name]), dtype=torch.float64))
    name = next(iter(index))
    chosen = {name: {0: "quadruple"}}
    step = 1e-3
    realised = oracles.realised_change(net, BATCHES, index, chosen, step, 2.0)
    predicted = oracles.predicted_change(index, chosen, step, 2.0)
    assert realised == pytest.approx(predicted, rel=1e-3)
