"""The key proofs on every kind of graph: one matrix a neuron, and the change that real surgery makes."""

from __future__ import annotations

import cases
import graph_cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import energysplit as es
from energysplit.graph.network import Kind
from energysplit.splitting.operator import SplittingOperator

BATCH = cases.images(24)
FEW = [cases.images(5), cases.images(3, seed=2)]
POOLING = ("branches", "flattened", "moments")
LINEAR = ("skip", "outgoing")
BENDING = (Kind.ACTIVATION, Kind.PRODUCT)


def matrix_of(operator: SplittingOperator, group: str, channel: int) -> Tensor:
    """The operator's matrix of one neuron, column by column, while all others move at random."""
    columns = []
    for column in range(operator.shapes[group][1]):
        vectors = operator.random_vectors(column)
        vectors[group][channel] = 0
        vectors[group][channel, column] = 1
        columns.append(operator.apply(vectors)[group][channel])
    return torch.stack(columns, 1)


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_matrix_is_the_hessian_of_the_really_split_network(kind, linear):
    net = graph_cases.network(kind)
    operator = SplittingOperator(net, FEW, F.cross_entropy, linear=linear)
    assert operator.shapes
    for group in operator.shapes:
        channel = net.widths[group] - 1
        expected = oracles.splitting_matrix(net, FEW, group, channel, outgoing=linear == "outgoing")
        found = matrix_of(operator, group, channel)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()) + 1e-15)


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_index_is_its_smallest_eigenvalue(kind, linear):
    net = graph_cases.network(kind)
    index = es.splitting_index(net, FEW, F.cross_entropy, method="exact", linear=linear)
    for group, found in index.items():
        matrix = oracles.splitting_matrix(net, FEW, group, 0, outgoing=linear == "outgoing")
        expected = float(torch.linalg.eigvalsh(matrix)[0])
        assert float(found.value[0]) == pytest.approx(expected, rel=1e-8, abs=1e-15), group


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_predicted_change_is_that_of_real_surgery(kind, linear):
    """All neurons of all groups at once, all of each group, and each neuron by itself."""
    net, batch = graph_cases.network(kind), cases.images(6 if kind in POOLING else 24)
    index = es.splitting_index(net, [batch], F.cross_entropy, sweeps=12, linear=linear)
    able = {name for name, group in net.groups.items() if group.splittable}
    assert set(index) == able if linear == "outgoing" else set(index) <= able
    every = {name: list(range(net.widths[name])) for name in index}
    choices = [every, *({name: channels} for name, channels in every.items())]
    choices += [{name: [channel]} for name, channels in every.items() for channel in channels]
    for chosen in choices:
        step = oracles.step_without_switch(net, batch[0], index, chosen) if kind in POOLING else 1e-3
        predicted = oracles.predicted_change(index, chosen, step)
        realised = oracles.realised_change(net, [batch], index, chosen, step)
        assert realised == pytest.approx(predicted, rel=0.01, abs=2e-15), (chosen, step)
        assert step >= 1e-3 / 100
    assert oracles.predicted_change(index, every, 1.0) < 0


@pytest.mark.parametrize("linear", ["skip", "unit", "outgoing"])
@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_values_of_images_are_those_of_batches_of_one(kind, linear):
    net = graph_cases.network(kind)
    x, y = cases.images(4)
    operator = SplittingOperator(net, [(x, y)], F.cross_entropy, linear=linear)
    vectors = operator.random_vectors(0)
    (part,) = operator.sample.parts()
    (together,) = operator.quadratic(part, [vectors])
    applied = operator.apply(vectors)
    for name, parts in together.items():
        torch.testing.assert_close(parts.sum(0), (applied[name] * vectors[name]).sum(1))
    for image in range(4):
        alone = SplittingOperator(net, [(x[image : image + 1], y[image : image + 1])], F.cross_entropy, linear=linear)
        for name, (value, _) in alone.evaluate(vectors).items():
            torch.testing.assert_close(4 * together[name][image], value, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("linear", ["skip", "unit"])
@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_producer_curvature_counts_no_more_than_the_nonlinearities_behind_producers(kind, linear):
    net = graph_cases.network(kind)
    exact = SplittingOperator(net, [BATCH], F.cross_entropy)
    paper = SplittingOperator(net, [BATCH], F.cross_entropy, curvature="producer", linear=linear)
    bends = [
        {step.op.name for segment in o.segments for step in segment.steps if step.counts and step.op.kind in BENDING}
        for o in (paper, exact)
    ]
    assert bends[0] <= bends[1]
    if linear == "unit":
        assert set(paper.shapes) == {name for name, group in net.groups.items() if group.splittable}
    vectors = paper.random_vectors(0)
    applied = paper.apply(vectors)
    for name, (value, _) in paper.evaluate(vectors).items():
        torch.testing.assert_close(value, (applied[name] * vectors[name]).sum(1))
