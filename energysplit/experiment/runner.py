"""Runs the runs of a plan, some at a time: finished ones are skipped, begun ones resumed, the others started.

A run waits for those it follows, and for the stage 0 that it shares with others: of those the first trains it, and the
rest begin where it ended. A run that fails takes with it only those that follow it. Whatever ends the experiment
(Ctrl-C, a signal, an error) first stops what was started.
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from energysplit.errors import InputError, RunError
from energysplit.experiment.plan import Plan, Run
from energysplit.experiment.processes import Process, Start, last_lines, start_process
from energysplit.experiment.recipe_file import as_toml, write_recipe
from energysplit.experiment.signals import Signals
from energysplit.experiment.state import RunState, check_run, seed_trained, state_of
from energysplit.output.numbers import duration, percent
from energysplit.output.place import check_writable
from energysplit.recipe.saved import RECIPE_FILE

RECIPES, LOGS = "recipes", "logs"
PATIENCE_S = {signal.SIGINT: 15.0, signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}
"""How long a run may take to end after each signal, before the next."""


@dataclass
class Outcome:
    """Names of runs: finished ones; failed ones with how and the last lines of their logs; skipped ones with why."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class Runner:
    """Runs a plan once.

    Args:
        plan: the runs.
        jobs: how many run at a time.
        say: called with each line of progress.
        start: starts a run.
        poll_s: how often processes are looked at.
    """

    def __init__(
        self,
        plan: Plan,
        jobs: int,
        say: Callable[[str], None],
        start: Start = start_process,
        poll_s: float = 0.2,
    ) -> None:
        self.plan, self.jobs, self.say, self.start, self.poll_s = plan, jobs, say, start, poll_s
        self.outcome = Outcome()
        self.waiting = list(plan.runs)
        self.running: dict[str, tuple[Process, float, int]] = {}
        self.took_s = self.trained = 0.0

    def run(self) -> Outcome:
        """What became of every run.

        Raises:
            RunError: a folder holds a run of another recipe, or can't be written; nothing was started.
            RecipeError: a recipe can't be written as TOML; nothing was started.
            Ended: the process was told to end; nothing it started runs any more.
            OSError: the disk refused a recipe or a log; nothing it started runs any more.
        """
        for run in self.plan.runs:
            check_run(run.title, run.folder, run.recipe)
            as_toml(run.recipe)
        self._check_writable()
        with Signals() as signals:
            try:
                self._skip_finished()
                while self.waiting or self.running:
                    self._collect()
                    signals.check()
                    self._start_ready()
                    if self.running:
                        time.sleep(self.poll_s)
            finally:
                self._stop(signals)
        return self.outcome

    def _check_writable(self) -> None:
        """Refuse folders that can't be made or written, and names too long for a file.

        Raises:
            RunError: recipes or logs can't be written.
        """
        try:
            for name in (RECIPES, LOGS):
                (self.plan.folder / name).mkdir(parents=True, exist_ok=True)
                check_writable(self.plan.folder / name, "choose other folders with --runs")
                for run in self.plan.runs:
                    (self.plan.folder / name / f"{run.name}.toml").is_file()
        except OSError as error:
            raise RunError(
                f"{error.filename} can't be written: {error.strerror}; choose other folders with --runs, or a shorter "
                "name of a method"
                if error.errno == errno.ENAMETOOLONG
                else f"{error.filename} can't be written: {error.strerror}; choose other folders with --runs"
            ) from None

    def _skip_finished(self) -> None:
        for run in list(self.waiting):
            if (state := self._state(run)).finished:
                self.waiting.remove(run)
                self.outcome.finished.append(run.name)
                place = "" if run.folder.parent == self.plan.folder else f" in {run.folder}"
                self.say(f"{self._place(run)}: finished before{place}{_accuracy(state)}")

    def _start_ready(self) -> None:
        for run in list(self.waiting):
            if lost := [name for name in run.needs if name in self.outcome.failed or name in self.outcome.skipped]:
                self.waiting.remove(run)
                self.outcome.skipped[run.name] = f"it follows {', '.join(self.plan.run(name).title for name in lost)}"
                self.say(f"{self._place(run)}: skipped; {self.outcome.skipped[run.name]}, which did not finish")
            elif len(self.running) < self.jobs and self._ready(run):
                self.waiting.remove(run)
                self._begin(run)
                # What it trains, or may already have finished, can be what the next ones wait for.
                return

    def _ready(self, run: Run) -> bool:
        """Whether all that a run follows is finished, and nobody is about to train its stage 0."""
        if any(name not in self.outcome.finished for name in run.needs):
            return False
        if not run.shared or self._state(run).begun or self._trained(run) is not None:
            return True
        return not any(self.plan.run(name).shared == run.shared for name in self.running)

    def _trained(self, run: Run) -> Run | None:
        """A run whose trained stage 0 can be this one's too."""
        others = (each for each in self.plan.runs if each is not run and run.shared and each.shared == run.shared)
        return next((each for each in others if seed_trained(each.folder)), None)

    def _begin(self, run: Run) -> None:
        state, source, words = self._state(run), None, "starts"
        if state.begun:
            words = f"goes on after stage {state.stages - 1}" if state.stages else "goes on in stage 0"
        elif (source := self._trained(run)) is not None:
            words = f"starts with stage 0 of {source.title}"
            if problem := _reuse(source, run):
                words = f"starts anew, for stage 0 of {source.title} can't be used ({problem})"
        recipe = write_recipe(self.plan.folder / RECIPES / f"{run.name}.toml", run.recipe)
        log = self._log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.say(f"{self._place(run)}: {words}")
        resume = (run.folder / RECIPE_FILE).exists()
        had = self._had(run)
        self.running[run.name] = (self.start(run, recipe, log, resume), time.monotonic(), had)

    def _collect(self) -> None:
        """Take note of what has ended."""
        for name, (process, since, had) in list(self.running.items()):
            if (code := process.poll()) is None:
                continue
            del self.running[name]
            run = self.plan.run(name)
            state, seconds = self._state(run), time.monotonic() - since
            took = duration(seconds)
            if code == 0 and state.finished:
                self.outcome.finished.append(name)
                self.took_s, self.trained = self.took_s + seconds, self.trained + state.epochs - had
                self.say(f"{self._place(run)}: done in {took}{_accuracy(state)}{self._left()}")
            else:
                how = f"exit code {code}" if code else "it ended without a report"
                self.outcome.failed[name] = [f"{how}; {self._log(run)} ends:", *last_lines(self._log(run))]
                self.say(f"{self._place(run)}: failed after {took} ({how}; {self._log(run)}){self._left()}")

    def _left(self) -> str:
        """About how long the rest takes, from the time that runs have taken here for each epoch of theirs."""
        rest = [*self.waiting, *(self.plan.run(name) for name in self.running)]
        if not rest or not self.trained:
            return ""
        left = sum(run.epochs - self._had(run) for run in rest)
        return f"; about {duration(left * self.took_s / self.trained / min(self.jobs, len(rest)))} left"

    def _had(self, run: Run) -> int:
        """Epochs that a run need not train any more: those of its stages, or a stage 0 that it gets from another."""
        shared = run.recipe.train.epochs_at(0) if self.plan.leader(run) is not run else 0
        return max(self._state(run).epochs, shared)

    def _stop(self, signals: Signals) -> None:
        """End what still runs: politely, then less so. Another Ctrl-C while waiting ends it at once."""
        processes = [process for process, *_ in self.running.values()]
        told = len(signals.seen)
        for how, patience in PATIENCE_S.items():
            for process in processes:
                process.stop(how)
            end = time.monotonic() + patience
            while any(process.poll() is None for process in processes) and time.monotonic() < end:
                if len(signals.seen) > told and how is not signal.SIGKILL:
                    break
                time.sleep(min(0.05, self.poll_s))

    def _state(self, run: Run) -> RunState:
        return state_of(run.folder, run.recipe)

    def _log(self, run: Run) -> Path:
        return self.plan.folder / LOGS / f"{run.name}.log"

    def _place(self, run: Run) -> str:
        return f"[{self.plan.runs.index(run) + 1}/{len(self.plan.runs)}] {run.title}"


def _reuse(source: Run, run: Run) -> str:
    """Give a run the trained stage 0 of another; why that was not possible, "" if it was."""
    from energysplit.growth.reuse import reuse_seed

    try:
        reuse_seed(source.folder, run.folder, run.recipe)
    except InputError as error:
        return str(error)
    return ""


def _accuracy(state: RunState) -> str:
    return "" if state.test is None else f", {percent(state.test)} on test images"
