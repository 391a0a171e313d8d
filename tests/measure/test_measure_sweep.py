"""Sweeps: what is measured when, how one goes on, what a table of known networks says; and a kit, there and back."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import device_tables
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import energysplit as es
from energysplit import models
from energysplit.cli import app
from energysplit.costs.table import CostTable
from energysplit.errors import InputError
from energysplit.graph import trace
from energysplit.measure import alignment, build, networks, sweep
from energysplit.measure.family import Family
from energysplit.measure.kit import read_attachment
from energysplit.measure.meters import ReplayMeter
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.plan import RESULTS_FILE, PlanOptions
from energysplit.measure.profiling import doubts, imported, write_tables
from energysplit.measure.rows import NetworkRows, energy_rows, latency_rows
from energysplit.measure.summary import Summary
from energysplit.measure.sweep import FOLDER, Sweep, SweepOptions
from energysplit.measure.template import Template
from energysplit.progress import SilentProgress

PLAN = PlanOptions(rounds=2, burst_s=0.001, warmup_s=0.001, batch=4)
OPTIONS = SweepOptions(minutes=0.0, plan=PLAN)


def traced(name="cnn", **options):
    options = {"widths": [6, 8], "in_channels": 1, **options} if name == "cnn" else options
    return trace(models.build(name, **options).eval(), torch.zeros(1, 1, 8, 8))


@pytest.fixture(scope="module")
def family():
    return Family.scaled("cnn", traced(), 0.5, 2.0)


@pytest.fixture(scope="module")
def other():
    """Another family."""
    return Family.scaled("mlp", traced("mlp"))


class Lines(SilentProgress):
    """A progress that keeps its lines."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def run(families, out, minutes=0.0, **options):
    progress = Lines()
    found = Sweep(families, out, replace(OPTIONS, minutes=minutes, **options), progress=progress)
    found.run()
    return found, progress.lines


def groups(out):
    return sorted(path.parent.name for path in (out / FOLDER).glob(f"*/{RESULTS_FILE}"))


def noted(out, group):
    """The layer cases of each network of a group."""
    found, _ = networks.read(read_attachment(out / FOLDER / group / RESULTS_FILE), group)
    return [network.cases for network in found.values()]


def test_a_family_s_corners_hold_all_it_draws(family):
    assert family.image == (1, 8, 8)
    assert family.low == {"blocks.0.conv": 3, "blocks.1.conv": 4}
    assert family.high == {"blocks.0.conv": 12, "blocks.1.conv": 16}
    generator = random.Random(0)
    drawn = [family.draw(generator) for _ in range(200)]
    assert all(family.low[name] <= width <= family.high[name] for widths in drawn for name, width in widths.items())
    assert len({tuple(widths.values()) for widths in drawn}) > 30
    assert sum(widths["blocks.1.conv"] % 8 == 0 for widths in drawn) > 60, "most at widths that people choose"
    assert family.corners() == [dict(family.low), dict(family.high)]


def test_growth_reaches_what_its_budgets_let_one_group_reach(monkeypatch):
    monkeypatch.setattr(Template, "of", lambda net: None)  # takes seconds, and says nothing of widths
    seed = traced()
    limit = 2 * es.price(seed, "macs").value
    macs = es.cost_provider("macs")
    grown = Family.grown("seed", seed, [(macs, limit), (es.cost_provider("params"), 1e12)], stages=9)
    assert grown.low == {name: seed.widths[name] for name in grown.low}
    for name, width in grown.high.items():
        assert es.price(seed, "macs", {name: width}).value <= limit < es.price(seed, "macs", {name: width + 1}).value
    # A stage doubles a group at most, and where no budget says more, that is all there is to say.
    for limits in ([], [(macs, 1e12)]):
        assert Family.grown("seed", seed, limits, stages=2).high == {n: 4 * width for n, width in grown.low.items()}


