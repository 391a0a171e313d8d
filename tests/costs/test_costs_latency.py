"""The provider of measured latencies: what a network's price is made of, and tables that are another machine's."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from importlib import metadata

import device_tables
import pytest
import torch

from energysplit import models
from energysplit.costs import NetworkPricer, cost_provider, price
from energysplit.costs.latency import Latency
from energysplit.errors import InputError, MeasuredElsewhere
from energysplit.graph import trace
from energysplit.hardware import HardwareProfile, detect, this_machine
from energysplit.types import LayerCase

WIDTHS = (2, 3, 4, 6, 8, 10, 12, 16)


@pytest.fixture(scope="module")
def net():
    return trace(models.build("cnn", widths=[3, 4], in_channels=1), torch.zeros(2, 1, 8, 8))


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    """A made-up table of this machine: 2 us overhead, 4 % error."""
    folder = tmp_path_factory.mktemp("latency") / "table"
    device_tables.write_table(folder, net, WIDTHS)
    return folder


@pytest.fixture
def quiet():
    """Warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_network_is_the_sum_of_its_operations_and_one_overhead(net, folder, quiet):
    provider = cost_provider("latency", tables=folder)
    pricer = NetworkPricer(net, provider)
    parts = pricer.layers()
    assert list(parts) == list(net.operations())
    assert any(case.op == "average_pool" for case in net.operations().values()), "what has no weights has a price too"
    total = pricer.price()
    assert total.value == pytest.approx(math.fsum(cost.value for cost in parts.values()) + 2e-6, rel=1e-12)
    assert pricer.value({}) == total.value
    made_up = sum(device_tables.made_up(case) for case in net.operations().values())
    assert total.value == pytest.approx(made_up + 2e-6, rel=0.03)
    assert total.unit == "s"
    assert "measured: fitted to whole networks" in total.source


def test_a_network_s_interval_is_its_measured_error(net, folder, quiet):
    total = price(net, cost_provider("latency", tables=folder))
    assert total.low == pytest.approx(0.96 * total.value)
    assert total.high == pytest.approx(1.04 * total.value)


def test_a_neuron_more_pays_no_overhead(net, folder, quiet):
    provider, first = cost_provider("latency", tables=folder), next(iter(net.groups))
    before, after = (
        math.fsum(provider.price(case).value for case in net.operations(widths).values()) for widths in ({}, {first: 4})
    )
    assert NetworkPricer(net, provider).marginal({}, first) == pytest.approx(after - before, rel=1e-9)


def test_without_overhead_and_error_intervals_add_up(net, tmp_path, quiet):
    device_tables.write_table(
        tmp_path, net, WIDTHS, overhead=0.0, overhead_low=0.0, overhead_high=0.0, network_error=None, multiple_of=8
    )
    provider = cost_provider("latency", tables=str(tmp_path))
    assert (provider.overhead, provider.network_error, provider.multiple_of) == (None, None, 8)
    pricer = NetworkPricer(net, provider)
    total, parts = pricer.price(), pricer.layers().values()
    assert total.high == pytest.approx(math.fsum(cost.high for cost in parts))
    assert total.low == pytest.approx(math.fsum(cost.low for cost in parts))
    assert total.low <= total.value <= total.high


def test_what_else_is_alive_changes_no_price(net, folder, quiet):
    provider = cost_provider("latency", tables=folder)
    for case in net.operations().values():
        assert case.live > 0
        assert provider.price(case) == provider.price(replace(case, live=0)) == provider.price(replace(case, live=7))


def test_what_was_not_measured_is_refused(net, folder, quiet):
    provider = cost_provider("latency", tables=folder)
    with pytest.raises(InputError, match=rf"{folder}: nothing like this was measured: linear 1x1.*energysplit profile"):
        provider.price(LayerCase("linear", 8, 8, activation="gelu"))
    with pytest.raises(InputError, match=rf"{folder}: .* is outside what was measured there, .*--widths LOW,HIGH'"):
        price(net, provider, {next(iter(net.groups)): 40})


def profile(**said):
    found = this_machine().model_dump(exclude_none=True)
    return HardwareProfile.model_validate({**found, "name": "mine", **said})


def test_the_table_of_a_profile_is_found_by_its_name(net, tmp_path, monkeypatch, quiet):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cost_tables.mine: holds no latency table \(no such folder\)"):
        Latency(profile())
    device_tables.write_table(tmp_path / "cost_tables" / "mine", net, WIDTHS)
    assert Latency(profile()).price(next(iter(net.operations().values()))).value > 0
    with pytest.raises(InputError, match="elsewhere: holds no latency table"):
        Latency(profile(), tables="elsewhere")


def test_a_device_is_needed():
    with pytest.raises(
        InputError,
        match=r"cost 'latency': give tables=FOLDER, .* or profile=NAME, .* \(in a recipe under \[hardware\]; on the "
        r"command line --tables, --profile\)$",
    ):
        cost_provider("latency")


HERE = detect.machine().processor

OTHERS = {
    "machine": ({"machine": "abacus"}, {}, rf"measured on 'abacus', used for '{HERE}'"),
    "threads": ({"threads": 4}, {"threads": 2}, "measured with threads = 4, the profile says 2"),
    "precision": ({}, {"precision": "int8"}, "measured with precision = 'fp32', the profile says 'int8'"),
    "execution provider": (
        {"execution_provider": "XExecutionProvider"},
        {},
        "measured with execution_provider = 'XExecutionProvider', the profile says 'CPUExecutionProvider'",
    ),
    "runtime": (
        {"runtime_version": "0.1"},
        {},
        f"measured with onnxruntime 0.1, onnxruntime {metadata.version('onnxruntime')} is installed here",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_table_of_another_device_is_a_warning_with_both_names(net, tmp_path, kind):
    table, device, said = OTHERS[kind]
    device_tables.write_table(tmp_path, net, (3, 4), **table)
    device = profile(**device)
    with pytest.warns(MeasuredElsewhere) as caught:
        found = Latency(device, tables=tmp_path)
    assert found.unit == "s"
    texts = [str(item.message) for item in caught]
    assert len(texts) == 1
    assert texts[0].startswith(f"{tmp_path}: ")
    assert said.replace("(", "").replace(")", "") in texts[0].replace("(", "").replace(")", "")
    with pytest.raises(InputError) as refused:
        Latency(device, tables=tmp_path, strict=True)
    assert str(refused.value) == f"{texts[0]}; measure here with 'energysplit profile', or leave out strict"


def test_without_a_profile_the_table_is_to_be_of_this_machine(net, tmp_path, folder, quiet):
    Latency(tables=folder, strict=True)
    device_tables.write_table(tmp_path, net, (3, 4), machine="abacus", threads=9)
    with pytest.raises(InputError, match="measured on 'abacus', used for"):
        Latency(tables=tmp_path, strict=True)


def test_a_profile_of_another_machine_wants_that_machine_s_table(net, tmp_path, quiet):
    device_tables.write_table(tmp_path, net, (3, 4), machine="abacus", runtime_version="0.1")
    Latency(profile(processor="abacus"), tables=tmp_path, strict=True)  # what is installed here does not matter
    with pytest.raises(InputError, match="measured on 'abacus', used for 'slide rule'"):
        Latency(profile(processor="slide rule"), tables=tmp_path, strict=True)
