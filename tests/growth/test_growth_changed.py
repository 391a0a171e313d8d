"""A run that goes on with another recipe: finished stages stay, those that follow say what changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import growth_runs
import pytest

from energysplit import growth
from energysplit.errors import CheckFailed, InputError, RunError
from energysplit.experiment.state import check_run
from energysplit.growth.compared import read_run
from energysplit.growth.folder import RunFolder
from energysplit.growth.reuse import reuse_seed
from energysplit.growth.saved import load_saved
from energysplit.output.atomic import write_text
from energysplit.output.comparison_doubts import compared
from energysplit.recipe import changes, completed, from_dict
from energysplit.recipe.changed import CHANGEABLE, RecipeChange, changed_at, read_changes, recipe_of_stage
from energysplit.recipe.saved import read_recipe, recipe_at, saved_changes, saved_recipe

SHORT = {"train": {"epochs": 1}}
SMALLER = {"train": {"epochs": 1, "batch_size": 64}}
NOTE = "from this stage on train.batch_size = 64 (128 before) (--change)"


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(
        growth.loop, "write_report", lambda path, *_, **__: write_text(path / "report.html", "left out")
    )


class Stopped(BaseException):
    """Stands for a kill."""


def stopped(monkeypatch, folder: Path, recipe, stage: int, epoch: int, **options) -> None:
    """Run until the training of a stage has come to an epoch, whose progress is kept."""
    really = RunFolder.save_progress

    def save(self, state):
        really(self, state)
        if (state.stage, state.epoch) == (stage, epoch):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_progress", save)
        with pytest.raises(Stopped):
            growth.grow(recipe, run_dir=folder, resume=True, **options)


def test_a_training_that_ran_out_of_memory_goes_on_with_smaller_batches(tmp_path, monkeypatch):
    """Stage 0 stays as it is; stage 1 is begun again; a kill in between changes nothing."""
    folder = tmp_path / "run"
    before = growth_runs.tiny(train={"epochs": 2})
    after = growth_runs.tiny(train={"epochs": 2, "batch_size": 64})
    stopped(monkeypatch, folder, before, 1, 1)
    first = growth_runs.journal(folder)
    shutil.copytree(folder, tmp_path / "killed")
    with pytest.raises(
        RunError,
        match=r"train\.batch_size \(was 128, is 64\) differs; resume with the same recipe, or give --resume --change",
    ):
        growth.grow(after, run_dir=folder, resume=True)
    with pytest.raises(InputError, match="--change is for a run that goes on; give --resume too"):
        growth.grow(after, run_dir=folder, change=True)
    result = growth.grow(after, run_dir=folder, resume=True, change=True)
    assert "training of stage 1 starts again" in result.warnings[0]
    assert growth_runs.journal(folder)[:1] == first
    assert [record.notes for record in result.records] == [(), (NOTE,), ()]
    assert changes(after, saved_recipe(folder)) == []
    assert recipe_at(folder, 0) == before.resolved()
    assert recipe_at(folder, 1) == recipe_at(folder, 2) == after.resolved()
    # Killed after an epoch of the changed training: it goes on where it was, without --change.
    stopped(monkeypatch, tmp_path / "killed", after, 1, 1, change=True)
    again = growth.grow(after, run_dir=tmp_path / "killed", resume=True)
    assert again.warnings == ()
    assert growth_runs.journal(tmp_path / "killed") == growth_runs.journal(folder)
    assert growth_runs.files(tmp_path / "killed") == growth_runs.files(folder)
    # What follows is trained with the new values; what was finished is what it was.
    usual = growth.grow(before, run_dir=tmp_path / "usual")
    assert [a.weights_sha256 == b.weights_sha256 for a, b in zip(usual.records, result.records, strict=True)] == [
        True,
        False,
        False,
    ]


def test_what_a_training_does_not_depend_on_leaves_it_where_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped(monkeypatch, folder, growth_runs.tiny(), 0, 1)
    result = growth.grow(
        growth_runs.tiny(index={"batch_size": 64}, step={"size": 0.1}), run_dir=folder, resume=True, change=True
    )
    assert result.warnings == ()
    said = [
        f"from this stage on {text} (--change)"
        for text in ("index.batch_size = 64 (256 before)", "step.size = 0.1 (0.3 before)")
    ]
    assert [list(record.notes) for record in result.records] == [said, [], []]
    assert result.records[0].growth.index.batch_size == 64


@pytest.mark.parametrize(
    "sections",
    [
        {"seed": 1},
        {"data": {"validation": 0.2}},
        {"train": {"epochs": 2, "label_smoothing": 0.1}},
        {"index": {"curvature": "producer"}},
        {"step": {"policy": "fixed"}},
        {"growth": {"stages": 3}},
        {"train": {"epochs": 1}, "growth": {"risk": 1.0}},
    ],
)
def test_what_finished_stages_depend_on_is_refused_by_name(tmp_path, monkeypatch, sections):
    folder = tmp_path / "run"
    stopped(monkeypatch, folder, growth_runs.tiny(), 0, 1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    changed = growth_runs.tiny(**sections)
    (fixed,) = [key for key in changes(changed, saved_recipe(folder)) if key not in CHANGEABLE]
    with pytest.raises(RunError, match=rf"; {fixed} can't change in a run that has begun"):
        growth.grow(changed, run_dir=folder, resume=True, change=True)
    with pytest.raises(
        RunError,
        match=r"differs?; resume with the same recipe or choose another folder with --run \(--resume --change goes on "
        rf"with other values of most keys of train, index, step and run, not of {fixed}\)$",
    ):
        growth.grow(changed, run_dir=folder, resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_run_is_not_changed(tmp_path):
    folder = tmp_path / "run"
    growth.grow(growth_runs.tiny(**SHORT, growth={"stages": 0}), run_dir=folder)
    before = (folder / "recipe.json").read_bytes()
    smaller = growth_runs.tiny(**SMALLER, growth={"stages": 0})
    with pytest.raises(RunError, match="is finished: no stage is left that a changed recipe would be for"):
        growth.grow(smaller, run_dir=folder, resume=True, change=True)
    assert (folder / "recipe.json").read_bytes() == before


def test_a_kill_at_any_moment_of_the_change_leaves_the_old_recipe_or_the_new_one(tmp_path, monkeypatch):
    """Whatever operation is the last; the same command then ends like an undisturbed one."""
    begun, after = tmp_path / "begun", growth_runs.tiny(**SMALLER, growth={"stages": 1})
    stopped(monkeypatch, begun, growth_runs.tiny(**SHORT, growth={"stages": 1}), 1, 1)
    old = saved_recipe(begun)
    shutil.copytree(begun, tmp_path / "undisturbed")
    growth.grow(after, run_dir=tmp_path / "undisturbed", resume=True, change=True)
    import os

    found = []
    for last in range(30):
        folder = tmp_path / f"run {last}"
        shutil.copytree(begun, folder)
        count = 0

        def dying(real, last=last):
            def wrapped(*args, **kwargs):
                nonlocal count
                count += 1
                if count > last:
                    raise Stopped
                return real(*args, **kwargs)

            return wrapped

        def trained(*_):
            raise Stopped  # the change is made: what follows is as with any kill

        with monkeypatch.context() as patch:
            for name in ("replace", "fsync", "rename", "unlink"):
                patch.setattr(os, name, dying(getattr(os, name)))
            patch.setattr(growth.loop, "_run_stage", trained)
            with pytest.raises(Stopped):
                growth.grow(after, run_dir=folder, resume=True, change=True)
        present, made = saved_recipe(folder), saved_changes(folder)
        assert (present, len(made)) in ((old, 0), (after.resolved(), 1))
        if (len(made), count > last) not in found:  # one of each kind is grown to its end
            found.append((len(made), count > last))
            growth.grow(after, run_dir=folder, resume=True, change=True)
            assert growth_runs.journal(folder) == growth_runs.journal(tmp_path / "undisturbed")
            assert growth_runs.files(folder) == growth_runs.files(tmp_path / "undisturbed")
        if count <= last:
            break
    assert {(0, True), (1, True), (1, False)} <= {*found}


def test_stages_run_again_are_trained_with_the_new_values_and_say_so(tmp_path):
    folder = tmp_path / "run"
    recipe, smaller = growth_runs.tiny(**SHORT), growth_runs.tiny(**SMALLER)
    growth.grow(recipe, run_dir=folder)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(lines[:2]))
    growth.grow(smaller, run_dir=folder, resume=True, change=True)
    assert [change.stage for change in saved_changes(folder)] == [2]
    (folder / "stages" / "1" / "weights.safetensors").write_bytes(b"")
    result = growth.grow(smaller, run_dir=folder, resume=True)
    assert "weights.safetensors" in result.warnings[0]
    assert [change.stage for change in saved_changes(folder)] == [1]
    assert [record.notes for record in result.records] == [(), (NOTE,), ()]


def test_reports_comparisons_and_allocations_know(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from energysplit.cli.app import app

    folder = tmp_path / "run"
    first = growth_runs.tiny(**SHORT, growth={"stages": 1})
    stopped(monkeypatch, folder, first, 1, 1)
    then = growth_runs.tiny(train={"epochs": 1, "learning_rate": 0.05}, step={"size": 0.1}, growth={"stages": 1})
    growth.grow(then, run_dir=folder, resume=True, change=True)
    run, values = read_run(folder), "train.learning_rate = 0.05 (0.1 before)"
    assert any(
        f"{folder} had not one recipe throughout: from stage 1 on" in each and values in each
        for each in compared([run]).warnings
    )
    assert run.method_key != replace(run, changes=()).method_key
    assert load_saved(folder, from_dict(completed(saved_recipe(folder)))).recipe.step.size == 0.3  # stage 0's own
    assert CliRunner().invoke(app, ["report", str(folder)]).exit_code == 0
    text = (folder / "report.md").read_text().replace("\\", "")
    assert f"Stage 1: from this stage on {values} (--change)." in text
    assert (
        "from stage 1 on step.size = 0.1 (0.3 before), train.learning_rate = 0.05 (0.1 before). Below: the last" in text
    )
    assert "policy relative: " in text
    # Stage 0 is that of the first recipe, for runs that would share it.
    assert reuse_seed(folder, tmp_path / "new", first)
    with pytest.raises(RunError, match="was trained otherwise"):
        reuse_seed(folder, tmp_path / "other", then)


def test_a_training_that_overflows_names_the_way(tmp_path):
    folder = tmp_path / "run"
    wild = growth_runs.tiny(train={"epochs": 1, "learning_rate": (0.1, 1e15)}, growth={"stages": 1})
    with pytest.raises(CheckFailed, match=r"stage 1: .* in epoch 1, .*--resume --change begins this stage again"):
        growth.grow(wild, run_dir=folder)
    result = growth.grow(growth_runs.tiny(**SHORT, growth={"stages": 1}), run_dir=folder, resume=True, change=True)
    (note,) = result.records[1].notes
    assert note == "from this stage on train.learning_rate = 0.1 ([0.1, 1000000000000000.0] before) (--change)"


def test_changes_of_one_stage_become_one_and_can_be_undone():
    first = {"train": {"batch_size": 128}, "step": {"size": 0.6}}
    third = {"train": {"batch_size": 32}, "step": {"size": 0.3}}
    one = changed_at(2, {"train.batch_size": (128, 64)}, ())
    both = changed_at(2, {"train.batch_size": (64, 32), "step.size": (0.6, 0.3)}, one)
    assert both == (RecipeChange(2, {"train.batch_size": (128, 32), "step.size": (0.6, 0.3)}),)
    assert changed_at(2, {"train.batch_size": (64, 128)}, one) == ()
    later = changed_at(4, {"step.size": (0.3, 0.6)}, both)
    assert [change.stage for change in later] == [2, 4]
    present = {"train": {"batch_size": 32}, "step": {"size": 0.6}}
    assert [recipe_of_stage(present, later, stage) for stage in (1, 2, 4)] == [first, third, present]
    assert read_changes(json.loads(json.dumps([change.plain() for change in later]))) == later


@pytest.mark.parametrize(
    "made_up",
    [
        3,
        [3],
        [{"stage": -1, "keys": {}}],
        [{"stage": True, "keys": {}}],
        [{"stage": 0, "keys": {"seed": [0, 1]}}],
        [{"stage": 0, "keys": {"step.size": [0.1]}}],
        [{"stage": 1, "keys": {}}, {"stage": 1, "keys": {}}],
    ],
)
def test_made_up_changes_are_refused(tmp_path, made_up):
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "x", "changes": made_up}))
    with pytest.raises(ValueError, match="'changes' is no list of stages that rise"):
        read_recipe(tmp_path)
    with pytest.raises(RunError, match=r"recipe\.json is damaged: 'changes' is no list"):
        saved_recipe(tmp_path)


def test_every_key_that_may_change_is_a_key():
    resolved = growth_runs.tiny().resolved()
    assert all(key in resolved[section] for section, key in (name.split(".") for name in CHANGEABLE))


def test_a_change_before_the_first_stage_was_finished_is_no_doubt(tmp_path, monkeypatch):
    """All stages had one recipe then; an experiment whose run was changed later names it."""
    early, late = tmp_path / "early", tmp_path / "late"
    after = growth_runs.tiny(train={"epochs": 2, "batch_size": 64})
    for folder, stage in ((early, 0), (late, 1)):
        stopped(monkeypatch, folder, growth_runs.tiny(), stage, 1)
        growth.grow(after, run_dir=folder, resume=True, change=True)
    assert [len(read_run(folder).changes) for folder in (early, late)] == [0, 1]
    check_run("early", early, after)
    with pytest.raises(RunError, match="late: its run in .* went on with another recipe than it began with"):
        check_run("late", late, after)


def test_epochs_of_a_baseline_stay(tmp_path, monkeypatch):
    """A fresh network has the epochs of all stages before it: other ones would not be those that these had."""
    growth.grow(growth_runs.tiny(**SHORT, growth={"stages": 1}), run_dir=tmp_path / "grown")
    sections = {"growth": {"stages": 1}, "baseline": {"kind": "from_scratch", "sizes_of": str(tmp_path / "grown")}}
    stopped(monkeypatch, tmp_path / "run", growth_runs.tiny(**SHORT, **sections), 1, 1)
    with pytest.raises(RunError, match=r"train\.epochs can't change in a run that has begun"):
        growth.grow(
            growth_runs.tiny(train={"epochs": (5, 1)}, **sections), run_dir=tmp_path / "run", resume=True, change=True
        )
