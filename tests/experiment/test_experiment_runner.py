"""Runs of a plan: order, sharing, failures, going on, and that nothing runs any more once it is told to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from experiment_files import TINY, Done, grown_here, tiny_plan
from growth_runs import files, journal

from energysplit import growth
from energysplit.errors import RunError
from energysplit.experiment.plan import Plan, Run
from energysplit.experiment.processes import GroupProcess, Process, last_lines
from energysplit.experiment.recipe_file import write_recipe
from energysplit.experiment.runner import Runner
from energysplit.experiment.signals import Ended
from energysplit.experiment.state import state_of
from energysplit.growth import stage
from energysplit.growth.compared import read_run

FOLLOWING = TINY.replace(
    '[[method]]\nname = "grown"',
    '[[method]]\nname = "scratch"\nset = { baseline = { kind = "from_scratch", sizes_of = "{run:grown}" } }\n'
    '[[method]]\nname = "grown"',
)


def test_runs_share_stage_0_and_end_as_if_each_had_trained_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    epoch = stage.train_epoch
    monkeypatch.setattr(stage, "train_epoch", lambda *a, **k: (trained.append(1), epoch(*a, **k))[1])
    start, lines = grown_here(monkeypatch), []
    plan = tiny_plan(tmp_path, FOLLOWING, seeds=[1])
    outcome = Runner(plan, 1, lines.append, start, poll_s=0).run()
    assert outcome.finished == [run.name for run in plan.runs]
    assert (outcome.failed, outcome.skipped) == ({}, {})
    assert len(trained) == sum(run.epochs for run in plan.runs) - plan.saved_epochs == 7 - 2

    alone = plan.run("top-k-vanilla-seed1")
    growth.grow(alone.recipe, run_dir=tmp_path / "alone")
    assert journal(alone.folder) == journal(tmp_path / "alone")
    assert files(alone.folder) == files(tmp_path / "alone")

    scratch = read_run(plan.run("scratch-seed1").folder)
    assert [record.train.epochs for record in scratch.records] == [1, 2]
    assert [scratch.epochs_to(stage) for stage in range(2)] == [1, 2], "fresh weights have nothing of stage 0"
    assert scratch.finished

    accuracy = journal(alone.folder)[-1]["test"]["accuracy"]
    assert state_of(alone.folder, alone.recipe).test == accuracy
    assert lines[0] == "[1/3] grown, seed 1: starts"
    assert lines[2] == "[2/3] scratch, seed 1: starts with stage 0 of grown, seed 1"
    assert lines[1].startswith("[1/3] grown, seed 1: done in ")
    assert lines[1].endswith(" left")
    assert lines[-1].endswith(f", {100 * accuracy:.2f} % on test images")

    def must_not_start(*_: object) -> Process:
        raise AssertionError("a finished run was started again")

    again = Runner(plan, 1, lines.append, must_not_start, poll_s=0).run()
    assert again.finished == outcome.finished
    assert lines[-1].startswith("[3/3] Top k (vanilla), seed 1: finished before")

    changed = tiny_plan(tmp_path, FOLLOWING, seeds=[1], overrides=["index.images=64"])
    with pytest.raises(RunError, match=r"grown, seed 1: its run in .* another recipe: index\.images differs; put the"):
        Runner(changed, 1, lines.append, must_not_start, poll_s=0).run()


def test_a_finished_run_is_not_when_its_reference_was_grown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(tmp_path, FOLLOWING, seeds=[0])
    start, lines = grown_here(monkeypatch), []
    scratch, grown = plan.run("scratch-seed0"), plan.run("grown-seed0")
    assert Runner(plan, 1, lines.append, start, poll_s=0).run().failed == {}
    shutil.rmtree(grown.folder)
    assert not state_of(scratch.folder, scratch.recipe).finished, "what it follows is gone"
    assert Runner(plan, 1, lines.append, start, poll_s=0).run().failed == {}, "grown again to the same sizes"

    shutil.rmtree(grown.folder)
    growth.grow(grown.recipe, run_dir=grown.folder, overrides=["seed=7"])
    (grown.folder / "recipe.json").write_text(json.dumps(grown.recipe.resolved()))
    assert journal(grown.folder)[-1]["widths"] != read_run(scratch.folder).records[-1].widths
    (text, *_), *more = Runner(plan, 1, lines.append, start, poll_s=0).run().failed.values()
    assert not more
    assert "exit code 1" in text
    said = (plan.folder / "logs" / "scratch-seed0.log").read_text()
    assert f"{scratch.folder} was started with other sizes than {grown.folder} has now" in said


def test_a_failed_run_takes_only_its_followers_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(tmp_path, FOLLOWING, seeds=[0])
    lines: list[str] = []
    start = grown_here(monkeypatch, fails=lambda run: run.method == "grown")
    outcome = Runner(plan, 2, lines.append, start, poll_s=0).run()
    assert outcome.finished == ["top-k-vanilla-seed0"]
    log = plan.folder / "logs" / "grown-seed0.log"
    assert outcome.failed == {"grown-seed0": [f"exit code 1; {log} ends:", "first line", "error: made to fail"]}
    assert outcome.skipped == {"scratch-seed0": "it follows grown, seed 0"}
    assert any(line.startswith("[3/3] Top k (vanilla), seed 0: starts") and "stage 0" not in line for line in lines)

    second = Runner(plan, 1, lines.append, grown_here(monkeypatch), poll_s=0).run()
    assert set(second.finished) == {run.name for run in plan.runs}
    assert "[1/3] grown, seed 0: starts with stage 0 of Top k (vanilla), seed 0" in lines


def test_a_begun_run_goes_on_and_keeps_its_own_stage_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(tmp_path, seeds=[0])
    start, lines = grown_here(monkeypatch), []
    second = plan.runs[1]

    class Stopped(Exception):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(growth.stage, "splitting_index", stop)
        with pytest.raises(Stopped):
            growth.grow(second.recipe, run_dir=second.folder)
    assert state_of(second.folder, second.recipe).begun
    outcome = Runner(plan, 1, lines.append, start, poll_s=0).run()
    assert len(outcome.finished) == 2
    assert "[2/2] Top k (vanilla), seed 0: goes on in stage 0" in lines


def test_a_damaged_stage_0_is_not_used_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(tmp_path, seeds=[0])
    here, lines = grown_here(monkeypatch), []

    def start(run: Run, recipe: Path, log: Path, resume: bool) -> Process:
        done = here(run, recipe, log, resume)
        if run is plan.runs[0]:
            (run.folder / "stages" / "0" / "weights.safetensors").write_bytes(b"")
        return done

    outcome = Runner(plan, 1, lines.append, start, poll_s=0).run()
    assert len(outcome.finished) == 2
    (line,) = [line for line in lines if "starts anew" in line]
    assert "weights.safetensors is not what stage 0 left" in line


class Held:
    """A run that goes on until it is released; its stage 0 is trained when the test says so."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def stop(self, how: signal.Signals) -> None:
        self.code = -how


