"""After growth: what was predicted beside what was measured, and what happens when nothing can be measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import device_tables
import growth_runs
import pytest

from energysplit import growth
from energysplit.costs.table import Provenance
from energysplit.errors import EnergysplitError
from energysplit.growth import measured
from energysplit.growth.measured import measure_run
from energysplit.hardware.detect import machine
from energysplit.measure import device_run, meters
from energysplit.measure.samples import ModelSamples, Results, Samples
from energysplit.output.measured import MEASURED_FILE, read_measured
from energysplit.output.numbers import quantity
from energysplit.output.report import write_report
from energysplit.progress import SilentProgress
from energysplit.records import CostRecord

HERE = machine().processor


class Lines(SilentProgress):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def recipe(tables: Path, **sections):
    """One growth under a latency budget, exported."""
    return growth_runs.tiny(
        **{
            "train": {"epochs": 1},
            "growth": {"stages": 1},
            "budget": [{"provider": "latency", "limit": "1.1x", "scope": "stage"}],
            "export": {"onnx": True},
            "hardware": {"tables": str(tables)},
        }
        | sections
    )


@pytest.fixture(scope="module")
def seed():
    setup = growth.setup.prepare(growth_runs.tiny())
    setup.session.close()
    return setup.seed


@pytest.fixture(scope="module")
def tables(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("tables") / "here"
    device_tables.write_table(folder, seed)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tables):
    folder = tmp_path_factory.mktemp("measured") / "run"
    progress = Lines()
    return folder, growth.grow(recipe(tables), run_dir=folder, progress=progress), progress.lines


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run that was not measured yet, with its records and providers."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    (folder / MEASURED_FILE).unlink()
    return folder


def made_up_samples(monkeypatch, seconds=(2e-3,) * 20, reference=(1e-3,) * 20, joules=()):
    """Samples in place of a measurement; counts the calls."""
    calls = []

    def samples(*given):
        calls.append(given)
        model = ModelSamples("model", Samples(seconds, reference), (), joules, first_s=2e-3, session_s=1e-2)
        return Results(Path("results.csv"), {}, {"model": model}, {}), model

    monkeypatch.setattr(measured, "_samples", samples)
    return calls


def provider(tables, **changes):
    """The latency provider, as if its table said something else."""
    from energysplit.costs import cost_provider

    made = cost_provider("latency", tables=tables)
    made.provenance = made.provenance.model_copy(update=changes)
    return made


def test_a_latency_budget_is_kept_under_its_own_name(finished):
    _, result, _ = finished
    before, after = result.records
    assert list(after.prices) == ["macs", "params", "latency"]
    assert list(before.growth.allocation.price) == ["latency"]
    assert before.prices["latency"].value < after.prices["latency"].value <= 1.1 * before.prices["latency"].value
    assert after.prices["latency"].low == pytest.approx(0.96 * after.prices["latency"].value)
    assert after.prices["latency"].source.startswith("interpolated")


def test_the_exported_model_is_measured_beside_its_prediction(finished):
    folder, result, lines = finished
    assert result.warnings == ()
    found = read_measured(folder)
    assert found.weights_sha256 == result.records[-1].weights_sha256
    assert list(found.prices) == ["latency"]
    latency = found.prices["latency"]
    assert latency.predicted == result.records[-1].prices["latency"]
    assert 0 < latency.measured.low <= latency.measured.median <= latency.measured.high
    assert latency.measured.samples == latency.plain.samples == measured.ROUNDS
    assert latency.ratio == latency.measured.median / latency.predicted.value
    assert (latency.machine, latency.execution_provider, latency.threads) == (HERE, "CPUExecutionProvider", 1)
    assert latency.runtime.startswith("onnxruntime ")
    assert any(line == f"latency: {latency.sentence}" for line in lines)


def test_the_report_shows_both(finished):
    folder, _, _ = finished
    latency = read_measured(folder).prices["latency"]
    for text in ((folder / "report.md").read_text(), (folder / "report.html").read_text()):
        assert "Predicted against measured" in text
        for value in (latency.predicted.value, latency.measured.median, latency.measured.low, latency.measured.high):
            assert quantity(value, "s") in text
        assert HERE in text


def test_the_command_line_says_both(finished):
    from energysplit.cli.grow import _comparisons

    folder, result, _ = finished
    assert _comparisons(result) == [f"latency: {read_measured(folder).prices['latency'].sentence}"]


def test_a_resumed_run_is_not_measured_again(finished, tables, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = (folder / MEASURED_FILE).read_bytes()
    calls = made_up_samples(monkeypatch)
    result = growth.grow(recipe(tables), run_dir=folder, resume=True)
    assert (calls, result.warnings) == ([], ())
    assert (folder / MEASURED_FILE).read_bytes() == before
    assert "Predicted against measured" in (folder / "report.md").read_text()


def test_measured_is_the_ratio_times_the_table_s_reference(finished, run, tables, monkeypatch):
    made_up_samples(monkeypatch, seconds=(2e-3, 4e-3, 6e-3) * 7, reference=(1e-3, 2e-3, 3e-3) * 7)
    assert measure_run(run, finished[1].records, {"latency": provider(tables, reference_s=5e-4)}, Lines()) == []
    found = read_measured(run).prices["latency"]
    # Twice the reference whatever the clock does, and the reference took half a millisecond: one millisecond.
    assert (found.measured.median, found.measured.low, found.measured.high) == pytest.approx((1e-3,) * 3)
    assert found.plain.median == 4e-3
    assert found.reference_s == 5e-4
    assert any("not steady" in text for text in found.warnings)


def test_another_machine_s_table_is_said_and_not_measured(finished, run, tables, monkeypatch):
    calls = made_up_samples(monkeypatch)
    elsewhere = provider(tables, machine="abacus", runtime_version="0.1")
    (text,) = measure_run(run, finished[1].records, {"latency": elsewhere}, Lines())
    assert text.startswith("latency of model.onnx was not measured: its table was measured on 'abacus', used for ")
    assert HERE in text
    assert (calls, (run / MEASURED_FILE).exists()) == ([], False)


@pytest.mark.parametrize(
    ("changes", "here"),
    [
        ({}, True),
        ({"machine": "  ".join(HERE.split())}, True),
        ({"machine": "abacus"}, False),
        ({"runtime_version": "0.1"}, False),
        ({"runtime": "TFLite"}, False),
    ],
)
def test_machine_and_runtime_must_be_the_table_s(tables, changes, here):
    assert (measured._elsewhere(provider(tables, **changes).provenance) == "") is here


def test_a_failure_is_one_warning_and_is_tried_again(finished, run, tables, monkeypatch):
    def fails(*given):
        raise EnergysplitError("the disk\nis full")

    monkeypatch.setattr(measured, "_samples", fails)
    result = growth.grow(recipe(tables), run_dir=run, resume=True)
    assert result.warnings == ("latency of model.onnx was not measured: the disk is full; --resume tries again",)
    assert result.records == finished[1].records
    assert result.report.exists()
    assert not (run / MEASURED_FILE).exists()
    assert "Predicted against measured" not in (run / "report.md").read_text()
    made_up_samples(monkeypatch)
    again = growth.grow(recipe(tables), run_dir=run, resume=True)
    assert again.warnings == ()
    assert read_measured(run).prices["latency"].plain.median == 2e-3


def test_any_error_at_all_leaves_the_run_finished(finished, run, tables, monkeypatch):
    monkeypatch.setattr(measured, "read_measured", lambda path: 1 / 0)
    (text,) = measure_run(run, finished[1].records, {"latency": provider(tables)}, Lines())
    assert text == "model.onnx was not measured: ZeroDivisionError: division by zero; --resume tries again"


def test_one_price_that_fails_does_not_lose_the_other(finished, run, tables, monkeypatch):
    made_up_samples(monkeypatch)
    both = {"latency": provider(tables), "latency#2": provider(tables, machine="abacus")}
    last = finished[1].records[-1]
    last = last.model_copy(update={"prices": {**last.prices, "latency#2": last.prices["latency"]}})
    (text,) = measure_run(run, [last], both, Lines())
    assert text.startswith("latency#2 of model.onnx was not measured")
    found = read_measured(run)
    assert (list(found.prices), list(found.not_measured)) == (["latency"], ["latency#2"])
    report = write_report(run, recipe(tables).resolved(), [last]).with_suffix(".md").read_text()
    assert "Latency \\#2 was not measured: its table was measured on" in report


def test_a_damaged_file_is_said_and_measured_again(finished, run, tables, monkeypatch):
    (run / MEASURED_FILE).write_text("{")
    write_report(run, recipe(tables).resolved(), finished[1].records)
    assert "measured.json is damaged" in (run / "report.md").read_text().replace("\\", "")
    made_up_samples(monkeypatch)
    (text,) = measure_run(run, finished[1].records, {"latency": provider(tables)}, Lines())
    assert "measured.json is damaged" in text
    assert text.endswith("; measured again")
    assert read_measured(run).prices["latency"].plain.median == 2e-3


def test_another_network_s_measurement_is_not_shown(finished, tables, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    other = finished[1].records[-1].model_copy(update={"weights_sha256": "0" * 64})
    write_report(run, recipe(tables).resolved(), [finished[1].records[0], other])
    assert "Predicted against measured" not in (run / "report.md").read_text()


def test_nothing_is_measured_where_nobody_wants_it(finished, run, tables, tmp_path):
    for sections in ({"export": {"onnx": True, "measure": False}}, {"export": {"onnx": False}}):
        folder = tmp_path / "_".join(sections["export"])
        growth.grow(recipe(tables, growth={"stages": 0}, **sections), run_dir=folder)
        assert not (folder / MEASURED_FILE).exists()
    assert measure_run(run, finished[1].records, {}, Lines()) == []


def energy_table() -> Provenance:
    return Provenance(
        cost="energy", unit="J", machine=HERE, system="", runtime="onnxruntime", runtime_version="1",
        execution_provider="CPUExecutionProvider", threads=1, precision="fp32", date="", command="",
    )  # fmt: skip


ENERGY = CostRecord(value=2.0, unit="J", low=1.0, high=3.0, source="interpolated")


def test_energy_without_a_meter_is_none_and_says_why(finished, monkeypatch):
    monkeypatch.setattr(meters, "find_meter", lambda provider: meters.NoMeter("no counter here"))
    found = measured._compared(finished[0] / "model.onnx", ENERGY, energy_table(), Lines())
    assert (found.measured, found.ratio, found.plain) == (None, None, None)
    assert found.warnings == ("no energy was measured: no counter here",)
    assert found.sentence == "predicted 2 J, not measured: no energy was measured: no counter here"


def test_energy_is_what_the_meter_reads(finished, monkeypatch):
    monkeypatch.setattr(meters, "find_meter", lambda provider: meters.ReplayMeter([3.0] * 9))
    calls = made_up_samples(monkeypatch, joules=(3.0, 4.0, 5.0))
    found = measured._compared(finished[0] / "model.onnx", ENERGY, energy_table(), Lines())
    assert (found.measured.median, found.measured.samples, found.ratio) == (4.0, 3, 2.0)
    assert found.plain == found.measured
    assert isinstance(calls[0][2], meters.ReplayMeter)


def test_an_exported_model_is_measured_with_a_meter_in_this_process(finished, monkeypatch):
    monkeypatch.setattr(measured, "ROUNDS", 2)
    meter = meters.ReplayMeter([1.5] * device_run.ENERGY_WINDOWS)
    _, samples = measured._samples(finished[0] / "model.onnx", energy_table(), meter, SilentProgress())
    assert len(samples.energy_j) == device_run.ENERGY_WINDOWS
    assert samples.energy.coverage >= 0.95
    assert all(joules > 0 for joules in samples.energy_j)
    assert len(samples.network.values_s) == 2


def test_a_dry_run_says_where_the_table_ends(seed, tmp_path, tables):
    assert not any("has no price" in text for text in growth.plan(recipe(tables)).warnings)
    device_tables.write_table(tmp_path, seed, widths=(2, 3, 4), machine="abacus")
    elsewhere, ends = growth.plan(recipe(tmp_path)).warnings
    assert "'abacus'" in elsewhere
    assert ends.startswith("latency has no price for a wider network: ")


def test_a_table_of_another_machine_is_a_warning_of_the_run(seed, tmp_path):
    device_tables.write_table(tmp_path / "tables", seed, machine="abacus")
    sections = {"growth": {"stages": 0}, "export": {"onnx": False}}
    result = growth.grow(recipe(tmp_path / "tables", **sections), run_dir=tmp_path / "run")
    assert len(result.warnings) == 1
    assert "'abacus'" in result.warnings[0]


def test_prices_of_one_provider_on_two_devices_have_their_own_names(tmp_path):
    first = {"provider": "energy", "limit": "1.5x", "scope": "stage", "options": {"profile": "generic_45nm"}}
    budgets = [first, {**first, "options": {"profile": "stm32l4r5"}}, {"provider": "macs", "limit": "2x"}]
    sections = {"growth": {"stages": 1}, "train": {"epochs": 1}, "budget": budgets}
    before, after = growth.grow(growth_runs.tiny(**sections), run_dir=tmp_path / "run").records
    assert list(after.prices) == ["macs", "params", "energy#1", "energy#2"]
    assert "generic_45nm" in after.prices["energy#1"].source
    assert "stm32l4r5" in after.prices["energy#2"].source
    bought = before.growth.allocation
    assert list(bought.price) == ["energy:stage#1", "energy:stage#2", "macs"]
    for name in ("energy#1", "energy#2"):
        assert after.prices[name].value <= 1.5 * before.prices[name].value
