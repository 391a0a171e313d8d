"""Measures a folder on this machine: the same script as on any device, in a process of its own.

A fresh process has no torch, no threads of others and a memory of its own, so its times are those of a program that
only runs networks. With an energy meter, which is an object of this process, the script runs here instead: energies are
of the whole machine anyway; times are then taken beside whatever else this process has loaded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from energysplit.errors import EnergysplitError, InputError
from energysplit.measure.kit import script_path
from energysplit.measure.meters import EnergyMeter
from energysplit.measure.plan import RESULTS_FILE
from energysplit.progress import Progress, SilentProgress, Task

_GRACE_S = 10.0


@dataclass(frozen=True)
class Measured:
    """What a measurement left: its results file, networks done of all, and why some failed, by name.

    `done` is below `total` where the time was up; the same call goes on with the rest.
    """

    results: Path
    done: int
    total: int
    failed: dict[str, str] = field(default_factory=dict)


def measure(
    folder: Path | str,
    progress: Progress | None = None,
    minutes: float | None = None,
    meter: EnergyMeter | None = None,
) -> Measured:
    """What was measured of the plan in a folder; networks that its results already hold are not measured again.

    An interruption (Ctrl-C) stops the script and is raised on; groups of networks that were finished are kept.

    Args:
        folder: as `plan.write_plan` made it.
        progress: where to show how far it is.
        minutes: no group of networks is begun that would probably end later; the first always is.
        meter: measures energy too, in this process.

    Raises:
        InputError: the plan or earlier results can't be used; the script's message.
        EnergysplitError: the script ended otherwise, with the end of what it said.
    """
    folder = Path(folder)
    with _Shown(progress or SilentProgress()) as shown:
        if meter is None:
            _in_process_of_its_own(folder, minutes, shown)
        else:
            from energysplit.measure import device_run

            try:
                device_run.run(str(folder), meter=meter, minutes=minutes, report=shown)
            except device_run.PlanError as error:
                raise InputError(str(error)) from None
    return Measured(folder / RESULTS_FILE, shown.done, shown.total, shown.failed)


class _Shown:
    """Turns the script's events into progress, and remembers what they said."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.done = self.total = 0
        self.failed: dict[str, str] = {}
        self._context: AbstractContextManager[Task] | None = None
        self._task: Task | None = None

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._context is not None:
            self._context.__exit__(*error)

    def __call__(self, event: dict[str, Any]) -> None:
        """One event of `device_run.run`."""
        if self._task is None:
            self.total = event["total"]
            self._context = self.progress.task("measure networks", self.total)
            self._task = self._context.__enter__()
        more = event["done"] - self.done
        self.done = event["done"]
        if event.get("error"):
            self.failed[event["model"]] = event["error"]
        if more:
            self._task.advance(more, **({"seconds_left": event["left_s"]} if "left_s" in event else {}))


def _in_process_of_its_own(folder: Path, minutes: float | None, shown: Callable[[dict[str, Any]], None]) -> None:
    # -I: nothing of this environment's paths or variables, as on a device.
    command = [sys.executable, "-I", str(script_path()), str(folder), "--json", "--end-with-input"]
    if minutes is not None:
        command += ["--minutes", repr(float(minutes))]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        # In a session of its own, Ctrl-C reaches this process alone, which then stops the script, once.
        # Nothing is ever sent: the script ends when its input does, so that it never outlives this process.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=os.name == "posix",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    shown(json.loads(line))
            code = process.wait()
        finally:
            _stop(process)
        said.seek(0)
        message = said.read().strip()
    if code == 2:
        raise InputError(message.splitlines()[-1] if message else "the plan can't be used")
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code:
        end = message[-1000:] or "it said nothing"
        raise EnergysplitError(f"measuring in {folder} ended with exit code {code}; finished groups are kept: {end}")


def _stop(process: subprocess.Popen[str]) -> None:
    """End the script if it still runs: politely first, since it may be writing."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()
