"""Files and folders that appear whole or not at all, whenever the process is killed or the power fails.

A file is written next to its place, flushed to the disk, and moved over it: `os.replace` within one folder is atomic.
A folder can't be moved over a full one, so replacing a folder takes three moves; their temporary names are fixed, and
`recover_folder` reads from them how far the last writer came. One writer at a time for each path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from energysplit.errors import CheckpointError
from energysplit.plain_data import open_file


def write_text(path: Path | str, text: str) -> Path:
    """The path, holding `text` in UTF-8; see `write_bytes`."""
    return write_bytes(path, text.encode())


def write_bytes(path: Path | str, data: bytes) -> Path:
    """The path, holding `data`; a reader or a kill at any moment finds the old content or the new, never a part.

    A kill can leave a file `.NAME.*.partial` in the same folder, which nothing reads. An error of the disk (full,
    read-only) removes it, leaves the old content and is raised as the `OSError` it is, with the path in it.
    """
    path = Path(path)
    with naming(path):
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files that only their owner can read; results are meant to be shared like any other file.
            os.chmod(partial, 0o666 & ~_umask())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(partial)
            raise
        sync_folder(path.parent)
    return path


def append_line(path: Path | str, line: str) -> None:
    """Add one line to a file with a single write, then flush it to the disk.

    A kill leaves the file with or without the line, and so does a disk that refuses it; a power failure can leave a
    part of it, which has no newline at its end: the next call refuses such a file rather than joining two lines.

    Raises:
        ValueError: `line` holds a newline.
        CheckpointError: the file ends in the middle of a line.
        OSError: the disk did not take the line.
    """
    path = Path(path)
    if "\n" in line or "\r" in line:
        raise ValueError(f"one line expected, given {line!r}")
    data = f"{line}\n".encode()
    with naming(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                raise CheckpointError(f"{path} ends in the middle of a line; remove its last line, then go on")
            try:
                while data:  # once, but for a disk that gets full: it takes a part, and refuses the rest
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if not size:
            sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder to fill; when the block ends without an error it becomes `path`, replacing what was there.

    What a reader, or a kill -9, finds at `path`, and beside it:

    - while the block runs and its files are flushed: the old folder, untouched, or nothing if there was none
      (leftover `.NAME.partial`);
    - between the two moves that put the new one in the place of an old one: nothing; both are whole, as `.NAME.old` and
      `.NAME.new`. The next `atomic_folder` or `recover_folder` on this path puts the new one in place. If there was no
      old folder this moment does not exist;
    - afterwards: the new folder, with every file on the disk (leftover `.NAME.old` while the old one is removed).

    `path` never holds a mixture of old and new, nor a part. Leftovers are removed by the next call. An error inside
    the block leaves the old folder and is raised. So is an `OSError` of a disk that refuses; the old folder or the new
    one is then at `path`, or comes there by `recover_folder`.
    """
    path = Path(path)
    recover_folder(path)
    partial, new, old = _names(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        _sync_tree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    # The name `.NAME.new` promises a folder that is complete and on the disk; nothing else ever gets it.
    os.rename(partial, new)
    sync_folder(path.parent)
    if path.exists():
        os.rename(path, old)
    os.rename(new, path)
    sync_folder(path.parent)
    _remove(old)


def recover_folder(path: Path | str) -> None:
    """Finish or undo what a killed `atomic_folder` left; nothing to do is fine.

    A complete new folder (`.NAME.new`) is put in place, whether or not the old one was moved away yet; otherwise an old
    one that was moved away comes back. Only writers call this: it must not run beside one.
    """
    path = Path(path)
    partial, new, old = _names(path)
    _remove(partial)
    if new.exists():
        if path.exists():
            _remove(old)
            os.rename(path, old)
        os.rename(new, path)
    elif old.exists() and not path.exists():
        os.rename(old, path)
    if path.parent.exists():
        sync_folder(path.parent)
    _remove(old)


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits; reads a megabyte at a time.

    Raises:
        CheckpointError: it is no ordinary file (a device, a pipe).
    """
    digest = hashlib.sha256()
    try:
        file = open_file(path)
    except ValueError as error:
        raise CheckpointError(f"{path} can't be read: {error}; restore it from a copy") from None
    with file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts a path in errors of the operating system: without one, or with a temporary name, they help nobody."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a move in it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(path: Path) -> tuple[Path, Path, Path]:
    """Temporary neighbours of a folder: being filled, complete, replaced."""
    return tuple(path.with_name(f".{path.name}.{kind}") for kind in ("partial", "new", "old"))  # type: ignore[return-value]


def _sync_tree(folder: Path) -> None:
    """Flush every file and folder under a folder to the disk."""
    for where, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(os.path.join(where, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(where))


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _umask() -> int:
    """The process's umask. It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
