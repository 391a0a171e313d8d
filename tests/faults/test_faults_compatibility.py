"""What an earlier version wrote is read for ever: recipes, experiments, profiles, tables, kits, runs, checkpoints.

`python tests/make_fixtures.py` wrote `tests/fixtures/VERSION` with that version, once.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from make_fixtures import FIXTURES, RUNS, image
from typer.testing import CliRunner

import energysplit as es
from energysplit import growth, hardware, models
from energysplit.cli import app
from energysplit.costs.table import CostTable
from energysplit.errors import MeasuredElsewhere
from energysplit.experiment.plan import make_plan
from energysplit.growth import journal
from energysplit.growth.saved import load_saved
from energysplit.output.atomic import write_text
from energysplit.recipe import Recipe, from_dict, load
from energysplit.recipe.changes import changes, completed
from energysplit.recipe.saved import saved_recipe

VERSIONS = sorted(folder.name for folder in FIXTURES.iterdir())
LARGEST = 1 << 20


@pytest.fixture(scope="module", params=VERSIONS)
def there(request, tmp_path_factory):
    """A copy of a version's files, as the working directory."""
    copy = tmp_path_factory.mktemp("version") / request.param
    shutil.copytree(FIXTURES / request.param, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        yield copy


@pytest.fixture
def no_report(monkeypatch):
    """Growths end without their figures, which take longest."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))


def recipe_of(run: Path) -> Recipe:
    """The recipe a run was started with, as `--resume` must find it again."""
    return from_dict(completed(saved_recipe(run)), str(run))


def invoke(*arguments: str) -> str:
    """What a command that succeeds prints."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("version", VERSIONS)
def test_the_files_of_a_version_are_small(version):
    assert sum(file.stat().st_size for file in (FIXTURES / version).rglob("*") if file.is_file()) < LARGEST


def test_recipes_load_and_their_runs_can_be_resumed(there):
    resolved = json.loads((there / "recipes" / "resolved.json").read_text())
    assert len(resolved) >= 12
    for name, said in resolved.items():
        load(there / "recipes" / name)
        assert changes(from_dict(completed(said), name), said) == [], name


def test_experiments_have_the_same_runs(there):
    files = json.loads((there / "experiments" / "runs.json").read_text())
    assert len(files) >= 15
    for name, sizes in files.items():
        for size, runs in sizes.items():
            assert [run.name for run in make_plan(there / "experiments" / name, size).runs] == runs, (name, size)


def test_hardware_profiles_load(there):
    files = sorted((there / "hardware_profiles").glob("*.toml"))
    assert len(files) >= 9
    assert [hardware.load(file).name for file in files] == [file.stem for file in files]


def test_a_cost_table_gives_the_same_price(there):
    net = es.trace(models.build("cnn", widths=[3, 4], in_channels=1, activation="silu"), image()[:1])
    with pytest.warns(MeasuredElsewhere):
        provider = es.cost_provider("latency", tables=there / "cost_tables" / "made_up")
    cost = es.price(net, provider)
    said = json.loads((there / "predictions.json").read_text())["latency"]
    assert {"value": cost.value, "low": cost.low, "high": cost.high} == pytest.approx(said, rel=1e-9)


def test_results_of_a_kit_make_a_table(there):
    invoke("profile", "--import", str(there / "kit" / "results.csv"), "--out", "imported")
    table = CostTable.read(there / "imported")
    assert (table.provenance.machine, table.provenance.networks) == ("AMD EPYC", 12)
    assert {row.case.op for row in table.rows} == {"linear"}


@pytest.mark.parametrize("run", RUNS)
def test_networks_give_the_same_outputs(there, run):
    lines = journal.read(there / "runs" / run / "journal.jsonl")
    nets = [es.load(there / "runs" / run / "stages" / str(line.stage)) for line in lines]
    assert [net.widths for net in nets] == [line.widths for line in lines]
    said = json.loads((there / "predictions.json").read_text())["outputs"][run]
    with torch.no_grad():
        torch.testing.assert_close(nets[-1].module.eval()(image()), torch.tensor(said), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("no_report")
def test_a_finished_run_is_resumed_without_another_stage(there, run):
    folder = there / "runs" / run
    before = (folder / "journal.jsonl").read_bytes()
    result = growth.grow(recipe_of(folder), run_dir=folder, resume=True)
    elsewhere = 2 if run == "priced" else 0  # the machine and the runtime of its table
    assert len(result.warnings) == elsewhere, result.warnings
    assert (folder / "journal.jsonl").read_bytes() == before


@pytest.mark.usefixtures("no_report")
def test_an_unfinished_run_goes_on(there):
    folder = there / "runs" / "unfinished"
    before = (folder / "journal.jsonl").read_bytes()
    assert before.count(b"\n") == 1
    assert (folder / "progress").is_dir()
    result = growth.grow(recipe_of(folder), run_dir=folder, resume=True)
    assert result.warnings == ()
    assert (folder / "journal.jsonl").read_bytes().startswith(before)
    assert [record.stage for record in result.records] == [0, 1, 2]
    # On the machine that wrote them both would be equal; elsewhere sums differ in the last bit.
    other = journal.read(there / "runs" / "grown" / "journal.jsonl")
    assert result.records[1].train.loss == pytest.approx(other[1].train.loss, rel=0.02)


@pytest.mark.parametrize("run", [name for name, changed in RUNS.items() if "baseline" not in changed])
def test_neurons_are_chosen_again(there, run):
    stage = load_saved(there / "runs" / run, recipe_of(there / "runs" / run))
    assert stage.bought is not None
    said = invoke("allocate", f"runs/{run}", "--budget", "macs=1.3x", "--out", "chosen.json")
    assert "macs" in said
    chosen = json.loads((there / "chosen.json").read_text())
    assert chosen["price"]["macs"]["value"] <= chosen["limit"]["macs"]


def test_reports_are_written_again(there, in_full):
    for run in [*RUNS, "unfinished"] if in_full else ["signed"]:
        invoke("report", f"runs/{run}")
        assert "Validation accuracy" in (there / "runs" / run / "report.html").read_text()


def test_runs_are_compared_priced_and_exported(there):
    invoke("compare", "runs/grown", "runs/width_multiplier", "--out", "compared")
    assert "grown against width" in (there / "compared" / "compare.md").read_text()
    assert "macs" in invoke("price", "runs/grown").lower()
    invoke("export", "runs/signed", "--out", "again.onnx")
    assert (there / "again.onnx").stat().st_size > 0
