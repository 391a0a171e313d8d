"""What reading a file may not do: run code, import something new, start a process, reach out, or write elsewhere."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "webbrowser.open", "ctypes.dlopen"),
    *("pickle.find_class", "os.putenv", "os.unsetenv", "os.symlink", "os.link", "os.chown"),
)
_PATHS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.utime")
"""Their last argument is the folder that the path is relative to, -1 for none: `shutil.rmtree` gives one."""
_OWN_CODE = ("<eval_with_key>", "<string>", "<torch_package")
"""Names that torch.fx, dataclasses and jaxtyping give to code that they write themselves."""

_folder: Path | None = None
_seen: list[str] = []
_installed = False


@contextmanager
def guarded(folder: Path) -> Iterator[list[str]]:
    """What was done in the block that no reader may do; files are written inside `folder` only."""
    global _folder, _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    _seen.clear()
    _folder = folder.resolve()
    try:
        yield _seen
    finally:
        _folder = None


@contextmanager
def bounded_memory(more: int) -> Iterator[None]:
    """A block that may map `more` bytes than the process has now; beyond, Python raises a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _folder is None:
        return
    if event in _NEVER:
        _seen.append(f"{event} {args!r:.200}")
    elif event == "exec":
        name = getattr(args[0], "co_filename", "")
        if not name.startswith((*_OWN_CODE, "<frozen", sys.prefix, sys.base_prefix, str(_PACKAGE))):
            _seen.append(f"exec {name}")
    elif event == "open":
        path, mode, flags = args
        writes = any(letter in (mode or "") for letter in "wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes and _is_path(path) and not _inside(path):
            _seen.append(f"open {path!r} {mode!r}")
    elif event in _PATHS and args[-1] == -1 and not all(map(_inside, filter(_is_path, args))):
        _seen.append(f"{event} {args!r:.200}")


_PACKAGE = Path(__file__).resolve().parents[2] / "energysplit"


def _is_path(value: object) -> bool:
    return isinstance(value, str | bytes)


def _inside(path: str | bytes) -> bool:
    assert _folder is not None
    there = os.path.realpath(os.fsdecode(path))
    return there.startswith(f"{_folder}{os.sep}") or there == os.devnull
