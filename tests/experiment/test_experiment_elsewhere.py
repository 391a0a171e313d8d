"""A run that another experiment has finished is read there, and not made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiment_files import TINY, grown_here, tiny_plan

from energysplit.experiment.plan import Plan, make_plan
from energysplit.experiment.results import collect
from energysplit.experiment.runner import Runner

FOLLOWING = (
    '[[method]]\nname = "scratch"\nset = { baseline = { kind = "from_scratch", sizes_of = "{run:grown}" } }\n'
    '[[method]]\nname = "grown"'
)


def other(folder: Path, **arguments: object) -> Plan:
    """An experiment of another name on the same runs, which calls the methods otherwise; one of its runs is new."""
    text = TINY.replace('[[method]]\nname = "grown"', FOLLOWING).replace("grown", "ours")
    text = text.replace('"Top k (vanilla)"', '"greedy"').replace('"top_k"', '"greedy"')
    path = folder / "other.toml"
    path.write_text(text)
    return make_plan(path, runs=folder / "runs", **arguments)  # type: ignore[arg-type]


def renamed(folder: Path, text: str) -> Plan:
    (folder / "renamed.toml").write_text(text)
    return make_plan(folder / "renamed.toml", runs=folder / "runs", seeds=[0])


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    plan = tiny_plan(tmp_path, TINY.replace('[[method]]\nname = "grown"', FOLLOWING), seeds=[0])
    assert len(Runner(plan, 1, lambda _: None, grown_here(monkeypatch), poll_s=0).run().finished) == 3
    return plan


def test_only_what_is_new_is_run(finished: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, lines = other(tmp_path, seeds=[0]), []
    there = {run.method: run.folder for run in finished.runs}
    assert {run.method: run.folder for run in plan.runs} == {
        "ours": there["grown"],
        "scratch": there["scratch"],
        "greedy": tmp_path / "runs/other/small/greedy-seed0",
    }
    outcome = Runner(plan, 1, lines.append, grown_here(monkeypatch), poll_s=0).run()
    assert sorted(outcome.finished) == ["greedy-seed0", "ours-seed0", "scratch-seed0"]
    assert lines[0].startswith(f"[1/3] ours, seed 0: finished before in {there['grown']}, ")
    assert sum(": starts" in line for line in lines) == 1
    assert "greedy, seed 0: starts with stage 0 of" in "".join(lines)
    results = collect(plan, outcome, "command")
    assert sorted(method.label for method in results.comparison.methods) == ["greedy", "ours", "scratch"]
    assert results.answers


def test_what_differs_or_is_unfinished_is_made_anew(finished: Plan, tmp_path: Path) -> None:
    own = tmp_path / "runs/other/small"
    assert {run.folder.parent for run in other(tmp_path, seeds=[1]).runs} == {own}
    assert {run.folder.parent for run in other(tmp_path, seeds=[0], overrides=["index.images=64"]).runs} == {own}
    environment = finished.run("top-k-vanilla-seed0").folder / "environment.json"
    facts = json.loads(environment.read_text())
    text = TINY.replace('"Top k (vanilla)"', '"ours"').replace('than = "grown"', 'than = "ours"')
    assert renamed(tmp_path, text).run("ours-seed0").folder == environment.parent
    environment.write_text(json.dumps({**facts, "torch": "1.0"}))
    assert renamed(tmp_path, text).run("ours-seed0").folder.parent == tmp_path / "runs/renamed/small"
    (finished.run("grown-seed0").folder / "report.html").unlink()
    assert other(tmp_path, seeds=[0]).run("ours-seed0").folder == own / "ours-seed0"
    (finished.run("scratch-seed0").folder / "recipe.json").write_text("{")
    assert {run.folder.parent for run in other(tmp_path, seeds=[0]).runs} == {own}


def test_a_run_of_its_own_comes_first(finished: Plan, tmp_path: Path) -> None:
    own = tmp_path / "runs/other/small/ours-seed0"
    own.mkdir(parents=True)
    assert other(tmp_path, seeds=[0]).run("ours-seed0").folder == own
