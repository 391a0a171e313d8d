"""What an experiment leaves to be copied: every number of the journals, machine, seeds, command, what is published."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from compared_runs import made_up
from experiment_files import TINY, tiny_plan

from energysplit.errors import RunError
from energysplit.experiment.plan import Plan
from energysplit.experiment.results import check_out, collect, write_results
from energysplit.experiment.runner import Outcome
from energysplit.growth.journal import read

PUBLISHED = (
    TINY
    + '[[reference]]\nname = "AMC"\nsource = "He et al. 2018"\nsizes = ["small"]\npoints = '
    + "[{ macs = 15e6, accuracy = 0.71 }]\n"
    + '[[reference]]\nname = "elsewhere"\nsource = "full size only"\npoints = [{ macs = 9e6, accuracy = 0.1 }]\n'
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """An experiment whose runs are made up, but for one that is missing."""
    found = tiny_plan(tmp_path, PUBLISHED)
    for run in found.runs[:3]:
        points = [(10e6, 0.6), (20e6, 0.7 + run.seed / 100 + 0.01 * (run.method == "grown"))]
        made_up(run.folder, points, name=run.method, seed=run.seed, growth={"method": run.recipe.growth.method})
        (run.folder / "environment.json").write_text(json.dumps({"torch": f"2.{run.seed}", "system": "Linux"}))
    return found


def test_files_hold_every_number(plan: Plan, tmp_path: Path) -> None:
    missing = plan.runs[3].name
    outcome = Outcome([run.name for run in plan.runs[:3]], {missing: ["exit code 1; log ends:", "error: x"]})
    results = collect(plan, outcome, "energysplit experiment tiny.toml")
    page, text_file, csv_file = write_results(tmp_path / "out", results)
    assert page == tmp_path / "out" / "comparison" / "compare.html"

    rows = list(csv.DictReader(io.StringIO(csv_file.read_text())))
    assert len(rows) == 6
    for row in rows:
        run = next(each for each in plan.runs if (each.method, str(each.seed)) == (row["method"], row["seed"]))
        record = read(run.folder / "journal.jsonl")[int(row["stage"])]
        assert record.test is not None
        assert float(row["macs_MAC"]) == record.prices["macs"].value
        assert float(row["test_accuracy"]) == record.test.accuracy
        assert float(row["validation_accuracy"]) == record.validation.accuracy
        assert int(row["epochs_so_far"]) == 4 * (record.stage + 1)
        assert (row["training_macs_so_far"], row["train_s"], row["index_s"]) == ("", "1", "")

    text = text_file.read_text()
    for words in (
        "# Tiny",
        "Does it run?",
        "- command: energysplit experiment tiny.toml",
        "- seeds: 0, 1",
        "- torch: 2.0; 2.1",
        "Top k (vanilla), seed 1 failed (exit code 1; log ends:).",
        "| AMC | 15.00 M | 71.00 % | He et al. 2018 |",
        "| grown | 1 | 1 | 20.00 M | 72.50 % | 72.00 % | 8 |",
        "grown is better than Top k (vanilla) at equal MACs, at every compared cost above the seed | not decided |",
    ):
        assert words in text, words
    assert "full size only" not in text
    html = page.read_text()
    assert "AMC (published)" in html
    assert html.index("What was claimed") < html.index("Stage by stage") < html.index("Published points")
    assert write_results(tmp_path / "out", results)[0] == page, "an earlier page is replaced"


def test_seeds_that_follow_other_runs_are_one_method(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path)
    for run in plan.runs:
        growth = {"method": "top_k", "sizes_of": str(plan.folder / f"grown-seed{run.seed}")}
        changed = growth if run.method != "grown" else {"sizes_of": None}
        points = [(10e6, 0.6), (20e6, 0.7 + run.seed / 100)]
        made_up(run.folder, points, name=run.method, seed=run.seed, growth=changed)
    comparison = collect(plan, Outcome([run.name for run in plan.runs]), "").comparison
    assert [(method.label, len(method.runs)) for method in comparison.methods] == [("grown", 2), ("Top k (vanilla)", 2)]


def test_refusals(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in .* is finished"):
        collect(plan, Outcome(), "")
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        check_out(tmp_path)
