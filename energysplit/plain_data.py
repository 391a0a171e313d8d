"""Files of anybody: ordinary ones only, and of them JSON and TOML as plain data (tables, lists, text, numbers).

What never ends (a device, a pipe) is refused of any file; how large one may be says whoever reads it. Python's readers
of JSON and TOML stop at what is neither. What they pass on, or break at, is refused here too: megabytes, tables nested
without end, whole numbers beyond 64 bits, which no float holds, NUL, which no path may hold, and halves of characters,
which can't be printed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_JSON, LARGEST_TOML = 16 << 20, 1 << 20
"""Bytes of a file; the largest that energysplit writes have some hundred thousand."""
DEEPEST = 64
"""Tables and lists inside one another; a recipe has 6."""
NAME = r"^[^/\\\x00-\x1f\x7f]*[^/\\.\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$"
"""What may become the name of a folder: no path, not `..`, nothing that can't be printed."""
_LARGEST_WHOLE = 1 << 64
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

# tomllib keeps every beginning of a dotted key: memory grows with the square of the number of its parts.
_PART = r"""(?:(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.){0,200}+"|'[^'\n]{0,200}+')"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{{DEEPEST}}}")


def open_file(path: Path | str) -> BinaryIO:
    """An ordinary file, open for reading. Nobody waits for the other end of a pipe.

    Raises:
        OSError: it is missing, a folder, or can't be opened.
        ValueError: it is no ordinary file (a device, a pipe), or has a name that no file can have.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise ValueError("it is no ordinary file")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, largest: int | None = None) -> bytes:
    """The content of an ordinary file.

    Args:
        path: the file.
        largest: bytes it may have at most; any number if not given.

    Raises:
        OSError: it is missing or can't be read.
        ValueError: it is no ordinary file (a device, a pipe), is too large, or has a name that no file can have.
    """
    with open_file(path) as file:
        # Counted as read: what the kernel makes up (/proc) says that it has no bytes, and what grows has more.
        content = file.read(-1 if largest is None else largest + 1)
    if largest is not None and len(content) > largest:
        raise ValueError(f"it has more than {largest:,} bytes")
    return content


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it is missing or can't be read.
        ValueError: it is no JSON, or holds what plain data may not; the message does not name the file.
    """
    return parse_json(read_file(path, LARGEST_JSON))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        OSError: it is missing or can't be read.
        ValueError: it is no TOML, or holds what plain data may not; the message does not name the file.
    """
    return parse_toml(read_file(path, LARGEST_TOML).decode())


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: see `read_json`.
    """
    try:
        return checked(json.loads(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: see `read_toml`.

    Example:
        >>> parse_toml("limit = 8")
        {'limit': 8}
        >>> parse_toml("limit = 0x" + 100 * "f")
        Traceback (most recent call last):
        ...
        ValueError: it holds a whole number beyond 64 bits
    """
    if _LONG_KEY.search(text):
        raise ValueError(_TOO_DEEP)
    try:
        return checked(tomllib.loads(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


CHECKSUM = "checksum"


def checksum(tree: Mapping[str, Any]) -> str:
    """SHA-256 of a table as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def sealed(tree: Mapping[str, Any]) -> str:
    """The table as JSON, with a checksum over everything else in it as its last key."""
    return json.dumps({**tree, CHECKSUM: checksum(tree)}, indent=2) + "\n"


def unsealed(tree: Any) -> Any:
    """What was sealed; what never was, as it is.

    Raises:
        ValueError: it does not match its checksum.

    Example:
        >>> unsealed(json.loads(sealed({"seed": 1}))), unsealed({"seed": 1})
        ({'seed': 1}, {'seed': 1})
        >>> unsealed(json.loads(sealed({"seed": 1}).replace("1", "2", 1)))
        Traceback (most recent call last):
        ...
        ValueError: its content does not match its checksum
    """
    if not isinstance(tree, dict) or not tree:
        return tree
    last, found = next(reversed(tree.items()))
    # A seal whose name is damaged is one still.
    if CHECKSUM not in tree and not (isinstance(found, str) and _DIGEST.fullmatch(found)):
        return tree
    rest = {key: value for key, value in tree.items() if key != last}
    if last != CHECKSUM or checksum(rest) != found:
        raise ValueError("its content does not match its checksum")
    return rest


_DIGEST = re.compile("[0-9a-f]{64}")
_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"


def checked(tree: Any) -> Any:
    """The tree, all of whose values are plain; level by level, so that depth costs no stack.

    Raises:
        ValueError: it is too deep, or holds a whole number or a text that plain data may not.
    """
    level, depth = [tree], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        for value in level:
            if isinstance(value, int) and not -_LARGEST_WHOLE < value < _LARGEST_WHOLE:
                raise ValueError("it holds a whole number beyond 64 bits")
            for text in (value,) if isinstance(value, str) else value if isinstance(value, dict) else ():
                if isinstance(text, str) and _UNWRITABLE.search(text):
                    raise ValueError(f"it holds a character that can't be written: {text[:40]!a}")
        level = [
            inner
            for value in level
            for inner in (
                value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            )
        ]
        depth += 1
    return tree
