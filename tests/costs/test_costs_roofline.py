"""Times against the two roofs by hand."""

from __future__ import annotations

from typing import Any

import pytest

from energysplit import hardware
from energysplit.costs import cost_provider
from energysplit.errors import InputError
from energysplit.types import LayerCase

LINEAR = LayerCase("linear", 64, 10, bias=True)  # 640 MACs, 724 elements
CONV = LayerCase("conv2d", 64, 64, (3, 3), (1, 1), (1, 1), in_size=(16, 16), out_size=(16, 16))


def number(value: float, unit: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    low, high = value if low is None else low, value if high is None else high
    return {"value": value, "low": low, "high": high, "unit": unit, "source": "measured: by a test"}


def toy(**more: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "description": "a toy",
        "kind": "cpu",
        "compute": {"fp32": {"peak": number(1e9, "MAC/s", 0.5e9, 2e9)}, "int8": {"peak": number(4e9, "MAC/s")}},
        "memory": [
            {"name": "cache", "capacity": number(4 * 724, "B"), "bandwidth": number(1e9, "B/s", 0.8e9, 1.6e9)},
            {"name": "DRAM", "bandwidth": number(1e8, "B/s")},
        ],
        **more,
    }


def test_memory_limits_a_linear_layer() -> None:
    cost = cost_provider("roofline", profile=hardware.from_dict(toy())).price(LINEAR)
    assert cost.value == pytest.approx(4 * 724 / 1e9)
    assert (cost.low, cost.high) == (pytest.approx(4 * 724 / 1.6e9), pytest.approx(4 * 724 / 0.8e9))
    assert cost.unit == "s"
    assert cost.source == "estimated: roofline of profile toy, fp32, limited by the bandwidth of cache"


def test_what_does_not_fit_the_cache_comes_from_farther_away() -> None:
    larger = LayerCase("linear", 64, 11, bias=True)
    cost = cost_provider("roofline", profile=hardware.from_dict(toy())).price(larger)
    assert cost.value == pytest.approx(4 * (64 * 11 + 11 + 64 + 11) / 1e8)
    assert "bandwidth of DRAM" in cost.source


def test_what_fits_nowhere_takes_the_farthest_level() -> None:
    tree = toy()
    del tree["memory"][1]
    cost = cost_provider("roofline", profile=hardware.from_dict(tree)).price(LayerCase("linear", 64, 1000))
    assert cost.value == pytest.approx(4 * (64_000 + 64 + 1000) / 1e9)


def test_arithmetic_limits_a_convolution() -> None:
    cost = cost_provider("roofline", profile=hardware.from_dict(toy())).price(CONV)
    macs = 64 * 64 * 9 * 256
    assert cost.value == pytest.approx(macs / 1e9)
    assert (cost.low, cost.high) == (pytest.approx(macs / 2e9), pytest.approx(macs / 0.5e9))
    assert cost.source.endswith("limited by the peak")


def test_kernels_take_time_to_start() -> None:
    without, with_it = (
        cost_provider("roofline", profile=hardware.from_dict(tree)).price(LINEAR)
        for tree in (toy(), toy(kernel_overhead=number(1e-6, "s", 0.5e-6, 3e-6)))
    )
    assert with_it.value - without.value == pytest.approx(1e-6)
    assert with_it.low - without.low == pytest.approx(0.5e-6)
    assert with_it.high - without.high == pytest.approx(3e-6)


def test_precision_changes_both_roofs() -> None:
    int8 = cost_provider("roofline", profile=hardware.from_dict(toy()), precision="int8")
    assert int8.price(CONV).value == pytest.approx(64 * 64 * 9 * 256 / 4e9)
    assert int8.price(LINEAR).value == pytest.approx(724 / 1e9)


def test_operations_without_weights_take_time() -> None:
    pool = LayerCase("max_pool", 8, 8, (2, 2), (2, 2), groups=8, in_size=(4, 4), out_size=(2, 2))
    provider = cost_provider("roofline", profile=hardware.from_dict(toy()))
    assert provider.every_operation  # type: ignore[attr-defined]
    assert provider.price(pool).value == pytest.approx(4 * (128 + 32) / 1e9)


def test_missing_numbers_are_named() -> None:
    with pytest.raises(InputError, match=r"'generic_45nm' can't give a roofline: missing compute.int8.peak, memory.1"):
        cost_provider("roofline", profile="generic_45nm")
    with pytest.raises(InputError, match=r"missing memory.0.bandwidth; add"):
        cost_provider("roofline", profile=hardware.from_dict(toy(memory=[])))
    with pytest.raises(InputError, match=r"missing a required argument: 'profile'"):
        cost_provider("roofline")


def test_this_kind_of_host_is_priced() -> None:
    provider = cost_provider("roofline", profile="x86_avx512_2core")
    cost = provider.price(CONV)
    assert 9_437_184 * 4 / 1e12 < cost.value < 9_437_184 / 1e9, "between 250 G and 1 G MACs a second"
