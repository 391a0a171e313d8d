"""How long work is shown: it reports to a `Progress` and knows nothing of terminals."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Task(Protocol):
    """A running piece of work that is shown to the user."""

    def advance(self, n: int = 1, **info: float) -> None:
        """`n` more of the total are done; `info` are numbers to show beside (loss, accuracy)."""
        ...


class Progress(Protocol):
    """Shows what is going on. Work reports to it and knows nothing of terminals."""

    def stage(self, n: int, total: int, text: str) -> None:
        """Stage `n`, counted from 0, of `total` begins; `text` says what it starts from."""
        ...

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """A piece of work of `total` units, shown while the context is open."""
        ...

    def line(self, text: str) -> None:
        """One line that stays."""
        ...


class SilentProgress:
    """A `Progress` that shows nothing."""

    def stage(self, n: int, total: int, text: str) -> None:
        """Shows nothing."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """A context whose task shows nothing."""
        return nullcontext(_SilentTask())

    def line(self, text: str) -> None:
        """Shows nothing."""


class _SilentTask:
    def advance(self, n: int = 1, **info: float) -> None:
        """Shows nothing."""
