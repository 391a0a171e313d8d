"""Weighted sums of indices and their standard error over the images all neurons share."""

from __future__ import annotations

import cases
import pytest
import torch
import torch.nn.functional as F

from energysplit.splitting import SplittingOperator
from energysplit.splitting.sums import weighted_sums


def test_sums_are_weighted_values_and_the_error_covers_their_spread():
    net = cases.network("mobilenet")
    vectors = SplittingOperator(net, [cases.images(64)], F.cross_entropy).random_vectors(0)
    generator = torch.Generator().manual_seed(3)
    weights = {name: torch.rand(len(v), generator=generator, dtype=torch.float64) for name, v in vectors.items()}
    every = {name: torch.ones(len(v), dtype=torch.float64) for name, v in vectors.items()}
    sums, errors = [], []
    for seed in range(60):
        operator = SplittingOperator(net, cases.batches_of(cases.images(64, seed=200 + seed), 24), F.cross_entropy)
        values = operator.evaluate(vectors)
        (weighted, error), (total, _) = weighted_sums(operator, [vectors], [[weights], [every]])
        expected = sum(float((values[name][0] * w).sum()) for name, w in weights.items())
        torch.testing.assert_close(weighted, expected)
        torch.testing.assert_close(total, sum(float(value.sum()) for value, _ in values.values()))
        sums.append(weighted)
        errors.append(error)
    ratio = float(torch.tensor(sums).std() / torch.tensor(errors).mean())
    assert 0.75 < ratio < 1.3, ratio


def test_both_ends_of_a_neuron_are_one_observation_of_an_image():
    """The same vectors at both ends with opposite weights cancel on every image: no value, and no error either."""
    operator = SplittingOperator(cases.network("cnn"), cases.batches_of(cases.images(20), 8), F.cross_entropy)
    vectors, others = operator.random_vectors(0), operator.random_vectors(1)
    ones = {name: torch.ones(len(v), dtype=torch.float64) for name, v in vectors.items()}
    minus = {name: -weights for name, weights in ones.items()}
    same, one, other, both = weighted_sums(
        operator, [vectors, vectors, others], [[ones, minus, {}], [ones, {}, {}], [{}, {}, minus], [ones, {}, minus]]
    )
    assert abs(same[0]) < 1e-15
    assert same[1] < 1e-15
    assert one[1] > 1e-6
    assert both[0] == pytest.approx(one[0] + other[0], rel=1e-12)
    assert 0 < both[1] < one[1] + other[1]


def test_one_image_has_no_standard_error():
    net = cases.network("cnn")
    operator = SplittingOperator(net, [cases.images(1)], F.cross_entropy)
    vectors = operator.random_vectors(0)
    ((value, error),) = weighted_sums(operator, [vectors], [[{"0": torch.ones(4)}]])
    assert value == value
    assert error != error
