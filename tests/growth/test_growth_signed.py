"""Growth with signed splits: kinds in the journal, resumed like any other growth, predicted as realised."""

from __future__ import annotations

import growth_runs
import pytest

from energysplit import growth
from energysplit.kinds import kinds
from energysplit.output.indices import load_index

MASS = 3.0


def recipe(**sections):
    """The tiny recipe with signed splits."""
    changes = {"growth": {"signed": True, "mass": MASS}, "index": {"held_out_images": 256}, **sections}
    return growth_runs.tiny(**changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed") / "run"
    return folder, growth.grow(recipe(), run_dir=folder)


def test_the_journal_has_the_kinds_and_the_widths_follow_from_them(finished):
    _, result = finished
    assert len(result.records) == 3
    known = kinds(MASS)
    for before, after in zip(result.records, result.records[1:], strict=False):
        bought = before.growth.allocation
        assert bought.mass == MASS
        assert {name: sorted(ways) for name, ways in bought.kinds.items()} == bought.split
        added = {name: sum(known[kind].added for kind in ways.values()) for name, ways in bought.kinds.items()}
        assert added == {
            name: after.widths[name] - width for name, width in before.widths.items() if after.widths[name] != width
        }
        assert before.prices["macs"].value < after.prices["macs"].value <= 1.6 * before.prices["macs"].value
    used = {
        kind
        for record in result.records[:-1]
        for ways in record.growth.allocation.kinds.values()
        for kind in ways.values()
    }
    assert used - {"pair"}, "no signed split was bought; the test shows nothing"


def test_the_prediction_is_of_both_ends_of_the_spectrum(finished):
    folder, result = finished
    known = kinds(MASS)
    for record in result.records[:-1]:
        step, bought = record.growth.step, record.growth.allocation
        index = load_index(folder / "stages" / str(record.stage) / "index.safetensors")
        predicted = sum(
            step.size[name] ** 2
            / 2
            * (
                known[kind].low * float(index[name].value[channel])
                + known[kind].high * float(index[name].upper.value[channel])
            )
            for name, ways in bought.kinds.items()
            for channel, kind in ways.items()
        )
        assert step.predicted_change == pytest.approx(predicted)
        assert step.predicted_change < 0
        assert step.function_error <= step.function_tolerance


def test_a_small_step_realises_what_was_predicted(tmp_path):
    small = recipe(step={"policy": "fixed", "size": 0.02}, growth={"stages": 1, "signed": True, "mass": MASS})
    (first, _) = growth.grow(small, run_dir=tmp_path / "run").records
    assert first.growth.step.realised_change == pytest.approx(first.growth.step.predicted_change, rel=0.1)


class _Killed(BaseException):
    """What no handler of the growth catches."""


def test_a_killed_run_ends_with_the_same_journal(finished, tmp_path, monkeypatch):
    """Killed after the first stage's line is written, and again in the middle of the second's training."""
    folder = tmp_path / "run"
    append, save = growth.loop.journal.append, growth.folder.RunFolder.save_progress

    def append_and_die(path, record):
        append(path, record)
        raise _Killed

    def save_and_die(self, state):
        save(self, state)
        raise _Killed

    for name, place, mortal in (
        ("append", growth.loop.journal, append_and_die),
        ("save_progress", growth.folder.RunFolder, save_and_die),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, mortal)
            with pytest.raises(_Killed):
                growth.grow(recipe(), run_dir=folder, resume=True)
    result = growth.grow(recipe(), run_dir=folder, resume=True)
    assert result.warnings == ()
    assert growth_runs.journal(folder) == growth_runs.journal(finished[0])
    assert growth_runs.files(folder) == growth_runs.files(finished[0])


def test_a_run_without_signed_splits_names_no_kinds(tmp_path):
    plain = growth_runs.tiny(growth={"stages": 1, "mass": 3.0}, train={"epochs": 1})
    assert any("growth.mass has no effect without growth.signed" in text for text in growth.plan(plain).warnings)
    (first, _) = growth.grow(plain, run_dir=tmp_path / "run").records
    assert (first.growth.allocation.kinds, first.growth.allocation.mass) == ({}, 1.0)
    index = load_index(tmp_path / "run" / "stages" / "0" / "index.safetensors")
    assert all(found.upper is None for found in index.values())
