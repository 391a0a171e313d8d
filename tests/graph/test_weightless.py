"""Pricing: windows of reductions, and that asking for a price changes nothing."""

from __future__ import annotations

import importlib

import graph_cases
import pytest
import torch
from torch import Tensor, nn

import energysplit as es
from energysplit.graph.network import Count

tracing = importlib.import_module("energysplit.graph.trace")  # the package's own name `trace` is the function


class Reduced(nn.Module):
    """A convolution, a reduction over positions, and a layer that reads what is left."""

    def __init__(self, reduction, left: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.fc, self.reduction = nn.Linear(4 * left, 5), reduction

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.reduction(self.act(self.conv(x))).flatten(1))


@pytest.mark.parametrize(
    ("reduction", "left", "out_size", "kernel", "stride"),
    [
        (lambda x: x.mean(3), 6, (1, 6), (1, 8), (1, 8)),
        (lambda x: x.mean(-1), 6, (1, 6), (1, 8), (1, 8)),
        (lambda x: x.sum(2), 8, (1, 8), (6, 1), (6, 1)),
        (lambda x: x.mean(-1, keepdim=True), 6, (6, 1), (1, 8), (1, 8)),
        (lambda x: torch.sum(x, 2, keepdim=True), 8, (1, 8), (6, 1), (6, 1)),
        (lambda x: x.mean((2, 3)), 1, (1, 1), (6, 8), (1, 1)),
        (lambda x: x.mean((2, 3), keepdim=True), 1, (1, 1), (6, 8), (1, 1)),
    ],
)
def test_a_reduction_over_positions_has_the_window_it_reduces(reduction, left, out_size, kernel, stride) -> None:
    net = es.trace(Reduced(reduction, left).eval(), torch.zeros(2, 3, 6, 8))
    (case,) = [case for case in net.operations().values() if case.op == "average_pool"]
    assert (case.in_size, case.out_size, case.kernel, case.stride) == ((6, 8), out_size, kernel, stride)


@pytest.mark.parametrize("name", sorted(graph_cases.KINDS))
def test_pricing_leaves_the_groups_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def priced(walk, names, spaces):
        before = {name: space.reason for name, space in spaces.spaces.items()}
        found = pricing(walk, names, spaces)
        seen.append((before, {name: space.reason for name, space in spaces.spaces.items()}))
        return found

    pricing = tracing.priced
    monkeypatch.setattr(tracing, "priced", priced)
    graph_cases.network(name)
    assert seen
    assert all(before == after for before, after in seen)


def test_channels_in_another_order_are_counted_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def priced(walk, names, spaces):
        kept.append((walk, spaces))
        return pricing(walk, names, spaces)

    pricing = tracing.priced
    monkeypatch.setattr(tracing, "priced", priced)
    es.trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval(), torch.zeros(2, 3, 6, 6))
    walk, spaces = kept[0]
    (labels,) = [visit.outcome.outputs for visit in walk.visits if len(visit.result) > 1 and visit.result[1] == 4][:1]
    assert spaces.count(4, labels) == Count(0, (("0", 1),))
    assert spaces.count(4, labels.flip(0)) == Count(0, (("0", 1),))
    assert spaces.count(9, torch.cat([labels, labels[[2, 0, 3, 1]]])) == Count(1, (("0", 2),))
    assert spaces.count(3, labels[:3]) == Count(3), "a part of a group does not follow it"
    assert spaces.count(6, torch.cat([labels, labels[:2]])) == Count(6)
    assert spaces.count(5, None) == Count(5)
    assert not spaces.spaces["0"].reason
    spaces.spans_of(labels.flip(0), 0, "a test")
    assert "stand in another order in 'a test'" in spaces.spaces["0"].reason
