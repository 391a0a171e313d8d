"""Vectors of neurons and moves of weights are the same numbers, in the order of the channels."""

from __future__ import annotations

import graph_cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit.splitting.layout import Layout
from energysplit.types import SplitIndex


def layout_of(net: es.Network, outgoing: bool = True) -> Layout:
    return Layout(net, [name for name, group in net.groups.items() if group.splittable], outgoing)


def random_vectors(layout: Layout) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in layout.shapes.items()}


@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_vectors_come_back_from_directions(kind):
    net = graph_cases.network(kind)
    layout = layout_of(net)
    vectors = random_vectors(layout)
    index = {}
    for name, (rows, columns) in layout.directions(vectors).items():
        group = net.groups[name]
        assert tuple(rows) == group.movers
        assert tuple(columns) == group.consumers
        for layer, move in (rows | columns).items():
            assert move.shape == net.weight(layer).shape
            assert move.is_contiguous()
        norm = sum(float(move.square().sum()) for move in rows.values())
        norm += sum(float(move.square().sum()) for move in columns.values()) / oracles.outgoing_scale(net, name) ** 2
        assert norm == pytest.approx(float(vectors[name].square().sum()))
        nothing = torch.zeros(group.channels)
        index[name] = SplitIndex(nothing, rows, None, nothing, 1, "", outgoing=columns)
    for name, back in layout.vectors(index).items():
        torch.testing.assert_close(back, vectors[name])


def test_moves_of_groups_that_share_a_weight_add_up():
    net = graph_cases.network("dense")
    layout = layout_of(net)
    vectors = random_vectors(layout)
    together = layout.moves(vectors)
    single = [layout.moves({name: v}) for name, v in vectors.items()]
    for layer, move in together.columns.items():
        parts = [moves.columns[layer] for moves in single if layer in moves.columns]
        torch.testing.assert_close(move, sum(parts))
        assert len(parts) == {"a": 1, "b": 2, "head": 3}[layer]


def test_a_neuron_of_a_grouped_convolution_has_a_row_in_every_group():
    net = graph_cases.network("grouped")
    layout = layout_of(net, outgoing=False)
    vectors = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in layout.shapes.items()}
    vectors["layers.2.0"][1] = 1
    rows, columns = layout.directions(vectors)["layers.2.0"]
    moved = rows["layers.2.0"].flatten(1).any(1)
    assert moved.nonzero().flatten().tolist() == [1, 5]
    assert not columns


def test_without_outgoing_directions_columns_stay():
    net = graph_cases.network("residual")
    layout = layout_of(net)
    rows = layout_of(net, outgoing=False)
    vectors = random_vectors(rows)
    index = {
        name: SplitIndex(torch.zeros(len(v)), rows.directions(vectors)[name][0], None, torch.zeros(len(v)), 1, "")
        for name, v in vectors.items()
    }
    for name, found in layout.vectors(index).items():
        dims = rows.shapes[name][1]
        torch.testing.assert_close(found[:, :dims], vectors[name])
        assert not found[:, dims:].any()


@pytest.mark.parametrize("zero", ["0", "2"])
def test_scale_is_one_where_a_side_is_zero(zero):
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    nn.init.zeros_(module.get_submodule(zero).weight)
    net = es.trace(module, torch.zeros(2, 4, dtype=torch.float64))
    assert [part.scale for part in layout_of(net).parts["0"]] == [1.0, 1.0]
    index = es.splitting_index(
        net,
        [(torch.randn(8, 4, dtype=torch.float64), torch.zeros(8, dtype=torch.long))],
        F.cross_entropy,
        linear="outgoing",
    )
    assert torch.isfinite(index["0"].value).all()
