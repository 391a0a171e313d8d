"""A growth by fresh neurons, whole: what its journal and report say, that it goes on, and that it is solved again."""

from __future__ import annotations

import itertools
import json
import math
import shutil

import growth_runs
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from energysplit import growth
from energysplit.cli import app
from energysplit.output.comparison_compute import training_computes
from energysplit.output.indices import load_index

FRESH = {"index": {"method": "fresh"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh") / "run"
    return folder, growth.grow(growth_runs.tiny(**FRESH), run_dir=folder)


def test_it_grows_inside_its_budgets_and_keeps_the_function(finished):
    records = finished[1].records
    assert len(records) == 3
    for before, after in itertools.pairwise(records):
        bought = before.growth.allocation
        assert {kind for each in bought.kinds.values() for kind in each.values()} == {"fresh"}
        assert all(
            after.widths[name] == width + len(bought.split.get(name, ())) for name, width in before.widths.items()
        )
        assert after.prices["macs"].value == bought.price["macs"].value <= bought.limit["macs"]
        step = before.growth.step
        assert step.policy == "fresh"
        assert step.predicted_change == 0.0
        assert abs(step.realised_change) < 1e-6 * step.loss_before
        assert math.isnan(before.growth.index.stderr)
        assert before.growth.index.sweeps == 1.0
        assert after.train.loss < before.train.loss


def test_it_goes_on_from_any_stage_to_the_same_bits(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    for stage in (2, 1):
        shutil.rmtree(folder / "stages" / str(stage))
        (folder / "journal.jsonl").write_text("".join(lines[:stage]))
        (folder / "progress.safetensors").unlink(missing_ok=True)
        growth.grow(growth_runs.tiny(**FRESH), run_dir=folder, resume=True)
        assert growth_runs.journal(folder) == growth_runs.journal(finished[0])
        assert growth_runs.files(folder) == growth_runs.files(finished[0])


def test_the_report_says_what_fresh_neurons_are(finished):
    text = (finished[0] / "report.md").read_text()
    assert "What fresh neurons would bring" in text
    assert "| Fresh neurons |" in text.replace(" (counted)", "")
    assert "Fresh neurons begin with outgoing weights of zero, so a growth leaves the function" in text
    assert "to get a fresh one beside them" in text
    for of_splits in ("Neurons split", "half the squared step", "Splitting indices", "mass 1", "-e²/2"):
        assert of_splits not in text


def test_a_stage_is_solved_again_under_another_budget(finished, tmp_path):
    out = tmp_path / "allocation.json"
    command = ["allocate", str(finished[0]), "--stage", "0", "--budget", "macs=1.2x", "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    told = json.loads(out.read_text())
    assert {kind for each in told["kinds"].values() for kind in each.values()} == {"fresh"}
    assert told["predicted_loss_change"] is None
    again = CliRunner().invoke(app, ["allocate", str(finished[0]), "--stage", "0"]).stdout
    assert "fresh" in again


def test_fresh_neurons_at_the_sizes_of_a_growth_by_splits(finished, tmp_path):
    recipe = growth_runs.tiny(growth={"sizes_of": str(finished[0])}, step={"size": 0.2})
    splits = growth.grow(recipe, run_dir=tmp_path / "splits")
    assert [record.widths for record in splits.records] == [record.widths for record in finished[1].records]
    sections = {"growth": {"sizes_of": str(tmp_path / "splits"), "method": "random"}, **FRESH}
    both = growth.grow(growth_runs.tiny(**sections), run_dir=tmp_path / "fresh")
    assert [record.widths for record in both.records] == [record.widths for record in finished[1].records]


def test_a_dry_run_counts_one_sweep_and_names_what_has_no_effect():
    plan = growth.plan(growth_runs.tiny(**FRESH))
    assert plan.index_sweeps == 1
    assert plan.fresh
    assert "no effect with index.method = 'fresh': index.sweeps, step" in plan.warnings
    plain = growth.plan(growth_runs.tiny(index={"method": "fresh", "sweeps": None}, step={"size": 0.6}))
    assert not any("no effect" in text for text in plain.warnings)


def test_a_growth_at_a_risk_has_standard_errors(tmp_path):
    recipe = growth_runs.tiny(growth={"stages": 1, "risk": 0.1}, **FRESH)
    growth.grow(recipe, run_dir=tmp_path / "run")
    index = load_index(tmp_path / "run" / "stages" / "0" / "index.safetensors")
    assert all(bool((found.stderr > 0).all()) for found in index.values())


def test_what_the_gradients_took_counts_as_training_compute(finished):
    records = finished[1].records
    found = training_computes(records)
    macs, images = records[0].prices["macs"].value, records[1].train.images
    of_training = 3 * records[1].prices["macs"].value * images * records[1].train.epochs
    assert found[1] - found[0] == pytest.approx(12 * macs * (128 + 128) + of_training)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"growth": {"stages": 1, "signed": True}, **FRESH}, "growth.signed = true is for splits"),
        ({"index": {"method": "fresh", "linear": "outgoing"}}, "linear = 'outgoing' is for splits"),
    ],
)
def test_what_is_for_splits_is_refused(sections, said):
    with pytest.raises(ValidationError, match=said):
        growth_runs.tiny(**sections)
