"""One run as a process of its own, so that a crash costs one run; it can be stopped with everything it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from energysplit.experiment.plan import Run


class Process(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def stop(self, how: signal.Signals) -> None:
        """Send a signal to it and all it has started; after its end only SIGKILL, to what it has left behind."""
        ...


Start = Callable[[Run, Path, Path, bool], Process]
"""Starts a run: the run, its recipe's file, its log, and whether it goes on from what its folder holds."""


class GroupProcess:
    """A command in a group of processes of its own: Ctrl-C on the terminal reaches it through us only, and once.

    It is never sent anything, but its input ends when this process does, however that ends; see `--end-with-input`.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self._process.poll()
        if code is not None and self._process.stdin is not None:
            self._process.stdin.close()
        return code

    def stop(self, how: signal.Signals) -> None:
        """Send a signal to the whole group; after the command's end only SIGKILL, to what it has left behind."""
        if self.poll() is None or how is signal.SIGKILL:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)


def start_process(run: Run, recipe: Path, log: Path, resume: bool) -> Process:
    """`energysplit grow`, with as many threads as the recipe says unless the environment says otherwise.

    Modules are looked for where this process looks: in the working folder only if it does too (`python -m`). What the
    recipe names was allowed when the plan was made, wherever its runs are.
    """
    safe = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
    command = [sys.executable, *safe, "-m", "energysplit", "grow", str(recipe), "--run", str(run.folder)]
    command += ["--allow-code", "--end-with-input"]
    environment = {"OMP_NUM_THREADS": str(run.recipe.run.threads or 1), **os.environ}
    return GroupProcess([*command, "--resume"] if resume else command, log, environment)


def last_lines(log: Path, count: int = 8) -> list[str]:
    """The last lines of a log that are not empty; none where it can't be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
