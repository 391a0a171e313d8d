"""Batch norms folded into convolutions: which, and that nothing of S v changes by it."""

from __future__ import annotations

import cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit.splitting import folding, plan
from energysplit.splitting.operator import SplittingOperator


class Mixed(nn.Module):
    """Convolutions that a batch norm can go into, or can't."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.after_plain = nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(6)
        self.deep, self.after_deep = nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6, affine=False)
        self.twice, self.after_twice = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.pooled, self.after_pooled = nn.Conv2d(6, 5, 1), nn.BatchNorm2d(5)
        self.last, self.after_last = nn.Linear(5, 4), nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        x = F.silu(self.after_plain(self.plain(x)))
        x = F.silu(self.after_deep(self.deep(x)))
        y = self.twice(x)
        x = F.silu(self.after_twice(y) + y)
        x = F.relu(self.after_pooled(F.avg_pool2d(self.pooled(x), 2)))
        return self.out(F.silu(self.after_last(self.last(x.mean((2, 3))))))


def _traced(hooked: str | None = None) -> es.Network:
    torch.manual_seed(0)
    net = es.trace(cases.randomise(Mixed().double()), torch.randn(2, 3, 8, 8).double())
    if hooked:  # one that is there before makes the layer opaque to the trace
        net.module.get_submodule(hooked).register_forward_hook(lambda module, args, result: result)
    return net


def test_a_batch_norm_goes_into_the_convolution_whose_only_reader_it_is():
    net = _traced()
    found = {str(node.target): op.name for node, op in folding.folded(net, "running").items()}
    assert found == {"plain": "after_plain", "deep": "after_deep"}
    assert folding.folded(net, "batch") == {}
    for hooked in ("plain", "after_plain"):
        assert [str(node.target) for node in folding.folded(_traced(hooked), "running")] == ["deep"]


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize(
    ("curvature", "linear"), [("exact", "skip"), ("producer", "unit"), ("exact", "outgoing")], ids=str
)
@pytest.mark.parametrize("kind", ["mixed", "mobilenet"])
def test_folding_changes_nothing_but_rounding(kind, curvature, linear, pays, monkeypatch):
    net = _traced() if kind == "mixed" else cases.network(kind)
    x = torch.randn(6, *net.example_input.shape[1:], generator=torch.Generator().manual_seed(1)).to(net.example_input)
    batch = (x, torch.arange(6) % 3)
    monkeypatch.setattr(folding, "_pays", lambda weight, x: pays)

    def found():
        operator = SplittingOperator(net, [batch], F.cross_entropy, curvature=curvature, linear=linear)
        vectors = operator.random_vectors(0)
        values = operator.evaluate(vectors)
        return operator.apply(vectors), {name: value for name, (value, _) in values.items()}

    folded = found()
    assert folding.folded(net, "running")
    monkeypatch.setattr(plan, "folded", lambda net, statistics: {})
    plain = found()
    for a, b in zip(folded, plain, strict=True):
        for name, expected in b.items():
            torch.testing.assert_close(a[name], expected, rtol=1e-9, atol=1e-12)
            assert expected.abs().max() > 0


def test_a_hook_that_comes_later_changes_nothing():
    """What is folded was settled when the operator was made."""
    net = _traced()
    batch = (torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double(), torch.arange(6) % 3)
    operator = SplittingOperator(net, [batch], F.cross_entropy, cache_bytes=0)
    vectors = operator.random_vectors(0)
    before = operator.apply(vectors)
    net.module.get_submodule("after_plain").register_forward_hook(lambda *_: None)
    after = operator.apply(vectors)
    assert all(torch.equal(after[name], value) for name, value in before.items())
