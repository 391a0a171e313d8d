"""Prices kept up to date are those of the whole network, after any walk, for sums and maxima."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

import energysplit as es
from energysplit.allocation.budgets import resolve
from energysplit.allocation.ledger import Ledger, Touched
from energysplit.types import Budget, Cost, LayerCase


class Steps:
    """A made-up table with steps of four channels and an overhead."""

    unit = "us"
    overhead = Cost.exact(7.3, "us", "estimated")

    def price(self, case: LayerCase) -> Cost:
        padded = -(-case.out_channels // 4) * 4 * -(-case.in_channels // case.groups // 4) * 4
        return Cost.exact(1.1 + 0.013 * padded * case.out_size[0], self.unit, "estimated")


class Branches(nn.Module):
    """A residual sum and a concatenation, so that layers follow several groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.left, self.right = nn.Conv2d(5, 4, 1), nn.Conv2d(5, 6, 1)
        self.join = nn.Conv2d(10, 5, 1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        y = torch.cat([self.left(x).relu(), self.right(x).sigmoid()], 1)
        return self.fc((self.join(y) + x).relu().mean((2, 3)))


@pytest.mark.parametrize("shape", ["chain", "branches"])
def test_any_walk(shape: str, chain: Callable) -> None:
    net = chain([4, 5, 3], True) if shape == "chain" else es.trace(Branches(), torch.zeros(2, 3, 8, 8))
    limits = resolve(net, [Budget("macs", "3x"), Budget(Steps(), "2x"), Budget("peak_memory", "2x")], None)
    ledger = Ledger(limits, Touched(limits), net.widths)
    draw = random.Random(0)
    names = [name for name, group in net.groups.items() if group.splittable]
    assert len(names) >= 3

    def whole(widths: dict[str, int]) -> list[float]:
        return [limit.pricer.value(widths) for limit in limits]

    for _ in range(60):
        name, width = draw.choice(names), draw.randint(1, 20)
        after = ledger.after(name, width)
        assert ledger.values == pytest.approx(whole(ledger.widths), rel=1e-12), "asking changes nothing"
        before = dict(ledger.widths)
        ledger.set(name, width)
        assert ledger.widths == {**before, name: width}
        assert ledger.values == pytest.approx(after, rel=1e-12)
        assert ledger.values == pytest.approx(whole(ledger.widths), rel=1e-12)
        assert ledger.inside() == all(
            value <= limit.limit for value, limit in zip(whole(ledger.widths), limits, strict=True)
        )


def test_a_limit_met_exactly_is_met(chain: Callable) -> None:
    net = chain([4, 5])
    exact = [Budget("macs", float(es.price(chain([6, 5]), "macs").value))]
    limits = resolve(net, exact, None)
    ledger = Ledger(limits, Touched(limits), net.widths)
    assert ledger.after("conv0", 6) == [limits[0].limit]
    ledger.set("conv0", 6)
    assert ledger.inside()
