"""Progress on a terminal (bars) and in a log (plain lines); both are a `energysplit.progress.Progress`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from energysplit.output.numbers import duration, percent
from energysplit.progress import Progress, SilentProgress

LINE_EVERY_S = 1.0
"""A log gets a line for each unit of a task (an epoch), but no more often than this."""


def progress(quiet: bool = False) -> Progress:
    """Bars if stdout is a terminal, else plain lines; nothing if `quiet`."""
    if quiet:
        return SilentProgress()
    return TerminalProgress() if sys.stdout.isatty() else PlainProgress()


class PlainProgress:
    """One line for each stage, each unit of a task (at most one a second), and each finished task."""

    def stage(self, n: int, total: int, text: str) -> None:
        """Says which stage begins."""
        self.line(_heading(n, total, text))

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[_PlainTask]:
        """A task that writes a line when it is done."""
        task = _PlainTask(self, name, total)
        yield task
        task.finish()

    def line(self, text: str) -> None:
        """Writes the line at once: a log is often read while it grows."""
        print(text, flush=True)


class _PlainTask:
    def __init__(self, parent: PlainProgress, name: str, total: int) -> None:
        self.parent, self.name, self.total = parent, name, total
        self.done = 0
        self.info = ""
        self.start = self.said = time.monotonic()

    def advance(self, n: int = 1, **info: float) -> None:
        """Counts, and writes a line if the last one is long ago."""
        self.done += n
        self.info = _numbers(info) or self.info
        if self.done < self.total and time.monotonic() - self.said >= LINE_EVERY_S:
            self.said = time.monotonic()
            self.parent.line(f"  {self.name}: {self.done}/{self.total}{self.info}")

    def finish(self) -> None:
        """Writes the last line, with the time it took."""
        self.parent.line(
            f"  {self.name}: {self.done}/{self.total}{self.info} ({duration(time.monotonic() - self.start)})"
        )


class TerminalProgress:
    """Bars that vanish when done; each leaves a line with its last numbers and its time."""

    def __init__(self, console: Console | None = None) -> None:
        self.bars = Bars(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeRemainingColumn(),
            console=console or Console(highlight=False),
            transient=True,
        )
        self.open = 0

    def stage(self, n: int, total: int, text: str) -> None:
        """Says which stage begins."""
        self.bars.console.print(_heading(n, total, text), style="bold", markup=False)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[_BarTask]:
        """A bar; several may be open at once."""
        if self.open == 0:
            self.bars.start()
        self.open += 1
        task = _BarTask(self.bars, self.bars.add_task(name, total=total, info=""))
        start = time.monotonic()
        try:
            yield task
            self.line(f"  {name}{task.info} ({duration(time.monotonic() - start)})")
        finally:
            # Also after an error or Ctrl-C: a bar left running hides the cursor.
            self.bars.remove_task(task.number)
            self.open -= 1
            if self.open == 0:
                self.bars.stop()

    def line(self, text: str) -> None:
        """Prints above the bars."""
        self.bars.console.print(text, markup=False)


class _BarTask:
    def __init__(self, bars: Bars, number: TaskID) -> None:
        self.bars, self.number = bars, number
        self.info = ""

    def advance(self, n: int = 1, **info: float) -> None:
        """Moves the bar."""
        self.info = _numbers(info) or self.info
        self.bars.update(self.number, advance=n, info=self.info.removeprefix(": "))


def _heading(n: int, total: int, text: str) -> str:
    return f"stage {n} (last: {total - 1}): {text}"


def _numbers(info: dict[str, float]) -> str:
    """Numbers to show, from ": "; accuracies in percent."""
    if not info:
        return ""
    parts = (f"{key} {percent(value)}" if "accuracy" in key else f"{key} {value:.4g}" for key, value in info.items())
    return ": " + ", ".join(parts)