def test_the_others_wait_for_the_first_to_train_stage_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan(tmp_path)
    started: dict[str, Held] = {}

    def start(run: Run, recipe: Path, log: Path, resume: bool) -> Process:
        return started.setdefault(run.name, Held())

    monkeypatch.setattr("energysplit.experiment.runner._reuse", lambda source, run: "")
    runner = Runner(plan, 4, lambda text: None, start)
    for _ in range(4):
        runner._start_ready()
    assert set(started) == {"grown-seed0", "grown-seed1"}, "one of each seed trains it"
    leader = plan.run("grown-seed1").folder
    leader.mkdir(parents=True)
    line = '{"stage": 0, "train": {"epochs": 1}, "seconds": {"train": 1.0}, "test": null}'
    (leader / "journal.jsonl").write_text(line)
    runner._start_ready()
    assert set(started) == {"grown-seed0", "grown-seed1"}, "the line is not whole yet"
    (leader / "journal.jsonl").write_text(f"{line}\n")
    runner._start_ready()
    assert set(started) == {"grown-seed0", "grown-seed1", "top-k-vanilla-seed1"}
    started["grown-seed0"].code = 1
    runner._collect()
    runner._start_ready()
    assert set(started) == {run.name for run in plan.runs}, "the first failed, so the next one trains it"


