"""MACs and elements of each kind of case, counted by hand; and the reference networks' published MACs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from energysplit.costs import cost_provider
from energysplit.costs.traffic import Traffic, traffic
from energysplit.types import LayerCase

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MAP = 16 * 16

CONV = LayerCase("conv2d", 8, 16, (3, 3), padding=(1, 1), in_size=(16, 16), out_size=(16, 16), bias=True)
HAND = {
    "convolution": (CONV, Traffic(16 * 8 * 9 * MAP, 16 * 8 * 9 + 16, 8 * MAP, 16 * MAP)),
    "batch norm folds into the bias": (
        replace(CONV, bias=False, batch_norm=True),
        Traffic(16 * 8 * 9 * MAP, 16 * 8 * 9 + 16, 8 * MAP, 16 * MAP),
    ),
    "shared weights are read again": (
        replace(CONV, shared=True),
        Traffic(16 * 8 * 9 * MAP, 16 * 8 * 9 + 16, 8 * MAP, 16 * MAP),
    ),
    "1x1 with stride 2 reads a quarter": (
        LayerCase("conv2d", 8, 16, stride=(2, 2), in_size=(16, 16), out_size=(8, 8)),
        Traffic(16 * 8 * 64, 16 * 8, 8 * 64, 16 * 64),
    ),
    "depthwise": (
        LayerCase("conv2d", 8, 8, (3, 3), padding=(1, 1), groups=8, in_size=(16, 16), out_size=(16, 16)),
        Traffic(8 * 9 * MAP, 8 * 9, 8 * MAP, 8 * MAP),
    ),
    "conv1d": (
        LayerCase("conv1d", 4, 6, (1, 5), in_size=(1, 32), out_size=(1, 28)),
        Traffic(6 * 4 * 5 * 28, 6 * 4 * 5, 4 * 32, 6 * 28),
    ),
    "linear": (LayerCase("linear", 64, 10, bias=True), Traffic(640, 650, 64, 10)),
    "batch norm": (
        LayerCase("batch_norm", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4), batch_norm=True),
        Traffic(128, 16, 128, 128),
    ),
    "attention": (
        LayerCase("other", 0, 0, in_size=(1, 16), out_size=(1, 16), macs=4096, params=1056, live=512),
        Traffic(4096, 1056, 512, 0),
    ),
    "layer norm": (LayerCase("other", 8, 8, macs=0, params=16, live=999), Traffic(0, 16, 8, 8)),
    "max pool": (
        LayerCase("max_pool", 8, 8, (2, 2), (2, 2), groups=8, in_size=(16, 16), out_size=(8, 8)),
        Traffic(8 * 64 * 4, 0, 8 * MAP, 8 * 64),
    ),
    "global average pool": (
        LayerCase("average_pool", 8, 8, (16, 16), groups=8, in_size=(16, 16)),
        Traffic(8 * MAP, 0, 8 * MAP, 8),
    ),
    "add": (
        LayerCase("add", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4)),
        Traffic(256, 0, 256, 128),
    ),
    "multiply": (
        LayerCase("multiply", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4)),
        Traffic(256, 0, 256, 128),
    ),
    "activation": (
        LayerCase("activation", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4), activation="silu"),
        Traffic(128, 0, 128, 128),
    ),
    "move": (LayerCase("move", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4)), Traffic(0, 0, 128, 128)),
}


@pytest.mark.parametrize(("case", "expected"), HAND.values(), ids=HAND)
def test_counted_by_hand(case: LayerCase, expected: Traffic) -> None:
    assert traffic(case) == expected
    assert traffic(case).elements == sum(expected[1:])


@pytest.mark.parametrize("case", [case for case, _ in HAND.values() if case.op in ("conv1d", "conv2d", "linear")])
def test_macs_are_those_of_the_provider(case: LayerCase) -> None:
    assert traffic(case).macs == cost_provider("macs").price(case).value


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's module of reference networks."""
    name = "tiny_networks"
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_the_reference_networks_have_their_published_macs(networks: ModuleType) -> None:
    """ResNet-8: a figure of 12,502,272 is in use too; it has the last layer's 640 MACs twice."""
    found = {
        name: sum(traffic(case).macs for case in cases if networks.kind(case))
        for name, cases in networks.NETWORKS.items()
    }
    assert found == {"AD": 264_192, "KWS": 2_656_768, "VWW": 7_489_664, "IC": 12_501_632}


def test_the_reference_networks_have_their_published_parameters(networks: ModuleType) -> None:
    """As Keras counts them: four numbers for each channel of a batch norm, which is folded here."""
    found = {
        name: sum(traffic(case).weights + 4 * case.out_channels * case.batch_norm for case in cases)
        for name, cases in networks.NETWORKS.items()
    }
    assert found == {"AD": 269_992, "KWS": 24_908, "VWW": 221_794, "IC": 78_666}


def test_the_reference_networks_sizes_follow_each_other(networks: ModuleType) -> None:
    for cases in networks.NETWORKS.values():
        for before, after in pairwise(cases):
            if "add" not in (before.op, after.op) and after.kernel != (1, 1):
                assert after.in_size == before.out_size
                assert after.in_channels == before.out_channels
