"""What holds for every registered cost provider; a new one is picked up here by being registered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energysplit.costs import cost_provider, names
from energysplit.types import Cost, CostProvider, LayerCase

CASES = {
    "first": LayerCase("conv2d", 3, 8, (3, 3), (2, 2), (1, 1), in_size=(32, 32), out_size=(16, 16), batch_norm=True),
    "pointwise": LayerCase("conv2d", 8, 16, in_size=(16, 16), out_size=(16, 16), bias=True, activation="silu"),
    "depthwise": LayerCase("conv2d", 8, 8, (5, 5), groups=8, in_size=(16, 16), out_size=(16, 16), batch_norm=True),
    "conv1d": LayerCase("conv1d", 8, 16, (1, 5), in_size=(1, 32), out_size=(1, 28)),
    "linear": LayerCase("linear", 64, 10, bias=True),
    "grouped": LayerCase("conv2d", 8, 16, (3, 3), groups=4, in_size=(16, 16), out_size=(16, 16), bias=True),
    "multiplier": LayerCase("conv2d", 8, 24, (3, 3), groups=8, in_size=(16, 16), out_size=(16, 16), bias=True),
    "shared": LayerCase("conv2d", 8, 16, in_size=(16, 16), out_size=(16, 16), bias=True, shared=True),
    "attention": LayerCase("other", 0, 0, in_size=(1, 16), out_size=(1, 16), macs=4096, params=1056),
    "scale": LayerCase("other", 8, 8, params=8),
    "norm": LayerCase("batch_norm", 8, 8, groups=8, in_size=(16, 16), out_size=(16, 16), batch_norm=True),
}


@pytest.fixture(params=[name for name in names() if not name.startswith("doctest")])
def provider(request: pytest.FixtureRequest) -> CostProvider:
    return cost_provider(request.param)


def test_is_a_provider_with_a_unit(provider: CostProvider) -> None:
    assert isinstance(provider, CostProvider)
    assert isinstance(provider.unit, str)
    assert provider.unit
    assert getattr(provider, "combine", "sum") in ("sum", "max")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_price_is_consistent(provider: CostProvider, case: LayerCase) -> None:
    cost = provider.price(case)
    assert isinstance(cost, Cost)
    assert cost.unit == provider.unit
    assert 0 <= cost.low <= cost.value <= cost.high < float("inf")
    assert cost.source.split(":")[0] in ("counted", "measured", "interpolated", "estimated")
    assert provider.price(case) == cost, "the same case has the same price"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_more_channels_never_cost_less(provider: CostProvider, case: LayerCase) -> None:
    if case.op == "other":
        wider = [replace(case, macs=case.macs * k, params=case.params * k) for k in (1, 2, 8)]
    elif case.groups == case.in_channels:  # depthwise, or a batch norm: as many filters a channel as before
        each = case.out_channels // case.in_channels
        wider = [replace(case, in_channels=n, out_channels=n * each, groups=n) for n in (8, 16, 64)]
    else:
        wider = [replace(case, in_channels=case.in_channels * k, out_channels=case.out_channels * k) for k in (1, 2, 8)]
    prices = [provider.price(one).value for one in wider]
    assert prices == sorted(prices)