STUBBORN = """
import os, signal, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    with open(sys.argv[1] + ".part", "w") as file:
        file.write(f"{os.getpid()} {child}")
    os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_told_to_end_it_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, number: signal.Signals
) -> None:
    patience = {signal.SIGINT: 0.3, signal.SIGTERM: 0.3, signal.SIGKILL: 5.0}
    monkeypatch.setattr("energysplit.experiment.runner.PATIENCE_S", patience)
    plan, notes = tiny_plan(tmp_path), {}
    inherited = signal.getsignal(number)
    request.addfinalizer(lambda: signal.signal(number, inherited))
    before = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
    signal.signal(number, before)  # under nohup, SIGHUP is ignored

    def start(run: Run, recipe: Path, log: Path, resume: bool) -> Process:
        notes[run.name] = tmp_path / f"{run.name}.pids"
        kind = "stubborn" if run.seed else "polite"
        command = [sys.executable, "-c", STUBBORN, str(notes[run.name]), kind]
        return GroupProcess(command, log, dict(os.environ))

    class Told(Runner):
        def _collect(self) -> None:
            if len(notes) == 2 and all(note.exists() for note in notes.values()):
                os.kill(os.getpid(), number)
            super()._collect()

    with pytest.raises(Ended) as caught:
        Told(plan, 2, lambda text: None, start, poll_s=0.02).run()
    assert caught.value.number == number
    pids = [int(pid) for note in notes.values() for pid in note.read_text().split()]
    assert len(pids) == 4
    end = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(_alive, pids)), "stubborn ones and children of children too"
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[signal.Signals] = []

    class Deaf(Done):
        def poll(self) -> int | None:
            return None

        def stop(self, how: signal.Signals) -> None:
            sent.append(how)
            os.kill(os.getpid(), signal.SIGINT)

    patience = {signal.SIGINT: 60.0, signal.SIGTERM: 60.0, signal.SIGKILL: 0.1}
    monkeypatch.setattr("energysplit.experiment.runner.PATIENCE_S", patience)
    plan: Plan = tiny_plan(tmp_path, seeds=[0])
    runner = Runner(plan, 1, lambda text: os.kill(os.getpid(), signal.SIGINT), lambda *_: Deaf(0), poll_s=0.01)
    start = time.monotonic()
    with pytest.raises(Ended):
        runner.run()
    assert time.monotonic() - start < 5
    assert sent == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def test_an_error_of_ours_stops_what_was_started(tmp_path: Path) -> None:
    plan, started = tiny_plan(tmp_path), []

    def start(run: Run, recipe: Path, log: Path, resume: bool) -> Process:
        if started:
            raise OSError("no process can be started")
        started.append(Held())
        return started[0]

    with pytest.raises(OSError, match="no process can be started"):
        Runner(plan, 2, lambda text: None, start, poll_s=0).run()
    assert started[0].code is not None


def test_folders_of_others_are_refused_before_anything_starts(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path)
    other = plan.runs[3].folder
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"Top k \(vanilla\), seed 1: .* holds other files and no run; choose other"):
        Runner(plan, 1, lambda text: None, lambda *_: Done(0)).run()
    (other / "notes.txt").unlink()
    (other / "recipe.json").write_text("{")
    with pytest.raises(RunError, match=r"recipe\.json can't be read"):
        Runner(plan, 1, lambda text: None, lambda *_: Done(0)).run()
    other.joinpath("recipe.json").unlink()
    other.rmdir()
    other.write_text("")
    with pytest.raises(RunError, match="is a file; expected a run folder"):
        Runner(plan, 1, lambda text: None, lambda *_: Done(0)).run()
    assert not (plan.folder / "recipes").exists()


def test_a_run_that_ends_without_a_report_failed(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, seeds=[0], methods=["grown"])
    outcome = Runner(plan, 1, lambda text: None, lambda *_: Done(0), poll_s=0).run()
    assert outcome.failed["grown-seed0"][0].startswith("it ended without a report; ")
    assert write_recipe(plan.folder / "recipes" / "grown-seed0.toml", plan.runs[0].recipe).is_file()


def test_last_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == []
    log.write_bytes(b"\xff" * 20_000 + b"\n" + b"\n".join(b"line %d\n" % number for number in range(20)))
    assert last_lines(log, 2) == ["line 18", "line 19"]
