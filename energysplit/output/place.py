"""Places to write to: tried before the work, and held against a second writer during it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from energysplit.errors import RunError

LOCK_FILE = ".lock"


def check_writable(folder: Path, advice: str) -> None:
    """Nothing, if files can be written in a folder, or in the one it would be made in; nothing is left there.

    Args:
        folder: the folder; it need not exist.
        advice: what to do otherwise, for the message.

    Raises:
        RunError: they can't.
    """
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error.strerror}; {advice}") from error


@dataclass(frozen=True)
class Held:
    """A folder that this process alone may write to, until the `held` it comes from ends."""

    folder: Path
    lock: os.stat_result

    def check(self) -> None:
        """Nothing, if the folder is still the one that was locked.

        Raises:
            RunError: it was removed or moved, or another was put in its place; nothing was written there.
        """
        try:
            same = os.path.samestat(self.lock, (self.folder / LOCK_FILE).stat())
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise RunError(
                f"{self.folder} was removed, moved or replaced while this run wrote to it; nothing more was written. "
                "Put it back and go on, or start again"
            )


@contextmanager
def held(folder: Path, advice: str) -> Iterator[Held]:
    """The folder, made if it is not there, and locked against other processes; a lock ends with its process.

    Args:
        folder: the folder.
        advice: what to do where it can't be written or is in use, for the message.

    Raises:
        RunError: another process holds it, or it can't be made, written or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error.strerror}; {advice}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder} is in use by another run; wait for it, or {advice}") from None
        except OSError as error:
            raise RunError(f"{folder} can't be locked: {error.strerror}; {advice}") from error
        yield Held(folder, os.fstat(lock.fileno()))