def test_a_sweep_begins_with_the_corners_and_goes_on(family, tmp_path):
    first, lines = run([family], tmp_path)
    assert groups(tmp_path) == ["000"]
    corners = [MeasuredNetwork.of("", "", family.image, family.cases(widths)).cases for widths in family.corners()]
    assert noted(tmp_path, "000")[:2] == corners
    assert len(first.measured) == 4
    assert lines[-1] == "time is up (0 minutes): cnn: error not known yet"
    assert not list(tmp_path.rglob("n*.onnx")), "the notes say all there is to them"
    kept = (tmp_path / FOLDER / "000" / RESULTS_FILE).read_bytes()

    second, lines = run([family], tmp_path)
    assert lines[0] == "going on: 4 networks were measured already"
    assert groups(tmp_path) == ["000"], "time was up at once"
    assert [item.network.name for item in second.measured] == [item.network.name for item in first.measured]

    # One more group, whatever the machine: the clock stands still until it is measured.
    third = Sweep([family], tmp_path, OPTIONS)
    third._measure(family, next(third._open_groups()))
    assert groups(tmp_path) == ["000", "001"]
    assert (tmp_path / FOLDER / "000" / RESULTS_FILE).read_bytes() == kept
    assert len(third.measured) == 8
    assert len(third.errors["cnn"]) == 2, "half of a group are predicted before they count"
    assert noted(tmp_path, "001")[0] not in corners


def test_other_families_are_refused(family, other, tmp_path):
    run([family], tmp_path)
    with pytest.raises(InputError, match=r"holds networks of cnn at 1x8x8, which this command does not measure; give"):
        Sweep([other], tmp_path, OPTIONS)
    # Both together go on: the family that was not measured comes next.
    both, _ = run([family, other], tmp_path)
    assert [network.family for network in both.networks.values()].count("mlp") == 4
    assert both._next() is not None


@pytest.mark.parametrize("cut", ["a network", "a line", "the header"])
def test_a_group_that_was_cut_short_is_measured_again(family, tmp_path, cut):
    found, _ = run([family], tmp_path)
    found._measure(family, 1)
    path = tmp_path / FOLDER / "001" / RESULTS_FILE
    text = path.read_text()
    rows = text.index("n001_3")
    path.write_text({"a network": text[:rows], "a line": text[: rows + 9], "the header": text[40:]}[cut])
    again = Sweep([family], tmp_path, OPTIONS)
    assert [part.path.parent.name for part in again.results] == ["000"]
    again._measure(family, next(again._open_groups()))
    assert groups(tmp_path) == ["000", "001"]
    assert len(again.measured) == len(found.measured) == 8
    if cut != "the header":  # what was whole is kept
        assert path.read_text().splitlines()[-1].startswith("n001_3,session")
        kept = [line for line in text.splitlines() if line.startswith("n001_0,")]
        assert [line for line in path.read_text().splitlines() if line.startswith("n001_0,")] == kept


def test_networks_that_a_kill_left_in_a_group_that_was_done_are_removed(family, tmp_path):
    """Between the last result and the removal."""
    run([family], tmp_path)
    left = tmp_path / FOLDER / "000" / "n000_3.onnx"
    left.write_bytes(b"a network")
    run([family], tmp_path)
    assert groups(tmp_path) == ["000"], "time was up at once"
    assert not left.exists()


def test_results_of_other_networks_with_the_same_names_are_not_taken(family, other, tmp_path):
    """Such as when families are given in another order after an interruption."""
    found, _ = run([family], tmp_path)
    path = tmp_path / FOLDER / "000" / RESULTS_FILE
    path.write_text(path.read_text()[: path.read_text().index("n000_3")])
    again, _ = run([other, family], tmp_path)
    assert next(iter(again.networks.values())).family == "mlp"
    for item in again.measured:
        assert len(item.ratios) == len(item.network.cases)
    ran = {node.op_type for node in again.results[0].models["n000_0"].nodes}
    assert not any("Conv" in kind for kind in ran), "the rows kept are the other family's own"
    assert len(found.measured) == 4


def test_a_group_lost_in_the_middle_is_filled_in(family, tmp_path):
    found, _ = run([family], tmp_path)
    for number in (1, 2):
        found._measure(family, number)
    kept = (tmp_path / FOLDER / "002" / RESULTS_FILE).read_bytes()
    (tmp_path / FOLDER / "001" / RESULTS_FILE).unlink()
    again = Sweep([family], tmp_path, OPTIONS)
    numbers = again._open_groups()
    assert [next(numbers), next(numbers)] == [1, 3]
    again._measure(family, 1)
    assert (tmp_path / FOLDER / "002" / RESULTS_FILE).read_bytes() == kept


