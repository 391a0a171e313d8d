"""Providers on a device: who is handed what, and whose word goes first."""

from __future__ import annotations

from typing import Any

import device_tables
import pytest
import torch

from energysplit import models
from energysplit.costs import cost_provider
from energysplit.costs.configured import configured, said_of_tables
from energysplit.costs.marginals import known_marginals
from energysplit.costs.network_price import NetworkPricer
from energysplit.costs.registry import takes
from energysplit.errors import InputError
from energysplit.graph import trace
from energysplit.recipe import HardwareRecipe
from energysplit.types import Cost, LayerCase

DEVICE = HardwareRecipe(profile="generic_45nm", tables="some/tables", strict=True)


class Keeps:
    """Keeps its arguments."""

    unit = "u"

    def __init__(self, **given: Any) -> None:
        self.given = given

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(1.0, self.unit)


class TakesAll(Keeps):
    def __init__(self, profile: object = None, tables: object = None, strict: bool = False, factor: int = 1) -> None:
        super().__init__(profile=profile, tables=tables, strict=strict, factor=factor)


class TakesProfile(Keeps):
    def __init__(self, profile: object = None) -> None:
        super().__init__(profile=profile)


READY = Keeps(ready=True)


def made(name: str, *given: Any) -> dict[str, Any]:
    return configured(f"{__name__}:{name}", *given).given


@pytest.fixture(scope="module", autouse=True)
def importable():
    """This module by its name, which tests in folders without packages don't get."""
    import sys

    sys.modules.setdefault(__name__, sys.modules[Keeps.__module__])


@pytest.fixture(scope="module")
def net():
    return trace(models.build("cnn", widths=[3, 4], in_channels=1, activation="silu"), torch.zeros(2, 1, 8, 8))


def test_a_provider_gets_what_it_takes():
    everything = {"profile": "generic_45nm", "tables": "some/tables", "strict": True, "factor": 1}
    assert made("TakesAll", DEVICE) == everything
    assert made("TakesProfile", DEVICE) == {"profile": "generic_45nm"}
    assert configured(f"{__name__}:READY", DEVICE) is READY
    assert made("TakesAll") == {"profile": None, "tables": None, "strict": False, "factor": 1}
    assert configured("macs", DEVICE).unit == "MAC"
    assert [takes("macs", key) for key in ("profile", "tables")] == [False, False]
    assert [takes("latency", key) for key in ("profile", "tables", "strict")] == [True, True, True]


def test_options_go_first_and_another_profile_has_tables_of_its_own():
    assert made("TakesAll", DEVICE, {"factor": 3})["factor"] == 3
    other = made("TakesAll", DEVICE, {"profile": "eyeriss_65nm"})
    assert (other["profile"], other["tables"], other["strict"]) == ("eyeriss_65nm", None, True)
    assert made("TakesAll", DEVICE, {"tables": "others"})["tables"] == "others"


def test_options_it_does_not_take_are_refused():
    with pytest.raises(InputError, match=r"TakesProfile.*unexpected keyword argument 'factor'.*expected: profile"):
        made("TakesProfile", DEVICE, {"factor": 3})
    with pytest.raises(InputError, match="did you mean 'latency'"):
        configured("latancy", DEVICE)


def test_parts_of_a_sum_get_the_device_too(net, tmp_path):
    device_tables.write_table(tmp_path, net)
    device = HardwareRecipe(tables=str(tmp_path))
    found = configured("weighted", device, {"parts": {"latency": 1e3, "macs": {"weight": 1e-9}}})
    price = NetworkPricer(net, found).price().value
    latency = NetworkPricer(net, cost_provider("latency", tables=tmp_path)).price().value
    assert price == pytest.approx(1e3 * latency + 1e-9 * NetworkPricer(net, "macs").price().value)


def test_a_part_s_own_profile_goes_first():
    def value(*given: Any) -> float:
        return configured("weighted", *given).price(LayerCase("linear", 64, 10)).value

    parts = {"energy": {"weight": 1.0, "profile": "stm32l4r5"}}
    assert value(DEVICE, {"parts": parts}) == value(None, {"parts": parts})
    with_both = {"profile": "stm32l4r5", "parts": {"energy": 1.0}}
    assert value(DEVICE, with_both) == value(None, with_both) == value(None, {"parts": parts})
    assert value(DEVICE, {"parts": {"energy": 1.0}}) != value(None, {"parts": parts})


def test_energy_is_measured_where_the_table_has_it_and_estimated_where_the_profile_does(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = next(iter(net.operations().values()))

    def source(profile: str, tables: str | None = None) -> str:
        return configured("energy", HardwareRecipe(profile=profile, tables=tables)).price(case).source.split(":")[0]

    assert source("generic_45nm") == "estimated"
    device_tables.write_table(tmp_path / "here", net)
    assert source("generic_45nm", "here") == "estimated", "this table has no energies"
    device_tables.write_table(tmp_path / "here", net, cost="energy")
    assert source("generic_45nm", "here") == "interpolated"
    assert source("x86_avx512_2core", "here") == "interpolated", "this profile has no energies"
    device_tables.write_table(tmp_path / "cost_tables" / "x86_avx512_2core", net, cost="energy")
    assert source("x86_avx512_2core") == "interpolated"
    assert configured("energy", None, {"profile": "generic_45nm"}).price(case).source.startswith("estimated")


def test_what_tables_say_of_themselves_is_collected(net, tmp_path):
    device_tables.write_table(tmp_path, net, machine="abacus")
    with said_of_tables() as said:
        configured("latency", HardwareRecipe(tables=str(tmp_path)))
    assert len(said) == 1
    assert "'abacus'" in said[0]
    with pytest.raises(InputError, match="'abacus'"):
        configured("latency", HardwareRecipe(tables=str(tmp_path), strict=True))


def test_a_neuron_outside_the_table_has_no_price(net, tmp_path):
    device_tables.write_table(tmp_path, net, widths=(2, 3, 4))
    found, refusal = known_marginals(NetworkPricer(net, cost_provider("latency", tables=tmp_path)))
    assert found["blocks.0.conv"] > 0
    assert found["blocks.1.conv"] is None, "its 4 channels are the table's widest"
    assert "outside what was measured" in refusal


def test_a_group_that_is_frozen_needs_no_price(net, tmp_path):
    device_tables.write_table(tmp_path, net)
    found, refusal = known_marginals(NetworkPricer(net, cost_provider("latency", tables=tmp_path)))
    assert (found["classifier"], refusal) == (None, "")
