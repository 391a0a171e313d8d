"""Energy meters: units, sums, missing parts, and that a meter that is not there answers None."""

from __future__ import annotations

import math
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from energysplit.errors import InputError, MissingExtra
from energysplit.measure import meters
from energysplit.measure.meters import EnergyMeter, NoMeter, ReplayMeter, ZeusMeter, find_meter, joules_of, sensible


def measurement(gpu=None, cpu=None, dram=None, soc=None):
    return SimpleNamespace(gpu_energy=gpu or {}, cpu_energy=cpu, dram_energy=dram, soc_energy=soc)


class Monitor:
    """Stands for zeus.monitor.ZeusMonitor: the same two calls, fixed answers."""

    def __init__(self, answer=None, cpus=(0,), gpus=(), soc=False):
        self.answer, self.calls = answer, []
        self.cpu_indices, self.gpu_indices, self.soc_is_present = list(cpus), list(gpus), soc
        self.soc = SimpleNamespace()

    def begin_window(self, key, sync_execution=True, restart=False):
        self.calls.append(("begin", key, sync_execution, restart))

    def end_window(self, key, sync_execution=True, cancel=False):
        self.calls.append(("cancel" if cancel else "end", key, sync_execution))
        return self.answer


def test_all_meters_keep_the_contract():
    for meter in (NoMeter("why"), ReplayMeter([1.0]), ZeusMeter("cpu", Monitor(measurement(cpu={0: 1.0})))):
        assert isinstance(meter, EnergyMeter)
        assert meter.name


@pytest.mark.parametrize("wrong", [0.0, -0.1, math.nan, math.inf, None])
def test_a_window_without_a_sensible_answer_is_none(wrong):
    assert sensible(wrong) is None
    meter = ReplayMeter([wrong, 2.0])
    meter.begin()
    assert meter.end() is None
    meter.begin()
    assert meter.end() == 2.0
    if wrong is not None:
        zeus = ZeusMeter("cpu", Monitor(measurement(cpu={0: wrong})))
        zeus.begin()
        assert zeus.end() is None


def test_packages_and_memory_add_up_in_joules():
    answer = measurement(gpu={0: 100.0}, cpu={0: 3.0, 1: 4.0}, dram={0: 0.5})
    assert joules_of(answer, "cpu") == 7.5
    assert joules_of(answer, "gpu") == 100.0
    assert joules_of(measurement(cpu={0: 3.0}), "cpu") == 3.0
    assert joules_of(measurement(gpu={0: 1.0}), "cpu") is None
    assert joules_of(measurement(), "gpu") is None


def test_a_system_on_a_chip_answers_in_millijoules():
    apple = SimpleNamespace(cpu_total_mj=1500, dram_mj=500, gpu_mj=250, gpu_sram_mj=None, ane_mj=10)
    assert joules_of(measurement(soc=apple), "cpu") == 2.0
    assert joules_of(measurement(soc=apple), "gpu") == 0.25
    jetson = SimpleNamespace(cpu_energy_mj=120.0, gpu_energy_mj=80.0, total_energy_mj=400.0)
    assert joules_of(measurement(soc=jetson), "cpu") == pytest.approx(0.12)
    assert joules_of(measurement(soc=SimpleNamespace(cpu_total_mj=None)), "cpu") is None


def test_zeus_windows_wait_for_no_framework_and_forget_open_ones():
    monitor = Monitor(measurement(cpu={0: 1.0, 1: 2.0}), cpus=(0, 1))
    meter = ZeusMeter("cpu", monitor)
    meter.begin()
    assert meter.end() == 3.0
    assert monitor.calls == [("begin", "energysplit", False, True), ("end", "energysplit", False)]
    assert "2 CPU packages" in meter.name


def test_zeus_without_a_counter_says_so():
    with pytest.raises(InputError, match="zeus finds no energy counter of the cpu here"):
        ZeusMeter("cpu", Monitor(cpus=()))
    with pytest.raises(InputError, match="zeus finds no energy counter of the gpu here: no NVIDIA"):
        ZeusMeter("gpu", Monitor())