def test_the_time_left_is_said_in_minutes_then_in_seconds(family, tmp_path, monkeypatch):
    """A clock that goes half a minute each time it is looked at: twice for each group."""
    ticks = itertools.count(0, 30)
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    _, lines = run([family], tmp_path / "two", minutes=2.0)
    assert [line.partition("; ")[2] for line in lines] == ["at most 1 minute left", "at most 0 seconds left", ""]
    assert lines[-1].startswith("time is up (2 minutes): ")
    ticks = itertools.count(0, 29.5)
    _, lines = run([family], tmp_path / "one", minutes=1.0)
    assert [line.partition("; ")[2] for line in lines] == ["at most 1 second left", ""]
    assert lines[-1].startswith("time is up (1 minute): ")


def test_it_ends_when_networks_are_predicted_well_enough(family, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_FIRST", 4)
    monkeypatch.setattr(sweep, "_LEAST", 8)
    monkeypatch.setattr(sweep, "_RECENT", 2)
    found, lines = run([family], tmp_path, minutes=60.0, target=1e9)
    assert lines[-1].startswith("done: cnn: error ")
    assert len(found.measured) == 8
    assert "8 networks, cnn: error" in lines[-2]
    # Half of what came after the first was taken where the table was least sure.
    assert len(set(noted(tmp_path, "001"))) >= 3


def test_an_energy_meter_fills_energies(family, tmp_path, monkeypatch):
    from energysplit.measure import device_run

    monkeypatch.setattr(device_run, "ENERGY_WINDOW_S", 0.002)
    meter = ReplayMeter({f"n000_{place}": [1.0, 1.0, 1.0] for place in range(3)})
    found = Sweep([family], tmp_path, OPTIONS, meter)
    found.run()
    assert [item.energy_j is None for item in found.measured] == [False, False, False, True]


# Tables of networks whose costs are known.

REFERENCE_S = 1e-3


def measured(net, count, overhead_s=0.0, seed=0, noise=0.01, energy=True, family="cnn"):
    """Networks at random widths whose operations cost what `device_tables.made_up` says, and that constant."""
    generator, noises = random.Random(seed), np.random.default_rng(seed)
    free = {name: width for name, width in net.widths.items() if net.groups[name].splittable}
    result = []
    for number in range(count):
        whole = {0: 0.5, 1: 2.0}.get(number)
        widths = {name: round(width * (whole or generator.uniform(0.5, 2.0))) for name, width in free.items()}
        network = MeasuredNetwork.of(f"n{number}", family, (1, 8, 8), net.operations(widths).values())
        costs = np.array([device_tables.made_up(case) for case in network.cases]) / REFERENCE_S
        ratios = costs[:, None] * np.exp(noise * noises.standard_normal((len(costs), 12)))
        total = Summary.of(ratios.sum(axis=0) + overhead_s / REFERENCE_S)
        energy_j = 2.0 * total.median * REFERENCE_S if energy else None  # two watts
        result.append(NetworkRows(network, ratios, total, energy_j))
    return result


SAID = {
    "machine": "A CPU",
    "system": "Linux",
    "runtime": "onnxruntime",
    "runtime_version": "1",
    "execution_provider": "CPUExecutionProvider",
    "threads": 1,
    "precision": "fp32",
    "date": "2026-01-01",
    "command": "made up",
}


@pytest.fixture(scope="module")
def wide():
    return traced(widths=[24, 32])


def test_the_table_of_known_networks(wide):
    truth = 3e-6
    found = build.table(measured(wide, 60, overhead_s=truth), REFERENCE_S, SAID)
    said = found.provenance
    assert (said.cost, said.unit, said.networks, said.reference_s) == ("latency", "s", 60, REFERENCE_S)
    assert said.overhead == pytest.approx(truth, rel=0.1)
    assert said.overhead_low <= truth <= said.overhead_high
    (family,) = said.families
    assert (family.model, family.image, family.networks, family.within_10) == ("cnn", (1, 8, 8), 60, 1.0)
    assert family.mean_error < 0.02
    assert family.mean_error <= said.network_error < 0.04
    for row in found.rows:
        assert row.median == pytest.approx(device_tables.made_up(row.case), rel=0.02)
        assert row.low <= row.median <= row.high
        assert row.samples % 12 == 0
    exact = [item.case for item in found.rows]
    assert len(exact) == len(set(exact)), "one case, one row, of all networks that hold it"


def test_without_a_constant_there_is_no_overhead(wide):
    said = build.table(measured(wide, 40, noise=0.002), REFERENCE_S, SAID).provenance
    smallest = min(item.total.median for item in measured(wide, 40)) * REFERENCE_S
    assert said.overhead < 0.01 * smallest
    assert build.overhead_of([]) == (0.0, 0.0, 0.0)


def test_each_family_has_an_error_of_its_own(wide):
    noisy = measured(traced(widths=[24, 32], activation="silu"), 40, noise=0.3, seed=1, family="noisy")
    noisy = [replace(item, network=replace(item.network, name=f"m{place}")) for place, item in enumerate(noisy)]
    said = build.table([*measured(wide, 40), *noisy], REFERENCE_S, SAID).provenance
    by_name = {family.model: family for family in said.families}
    assert by_name["cnn"].mean_error < 0.5 * by_name["noisy"].mean_error


def test_few_networks_hold_nothing_out(wide):
    said = build.table(measured(wide, 6), REFERENCE_S, SAID).provenance
    assert (said.families, said.network_error, said.overhead, said.networks) == ((), None, 0.0, 6)


def test_energies_are_divided_like_the_time(wide):
    items = measured(wide, 30)
    found = build.table(items, REFERENCE_S, {**SAID, "meter": "replay"}, "energy")
    assert (found.provenance.unit, found.provenance.meter) == ("J", "replay")
    for row in found.rows:
        assert row.unit == "J"
        assert row.median == pytest.approx(2.0 * device_tables.made_up(row.case), rel=0.05)
    assert found.provenance.network_error < 0.1
    some = [*items[:3], *(replace(item, energy_j=None) for item in items[3:])]
    assert {row.case for row in energy_rows(some)} == {case for item in items[:3] for case in item.network.cases}
    assert build.table(some, REFERENCE_S, SAID, "energy").provenance.networks == 3
    assert energy_rows(measured(wide, 3, energy=False)) == []
    with pytest.raises(InputError, match="nothing to make a energy table of: no network was measured"):
        build.table(measured(wide, 3, energy=False), REFERENCE_S, SAID, "energy")


def test_rows_are_seconds(wide):
    items = measured(wide, 4)
    for one, other in zip(latency_rows(items, 1e-3), latency_rows(items, 2e-3), strict=True):
        assert other.median == pytest.approx(2 * one.median)
        assert one.unit == "s"


# Multiples of channels.


def steps(multiple, noise=0.0, seed=0, constant=10.0):
    """Times of layers whose channels are padded to a multiple: medians of twelve rounds."""
    generator = np.random.default_rng(seed)
    return {
        width: (constant + -(-width // multiple) * multiple)
        * float(np.median(np.exp(noise * generator.standard_normal(12))))
        for width in alignment.WIDTHS
    }


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16, 32])
def test_the_multiple_of_padded_channels_is_found(multiple):
    assert alignment.multiple_of(steps(multiple, constant=0.0)) == multiple if multiple > 1 else 1


def test_the_multiple_is_found_in_noise():
    found = [alignment.multiple_of(steps(16, noise=0.02, seed=seed)) for seed in range(40)]
    assert max(found) == 16
    assert found.count(16) >= 36


def test_widths_that_are_slower_than_their_next_multiple_pay_for_it():
    # As ONNX Runtime on x86: multiples of 4 run in blocks of 16, the others by another, slower kernel.
    times = {width: -(-width // 16) * (1 if width % 4 == 0 else 1.2 + 0.01 * width) for width in alignment.WIDTHS}
    assert alignment.multiple_of(times) == 16
    with pytest.raises(InputError, match="no widths were measured"):
        alignment.multiple_of({})


# A kit, there and back.


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of a kit that was made by the command, unpacked and run, with fewer rounds."""
    folder = tmp_path_factory.mktemp("kit")
    arguments = ["profile", "--kit", str(folder / "tiny.zip"), "--model", "mlp", "--networks", "12"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "tiny.zip: 44 networks. On the device: unzip it, then 'python" in " ".join(done.stdout.split())
    zipfile.ZipFile(folder / "tiny.zip").extractall(folder)
    kit = folder / "tiny"
    plan = json.loads((kit / "plan.json").read_text())
    assert len(plan["models"]) == 44
    (kit / "plan.json").write_text(json.dumps({**plan, "rounds": 3, "burst_s": 0.002, "warmup_s": 0.001}))
    blocked = (
        "import sys, runpy\n"
        "sys.modules.update(energysplit=None, torch=None, onnx=None)\n"
        "sys.argv = ['device_run.py', '.']\n"
        "runpy.run_path('device_run.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", blocked], cwd=kit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return kit / RESULTS_FILE


def test_what_a_kit_measured_prices_the_model_here(results, tmp_path):
    out = tmp_path / "table"
    done = CliRunner().invoke(app, ["profile", "--import", str(results), "--out", str(out)])
    assert done.exit_code == 0, done.output
    table = CostTable.read(out, "latency")
    said = table.provenance
    assert (said.networks, said.precision, said.threads, said.unit) == (12, "fp32", 1, "s")
    assert said.machine == said.machine.strip() != ""
    assert said.reference_s > 0
    assert said.multiple_of in (1, 2, 4, 8, 16, 32)
    assert {row.case.op for row in table.rows} == {"linear"}
    assert (out / "alignment.csv").read_text().splitlines()[0] == "width,median,low,high,samples,unit"
    assert len((out / "alignment.csv").read_text().splitlines()) == 1 + len(alignment.WIDTHS)
    net = traced("mlp")
    provider = es.cost_provider("latency", tables=out)
    cost = es.price(net, provider)
    assert 0 < cost.low <= cost.value <= cost.high
    assert cost.unit == "s"
    assert not list(out.glob("energy-*"))


def test_results_come_back_with_their_notes(results):
    found, known, widths, said = imported(results)
    assert said == {"precision": "fp32", "device": "this_machine"}
    assert sorted(widths) == list(alignment.WIDTHS)
    assert len(known) == 12
    assert {network.family for network in known.values()} == {"mlp"}
    assert set(known) <= set(found.models)
    assert all(isinstance(text, str) and text for text in doubts([found]))


def test_results_of_two_machines_make_no_table(results, tmp_path):
    found, known, _, _ = imported(results)
    other = replace(found, header={**found.header, "cpu": "abacus"}, path=tmp_path / "other.csv")
    with pytest.raises(InputError, match=r"other\.csv was measured with cpu = 'abacus', .*one table, one machine"):
        write_tables(tmp_path, [found, other], known, command="made up", precision="fp32")
    with pytest.raises(InputError, match="no network was measured, so there is no table"):
        write_tables(tmp_path, [], {}, command="made up", precision="fp32")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "ends in the middle of a line|has no end"),
        (lambda text: text.replace("# attachment=", "# attachment=A", 1), "the attachment was cut or changed"),
        (lambda text: "x" + text, "expected the results|results.csv"),
    ],
)
def test_damaged_results_are_refused(results, tmp_path, damage, message):
    path = tmp_path / RESULTS_FILE
    path.write_text(damage(results.read_text()))
    done = CliRunner().invoke(app, ["profile", "--import", str(path), "--out", str(tmp_path / "table")])
    assert done.exit_code == 2
    assert re.search(message, done.stderr)
    assert not (tmp_path / "table").exists()


def test_notes_survive(wide):
    item = measured(wide, 1)[0].network
    text = networks.written([item], precision="int8")
    known, more = networks.read(text, "here")
    assert known == {item.name: item}
    assert more == {"precision": "int8"}
    for broken in ("", "[]", text.replace('"version": 1', '"version": 2'), text.replace('"op"', '"kind"')):
        with pytest.raises(InputError, match="here: what was measured can't be read from it"):
            networks.read(broken, "here")
