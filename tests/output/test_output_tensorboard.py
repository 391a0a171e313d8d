"""Curves for TensorBoard: each point once, also after kills; asked for without the package, nothing is begun."""

from __future__ import annotations

from importlib.util import find_spec

import growth_runs
import pytest

import energysplit as es
from energysplit import growth
from energysplit.output import tensorboard
from energysplit.output.atomic import write_text

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard (extra: track)")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))


def recipe(**sections):
    return growth_runs.tiny(run={"tensorboard": True}, **sections)


def points(folder, part):
    """Tag -> (step, value) of every point that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / tensorboard.FOLDER / part), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_without_the_package_the_extra_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    for run in (lambda: growth.grow(recipe(), run_dir=tmp_path / "run"), lambda: growth.plan(recipe())):
        with pytest.raises(es.InputError, match=r"needs the package tensorboard: pip install 'energysplit\[track\]'"):
            run()
    assert list(tmp_path.iterdir()) == []
    result = growth.grow(growth_runs.tiny(growth={"stages": 0}, train={"epochs": 1}), run_dir=tmp_path / "run")
    assert len(result.records) == 1


class _Killed(BaseException):
    """What no handler of the growth catches."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    if find_spec("tensorboard") is None:
        pytest.skip("needs tensorboard (extra: track)")
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
        return folder, growth.grow(recipe(train={"patience": 9}), run_dir=folder)


@needs_tensorboard
def test_the_curves_are_those_of_the_journal(whole):
    folder, result = whole
    epochs, stages = (points(folder, part) for part in ("epochs", "stages"))
    assert {tag: [step for step, _ in found] for tag, found in epochs.items()} == {
        tag: [1, 2, 3, 4, 5, 6] for tag in ("train/loss", "train/accuracy", "validation/loss")
    }
    for record, (_, loss), (_, accuracy), (_, validation) in zip(
        result.records,
        *(epochs[tag][1::2] for tag in ("train/loss", "train/accuracy", "validation/loss")),
        strict=True,
    ):
        assert (loss, accuracy) == (pytest.approx(record.train.loss), pytest.approx(record.train.accuracy))
        assert validation == pytest.approx(record.validation.loss)
    wanted = {
        "validation/accuracy": [record.validation.accuracy for record in result.records],
        "test/accuracy": [record.test.accuracy for record in result.records],
        "price/macs_MAC": [record.prices["macs"].value for record in result.records],
        "price/params_param": [record.prices["params"].value for record in result.records],
        "channels": [sum(record.widths.values()) for record in result.records],
        "train/epochs": [2, 4, 6],
    }
    for tag, values in wanted.items():
        assert [step for step, _ in stages[tag]] == [0, 1, 2]
        assert [value for _, value in stages[tag]] == pytest.approx(values)


@needs_tensorboard
def test_a_killed_run_has_every_point_once(whole, tmp_path, monkeypatch):
    """Killed after the points are written: before an epoch is saved, after it, and before and after a journal line."""
    folder, found = tmp_path / "run", recipe(train={"patience": 9})
    save, append = growth.folder.RunFolder.save_progress, growth.loop.journal.append

    def dying(function, after, at):
        calls = []

        def mortal(*args):
            calls.append(1)
            if len(calls) < at or after:
                function(*args)
            if len(calls) == at:
                raise _Killed

        return mortal

    for place, name, function, after, at in (
        (growth.folder.RunFolder, "save_progress", save, False, 1),
        (growth.folder.RunFolder, "save_progress", save, False, 2),
        (growth.folder.RunFolder, "save_progress", save, True, 1),
        (growth.loop.journal, "append", append, False, 1),
        (growth.loop.journal, "append", append, True, 1),
        (growth.folder.RunFolder, "save_progress", save, False, 2),
        (growth.loop.journal, "append", append, False, 2),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, dying(function, after, at))
            with pytest.raises(_Killed):
                growth.grow(found, run_dir=folder, resume=True)
    growth.grow(found, run_dir=folder, resume=True)
    assert growth_runs.journal(folder) == growth_runs.journal(whole[0])
    assert len(list((folder / tensorboard.FOLDER / "epochs").iterdir())) > 1, "several processes wrote"
    for part in ("epochs", "stages"):
        assert points(folder, part) == points(whole[0], part)
    # A finished run that is resumed adds nothing.
    before = sorted(path.name for path in (folder / tensorboard.FOLDER).rglob("*"))
    growth.grow(found, run_dir=folder, resume=True)
    assert sorted(path.name for path in (folder / tensorboard.FOLDER).rglob("*")) == before


@needs_tensorboard
def test_curves_change_nothing_else(whole, tmp_path):
    growth.grow(growth_runs.tiny(train={"patience": 9}), run_dir=tmp_path / "run")
    assert growth_runs.journal(tmp_path / "run") == growth_runs.journal(whole[0])
    assert growth_runs.files(tmp_path / "run") == growth_runs.files(whole[0])
    assert not (tmp_path / "run" / tensorboard.FOLDER).exists()
