"""What holds for every registered cost provider; a new one is picked up here by being registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import device_tables
import pytest
from priceable import EveryLayerFollowsAll

from energysplit.costs import cost_provider, names
from energysplit.types import WEIGHTLESS, Cost, CostProvider, LayerCase, SplitGroup

# Arguments of each provider, made with an empty folder to put a table in.
ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "macs": lambda folder: {},
    "params": lambda folder: {},
    "energy": lambda folder: {"profile": "generic_45nm"},
    "roofline": lambda folder: {"profile": "x86_avx512_2core"},
    "latency": lambda folder: {"tables": _table(folder)},
    "peak_memory": lambda folder: {},
    "weighted": lambda folder: {"parts": {"roofline": 0.5, "macs": 1e-9}, "profile": "x86_avx512_2core"},
}
# Measured tables have steps, where more channels may take less time; what is counted has none.
MONOTONE = ("macs", "params", "energy", "roofline", "peak_memory", "weighted")
UNITS = {"macs": "MAC", "params": "param", "latency": "s", "roofline": "s", "energy": "J", "peak_memory": "B"}

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

MAP = LayerCase("add", 8, 8, groups=8, in_size=(16, 16), out_size=(16, 16), live=8 * 3 * 256)
OPERATIONS = {
    "add": MAP,
    "multiply": replace(MAP, op="multiply"),
    "activation": replace(MAP, op="activation", activation="silu"),
    "move": replace(MAP, op="move"),
    "max_pool": replace(MAP, op="max_pool", kernel=(2, 2), stride=(2, 2), out_size=(8, 8)),
    "average_pool": replace(MAP, op="average_pool", kernel=(16, 16), out_size=(1, 1)),
    "live": replace(CASES["pointwise"], live=12_345),
}


class Listed(EveryLayerFollowsAll):
    """A network that is a list of operations."""

    def __init__(self, cases: list[LayerCase]) -> None:
        self.groups: dict[str, SplitGroup] = {}
        self.widths: dict[str, int] = {}
        self._cases = {str(place): case for place, case in enumerate(cases)}

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        return {name: case for name, case in self._cases.items() if case.op not in WEIGHTLESS}

    def operations(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        return self._cases


def _table(folder: Path) -> Path:
    """A made-up table that holds the cases above, and more widths of each."""
    cases = [*CASES.values(), *OPERATIONS.values()]
    for case in [case for case in cases if case.op != "other"]:
        depthwise = case.groups == case.in_channels
        for factor in (0.5, 0.75, 1.25, 1.5, 2, 3, 4, 6, 8, 10):
            c_in, c_out = int(factor * case.in_channels), int(factor * case.out_channels)
            cases.append(replace(case, in_channels=c_in, out_channels=c_out, groups=c_in if depthwise else case.groups))
    device_tables.write_table(folder, Listed(cases))
    return folder


NAMES = [name for name in names() if not name.startswith("doctest")]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in ARGUMENTS:
        pytest.fail(f"provider {request.param!r} is registered, but ARGUMENTS above does not say how to build it")
    return request.param


@pytest.fixture
def provider(name: str, tmp_path: Path) -> CostProvider:
    return cost_provider(name, **ARGUMENTS[name](tmp_path))


def test_every_kind_of_operation_is_tried() -> None:
    assert {case.op for case in OPERATIONS.values()} >= set(WEIGHTLESS)


def test_is_a_provider_with_a_unit(name: str, provider: CostProvider) -> None:
    assert isinstance(provider, CostProvider)
    assert isinstance(provider.unit, str)
    assert provider.unit == UNITS.get(name, provider.unit) != ""
    assert getattr(provider, "combine", "sum") in ("sum", "max")
    assert getattr(provider, "every_operation", False) in (True, False)


def test_overhead_and_network_error_are_well_formed(provider: CostProvider) -> None:
    overhead, error = getattr(provider, "overhead", None), getattr(provider, "network_error", None)
    if overhead is not None:
        check(provider, overhead)
        assert getattr(provider, "combine", "sum") == "sum"
    assert error is None or 0 <= error < float("inf")


def check(provider: CostProvider, cost: Cost) -> None:
    assert isinstance(cost, Cost)
    assert cost.unit == provider.unit
    assert 0 <= cost.low <= cost.value <= cost.high < float("inf")
    assert cost.source.split(":")[0] in ("counted", "measured", "interpolated", "estimated")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_price_is_consistent(provider: CostProvider, case: LayerCase) -> None:
    cost = provider.price(case)
    check(provider, cost)
    assert provider.price(case) == cost, "the same case has the same price"


@pytest.mark.parametrize("case", OPERATIONS.values(), ids=OPERATIONS)
def test_a_provider_that_asks_for_every_operation_prices_it(name: str, provider: CostProvider, case: LayerCase) -> None:
    if not getattr(provider, "every_operation", False):
        assert name in ("macs", "params"), "what takes time, energy or memory sees every operation"
        return
    cost = provider.price(case)
    check(provider, cost)
    assert cost.value > 0 or case.op == "move", "everything that runs costs something"
    assert provider.price(case) == cost


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_more_channels_never_cost_less(name: str, provider: CostProvider, case: LayerCase) -> None:
    if name not in MONOTONE:
        assert name not in ("macs", "params")
        return
    if case.op == "other":
        wider = [replace(case, macs=case.macs * k, params=case.params * k) for k in (1, 2, 8)]
    elif case.groups == case.in_channels:  # depthwise, or a batch norm: as many filters a channel as before
        each = case.out_channels // case.in_channels
        wider = [replace(case, in_channels=n, out_channels=n * each, groups=n) for n in (8, 16, 64)]
    else:
        wider = [replace(case, in_channels=case.in_channels * k, out_channels=case.out_channels * k) for k in (1, 2, 8)]
    prices = [provider.price(one).value for one in wider]
    assert prices == sorted(prices)