def test_zeus_that_is_not_installed_is_silent_until_asked_for(monkeypatch):
    monkeypatch.setattr(meters, "find_spec", lambda name: None)
    meter = find_meter()
    assert isinstance(meter, NoMeter)
    assert "needs the package zeus" in meter.reason
    meter.begin()
    assert meter.end() is None
    with pytest.raises(MissingExtra, match=r"extra 'energy'.*pip install 'energysplit\[energy\]'"):
        find_meter(required=True)


def fake_zeus(monkeypatch, tmp_path, monitor):
    """An importable package zeus whose monitor is the one given."""
    (tmp_path / "monitor").mkdir(parents=True)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(meters, "find_spec", lambda name: spec)
    module = ModuleType("zeus.monitor")
    module.ZeusMonitor = lambda: monitor
    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.monitor", module)


def test_the_meter_fits_the_execution_provider(monkeypatch, tmp_path):
    fake_zeus(monkeypatch, tmp_path, Monitor(measurement(gpu={0: 5.0}, cpu={0: 1.0}), gpus=(0,)))
    cpu, gpu = find_meter("CPUExecutionProvider"), find_meter("CUDAExecutionProvider")
    for meter, joules in ((cpu, 1.0), (gpu, 5.0)):
        meter.begin()
        assert meter.end() == joules
    assert gpu.name == "zeus: 1 GPUs"


def test_installed_without_counters_is_silent_until_asked_for(monkeypatch, tmp_path):
    fake_zeus(monkeypatch, tmp_path, Monitor(cpus=()))
    assert "zeus finds no energy counter" in find_meter().reason
    with pytest.raises(InputError, match="zeus finds no energy counter"):
        find_meter(required=True)


def test_another_package_called_zeus_is_not_taken_for_it(monkeypatch, tmp_path):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(meters, "find_spec", lambda name: spec)
    assert not meters.zeus_is_installed()


def test_replay_answers_in_order_and_by_network():
    meter = ReplayMeter({"a": [1.0, 2.0], "b": [3.0]})
    found = []
    for model in ("a", "b", "a", "a", "c"):
        meter.about(model)
        meter.begin()
        found.append(meter.end())
    assert found == [1.0, 3.0, 2.0, None, None]
    with pytest.raises(InputError, match="call begin"):
        meter.end()


class OldMonitor(Monitor):
    """zeus 0.11: no `restart`."""

    def begin_window(self, key, sync_execution=True):
        raise AssertionError("never called: the argument restart is refused before")


def test_an_older_zeus_is_one_message_with_both_versions(monkeypatch, tmp_path):
    fake_zeus(monkeypatch, tmp_path, OldMonitor())
    monkeypatch.setattr(meters, "package_version", lambda name: "0.11.0")
    with pytest.raises(InputError, match=r"zeus 0\.11\.0 can't be used \(.*restart.*; zeus 0\.15\.1 or later is"):
        find_meter(required=True)
    assert "zeus 0.11.0 can't be used" in find_meter().reason
    older = Monitor()
    del older.soc_is_present
    fake_zeus(monkeypatch, tmp_path / "again", older)
    with pytest.raises(InputError, match=r"zeus 0\.11\.0 can't be used \(.*soc_is_present"):
        find_meter(required=True)


def test_the_extra_asks_for_the_zeus_that_is_needed():
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"]["energy"] == [f"zeus>={meters.OLDEST_ZEUS}"]


def test_the_window_that_tries_a_meter_is_thrown_away(monkeypatch, tmp_path):
    monitor = Monitor(measurement(cpu={0: 1.0}))
    fake_zeus(monkeypatch, tmp_path, monitor)
    find_meter()
    assert monitor.calls == [("begin", "energysplit", False, True), ("cancel", "energysplit", False)]
