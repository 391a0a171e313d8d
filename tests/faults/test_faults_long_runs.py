"""Long growths hold no more at their end than at their beginning, and long journals are read once, quickly."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import long_runs
import numpy as np
import pytest

from energysplit import growth
from energysplit.growth import journal
from energysplit.output import comparison_compute, plots
from energysplit.output.atomic import write_text
from energysplit.output.comparison import ComparedRun
from energysplit.output.report_content import report_document
from energysplit.output.report_markdown import to_markdown
from energysplit.records import JOURNAL_FILE, GrowthRecord, TrainRecord

JOURNAL = Path(__file__).resolve().parents[1] / "growth" / "journal_before_kinds.jsonl"
WARM_UP = 50
"""Stages before torch's own buffers and caches have their size."""
STEADY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""What makes glibc give memory back as soon as it is free: else what it keeps is more than the networks are."""


def records(stages: int) -> list[GrowthRecord]:
    """A long growth's journal, made up from one line."""
    (line,) = journal.read(JOURNAL)
    train = TrainRecord(**{**dict(line.train), "images": 1000})
    return [GrowthRecord(**{**dict(line), "train": train, "stage": stage}) for stage in range(stages)]


linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory and open files are read from Linux")


@linux
def test_nothing_is_left_of_a_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
    watch = long_runs.Watch()
    result = growth.grow(long_runs.recipe(12), run_dir=tmp_path / "run", progress=watch)
    assert len(watch.alive) == len({sum(record.widths.values()) for record in result.records}) == 13
    # Stage 0 has no state of the optimiser yet.
    assert watch.alive[1:] == watch.alive[1:2] * 12


@linux
def test_memory_stays_flat_over_200_stages(tmp_path, in_full, tell):
    if not in_full:
        pytest.skip("make faults")

    def slope(*keep: str) -> float:
        """Kibibytes of memory a stage, by least squares after the warm-up."""
        done = subprocess.run(
            [sys.executable, "-m", "long_runs", "200", str(tmp_path / f"run{len(keep)}"), *keep],
            # oneDNN keeps the code of the last 1,024 layer shapes, and here every stage has others.
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
                **STEADY,
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert len(told["resident"]) == 201
        assert told["channels"] >= 200
        assert keep or told["alive"][1:] == told["alive"][1:2] * 200
        what = "every network" if keep else "nothing"
        tell(f"{what} kept: {told['resident'][WARM_UP]} to {told['resident'][-1]} KiB")
        return float(np.polyfit(range(WARM_UP, 201), told["resident"][WARM_UP:], 1)[0])

    ours, leaking = slope(), slope("keep")
    tell(f"memory a stage: {ours:.0f} KiB, with every network kept {leaking:.0f} KiB")
    assert ours < 256
    assert ours < leaking / 2


def test_a_journal_is_read_in_one_pass(tmp_path, monkeypatch, in_full):
    stages = 10_000 if in_full else 1_000
    path = tmp_path / JOURNAL_FILE
    written = records(stages)
    journal.rewrite(path, written)
    parsed, collected = [], []
    parse = journal._record
    monkeypatch.setattr(journal, "_record", lambda line: parsed.append(line) or parse(line))
    gc.callbacks.append(lambda phase, info: collected.append(phase))
    try:
        found = journal.read(path)
    finally:
        gc.callbacks.pop()
    assert found == written
    assert len(parsed) == stages
    assert collected.count("start") <= 1  # what had piled up, at the end
    assert gc.isenabled()


def test_what_a_long_run_has_spent_is_added_up_once(monkeypatch):
    added = []
    training = comparison_compute._training
    monkeypatch.setattr(comparison_compute, "_training", lambda record: added.append(record) or training(record))
    run = ComparedRun("long", {}, tuple(records(300)))
    spent = [run.compute_to(stage) for stage in range(300)]
    assert len(added) == 300
    assert spent[-1] == pytest.approx(300 * spent[0] + 299 * (spent[1] - 2 * spent[0]))
    assert run.epochs_to(299) == 300 * run.epochs_to(0)


def test_figures_of_a_long_run_show_some_stages_and_say_so():
    document = report_document({"name": "long"}, records(300), None, {}, "made up")
    text = to_markdown(document)
    assert f"The figures show {plots.MOST_STAGES} of the 300 stages, spread evenly; the tables have all." in text
    shown = [record.stage for record in plots.drawn(records(300))]
    assert (len(shown), shown[0], shown[-1]) == (plots.MOST_STAGES, 0, 299)
    assert shown == sorted(set(shown))
    lengths = [len(axes.texts) + len(axes.patches) for picture in document.pictures() for axes in picture.figure.axes]
    assert max(lengths) <= 6 * plots.MOST_STAGES  # five parts of the time and its sum
