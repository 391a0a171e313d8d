"""Commands in processes of their own that are killed, lose power, or are refused a file by the disk."""

from __future__ import annotations

import errno
import functools
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from energysplit import growth
from energysplit.output.atomic import write_text

DIED = 137
PHASES = ("start", "train", "evaluate", "index", "allocate", "surgery", "checkpoint", "export", "measure", "report")
REFUSALS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO)


class Child:
    """A function in a process of its own, with what it says."""

    def __init__(self, processes: ForkServerContext, function: Callable[..., None], *arguments: Any) -> None:
        reading, writing = processes.Pipe(duplex=False)
        self.process = processes.Process(target=_said, args=(writing, function, *arguments))
        self.process.start()
        writing.close()
        self._said: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def _read(self, reading: Any) -> None:
        while data := os.read(reading.fileno(), 65536):
            self._said.append(data)

    def end(self) -> tuple[int, str]:
        """Its exit code and all it said, once it has ended."""
        self.process.join()
        self._reader.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, b"".join(self._said).decode()


def _said(writing: Any, function: Callable[..., None], *arguments: Any) -> None:
    for descriptor in (1, 2):
        os.dup2(writing.fileno(), descriptor)
    writing.close()
    sys.stdout = os.fdopen(os.dup(1), "w")
    sys.stderr = os.fdopen(os.dup(2), "w")
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def command(arguments: list[str], figures: bool = False) -> None:
    """The command line; a growth's figures, which take longest, are left out unless asked for."""
    from energysplit.cli import main

    if not figures:
        growth.loop.write_report = lambda path, *_: write_text(path / "report.html", "figures left out")
    sys.argv = ["energysplit", *arguments]
    main()


def noting(now: Any, arguments: list[str]) -> None:
    """The same, with the number of its phase in shared memory."""

    def note(owner: Any, name: str, phase: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before, now.value = now.value, PHASES.index(phase)
            try:
                return real(*args, **kwargs)
            finally:
                now.value = before

        setattr(owner, name, wrapped)

    growth.loop.write_report = lambda path, *_: write_text(path / "report.html", "figures left out")
    note(growth.stage, "train_epoch", "train")
    note(growth.loop, "evaluated", "evaluate")
    note(growth.stage, "splitting_index", "index")
    note(growth.stage, "decide", "allocate")
    note(growth.stage, "take_step", "surgery")
    note(growth.stage, "start_of_next", "surgery")
    note(growth.following.baselines, "decide", "allocate")
    note(growth.following.baselines, "made", "surgery")
    for name in ("save_progress", "save_stage"):
        note(growth.folder.RunFolder, name, "checkpoint")
    note(growth.loop.journal, "append", "checkpoint")
    note(growth.loop, "export_with_parity", "export")
    note(growth.loop, "measure_run", "measure")
    note(growth.loop, "write_report", "report")
    command(arguments, figures=True)


def profile(arguments: list[str]) -> None:
    """`energysplit profile` of a small network, with few rounds of short bursts."""
    from energysplit.measure import alignment, plan

    plan.PlanOptions = functools.partial(plan.PlanOptions, rounds=2, burst_s=0.001, warmup_s=0.001)  # type: ignore[misc]
    alignment.WIDTHS = (40, 44, 47, 48)
    command(["profile", "--model", "mlp", "--minutes", "0.02", "--target", "0.001", *arguments])


def die_at(folder: str, operation: int, arguments: list[str]) -> None:
    """The command, dying without any clean-up before the n-th file operation in a folder."""
    at_operation(Path(folder), operation, lambda path: os._exit(DIED))
    command(arguments)


def lose_power_at(folder: str, operation: int, arguments: list[str]) -> None:
    """The same, losing half of every file that was not flushed to the disk since it was opened to be written."""

    def cut(path: str) -> None:
        for unsafe in disk.unsafe:
            if os.path.isfile(unsafe):
                os.truncate(unsafe, os.path.getsize(unsafe) // 2)
        os._exit(DIED)

    disk = at_operation(Path(folder), operation, cut)
    command(arguments)


def refuse_at(folder: str, operation: int, number: int, arguments: list[str]) -> None:
    """The command, refused the n-th file operation in a folder; 0 refuses none and says how many there are."""

    def refuse(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    disk = at_operation(Path(folder), operation, refuse)
    try:
        command(arguments)
    finally:
        print(f"{disk.count} operations")


class _Disk:
    """Counts operations in a folder. unsafe: files opened to be written and not flushed since."""

    def __init__(self, folder: Path, operation: int, fault: Callable[[str], None]) -> None:
        self.folder, self.operation, self.fault = str(folder), operation, fault
        self.count = 0
        self.unsafe: set[str] = set()
        self._inside = False

    def seen(self, path: Any, directory: int = -1) -> None:
        """One operation on a path, relative to an open directory if there is one."""
        if self._inside:
            return
        self._inside = True
        try:
            path = os.fsdecode(path) if not isinstance(path, int) else os.readlink(f"/proc/self/fd/{path}")
            if directory >= 0 and not os.path.isabs(path):
                path = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), path)
            if os.path.abspath(path).startswith(self.folder):
                self.count += 1
                if self.count == self.operation:
                    self.fault(path)
        finally:
            self._inside = False

    def audit(self, event: str, given: tuple[Any, ...]) -> None:
        """What Python is about to do."""
        if event == "open" and not isinstance(given[0], int):
            self.seen(given[0])
            if given[2] & (os.O_WRONLY | os.O_RDWR):
                self.unsafe.add(os.path.abspath(os.fsdecode(given[0])))
        elif event in ("os.mkdir", "os.chmod"):
            self.seen(given[0], given[2] if len(given) > 2 else -1)
        elif event in ("os.remove", "os.rmdir"):
            self.seen(given[0], given[1])
        elif event == "os.rename":
            self.seen(given[0])
            self.unsafe = {str(given[1]) if path == str(given[0]) else path for path in self.unsafe}
        elif event in ("os.scandir", "os.listdir"):
            self.seen(given[0])

    def flushed(self, descriptor: int) -> None:
        """A file or folder that is about to be flushed to the disk."""
        self.seen(descriptor)
        self.unsafe.discard(os.readlink(f"/proc/self/fd/{descriptor}"))


def at_operation(folder: Path, operation: int, fault: Callable[[str], None]) -> _Disk:
    """Calls `fault` with the path before the n-th file operation in a folder, from 1; not to be undone."""
    disk = _Disk(folder, operation, fault)
    sys.addaudithook(disk.audit)
    fsync, write = os.fsync, os.write

    def watched_fsync(descriptor: int) -> None:
        disk.flushed(descriptor)
        fsync(descriptor)

    def watched_write(descriptor: int, data: bytes) -> int:
        disk.seen(descriptor)
        return write(descriptor, data)

    os.fsync, os.write = watched_fsync, watched_write
    return disk
