"""Files and folders are whole at any moment: simulated failures at each move, and real kill -9."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from energysplit.errors import CheckpointError
from energysplit.output import atomic


class Crash(BaseException):
    """Stands for a kill: nothing catches it on purpose."""


def fill(folder: Path, version: str, files: int = 3) -> None:
    for number in range(files):
        (folder / f"{number}.txt").write_text(version)


def version_of(folder: Path, files: int = 3) -> str | None:
    """The version all files agree on; None if there is no folder."""
    if not folder.exists():
        return None
    found = {(folder / f"{number}.txt").read_text() for number in range(files)}
    assert len(found) == 1
    assert len(list(folder.iterdir())) == files
    return found.pop()


def test_write_replaces_and_leaves_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    atomic.write_text(path, "nëw")
    assert path.read_text(encoding="utf-8") == "nëw"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    written = atomic.write_text(tmp_path / "written", "")
    assert written.stat().st_mode == ordinary.stat().st_mode


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = atomic.write_text(tmp_path / "a.txt", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
        with pytest.raises(OSError, match="disk full") as caught:
            atomic.write_text(path, "new")
    assert caught.value.filename == str(path), "not the name of a temporary file, nor none"
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_append_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    atomic.append_line(path, "one")
    atomic.append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"
    with pytest.raises(ValueError, match="one line expected"):
        atomic.append_line(path, "three\nfour")


def test_append_line_refuses_to_join_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"stage": 0}\n{"sta')
    with pytest.raises(CheckpointError, match=r"journal\.jsonl ends in the middle of a line"):
        atomic.append_line(path, "next")
    assert path.read_text() == '{"stage": 0}\n{"sta'


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_refused_line_leaves_the_lines_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "journal.jsonl"
    atomic.append_line(path, "one")
    write, taken = os.write, []

    def refuse(descriptor: int, data: bytes = b"") -> int:
        """A part of the line is taken first, as a disk that gets full does."""
        if call == "write" and not taken:
            taken.append(data)
            return write(descriptor, data[:2])
        raise OSError(errno.ENOSPC, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match=r"disk full: .*journal\.jsonl"):
            atomic.append_line(path, "two")
    assert path.read_text() == "one\n"
    atomic.append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"


def test_sha256_of(tmp_path: Path) -> None:
    path = atomic.write_bytes(tmp_path / "empty", b"")
    assert atomic.sha256_of(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_error_in_the_block_keeps_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    with atomic.atomic_folder(path) as folder:
        fill(folder, "old")

    def fail() -> None:
        with atomic.atomic_folder(path) as folder:
            fill(folder, "new", files=1)
            raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        fail()
    assert version_of(path) == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["stage"]


def crash_after(calls: int, real: object) -> object:
    """A move that works `calls` times and then kills."""
    count = 0

    def move(*args: object) -> None:
        nonlocal count
        if count == calls:
            raise Crash
        count += 1
        real(*args)  # type: ignore[operator]

    return move


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("target", ["rename", "fsync", "rmtree"])
@pytest.mark.parametrize("calls", range(8))
def test_a_crash_at_any_step_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool, target: str, calls: int
) -> None:
    path = tmp_path / "stages" / "1"
    if existed:
        with atomic.atomic_folder(path) as folder:
            fill(folder, "old")
    owner = atomic.shutil if target == "rmtree" else os
    crashed = False
    with monkeypatch.context() as patch:
        patch.setattr(owner, target, crash_after(calls, getattr(owner, target)))
        try:
            with atomic.atomic_folder(path) as folder:
                fill(folder, "new")
        except Crash:
            crashed = True
    seen = version_of(path)
    if not crashed:
        assert seen == "new"
    if existed and seen is None:
        # The one moment without a folder: both are whole beside it.
        assert version_of(path.with_name(".1.old")) == "old"
        assert version_of(path.with_name(".1.new")) == "new"
    atomic.recover_folder(path)
    recovered = version_of(path)
    assert recovered in (("old", "new") if existed else (None, "new"))
    assert seen != "new" or recovered == "new"
    with atomic.atomic_folder(path) as folder:
        fill(folder, "third")
    assert version_of(path) == "third"
    assert [entry.name for entry in path.parent.iterdir()] == ["1"]


WRITER = """
import sys
from pathlib import Path
from energysplit.output.atomic import append_line, atomic_folder
path = Path(sys.argv[1])
number = int(sys.argv[2])
while True:
    with atomic_folder(path) as folder:
        for name in range(3):
            (folder / f"{name}.txt").write_text(str(number))
    append_line(path.parent / "done.txt", str(number))
    number += 1
"""


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    """Twenty real kills of a writer that replaces one folder over and over, each within two replacements' time."""
    path, log = tmp_path / "stage", tmp_path / "done.txt"
    chance = random.Random(0)
    number, replaced = 0, 0

    def lines() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)])
        least = chance.randint(2, 4)
        before = seen = lines()
        since = time.monotonic()
        span = 0.0  # of one replacement on this machine, as busy as it is now
        while seen < before + least:
            assert child.poll() is None, "the writer ended by itself"
            time.sleep(0.0005)
            if (now := lines()) > seen:
                moment = time.monotonic()
                span, since, seen = (moment - since) / (now - seen), moment, now
        time.sleep(chance.random() * 2 * span)
        child.send_signal(signal.SIGKILL)
        child.wait()
        done = int(log.read_text().split()[-1])
        found = version_of(path)
        if found is None:
            atomic.recover_folder(path)
            found = version_of(path)
        assert found is not None
        assert int(found) in (done, done + 1)
        assert log.read_text().endswith("\n")
        replaced += least
        assert done >= number + least - 1
        number = int(found) + 1
    assert number >= replaced >= 40
    atomic.recover_folder(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["done.txt", "stage"]


def test_only_ordinary_files_have_a_digest():
    with pytest.raises(CheckpointError, match="/dev/null can't be read: it is no ordinary file"):
        atomic.sha256_of("/dev/null")
