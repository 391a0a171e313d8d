"""What several commands read from their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.errors import InputError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from energysplit.growth.solve_again import GivenBudget
    from energysplit.types import GroupBound

SCOPES = ("network", "stage")

AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Run the code (module:callable) that a recipe outside the working folder names."),
]


def image_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width of "3,224,224".

    Raises:
        InputError: the text is no such shape.
    """
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--image {text}: expected channels, height and width, such as 3,224,224")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width


def given_budgets(texts: Sequence[str] | None) -> list[GivenBudget]:
    """Budgets of "latency=6ms", "macs=1.5x:stage", "my_module:Class=100:network".

    Raises:
        InputError: a text is no such budget. Limits are read later, by their providers' units.
    """
    from energysplit.amounts import factor
    from energysplit.growth.solve_again import GivenBudget

    found = []
    for text in texts or ():
        provider, equals, limit = (part.strip() for part in text.partition("="))
        if not provider or not equals or not limit:
            raise InputError(f"--budget {text}: expected PROVIDER=LIMIT, such as latency=6ms or macs=1.5x:stage")
        limit, colon, scope = (part.strip() for part in limit.partition(":"))
        if colon and scope not in SCOPES:
            raise InputError(f"--budget {text}: scope {scope!r}: {nearest(scope, SCOPES)}")
        budget = GivenBudget(provider, limit, scope or None)  # type: ignore[arg-type]
        try:
            factor(limit)  # what a unit makes of it is its provider's business
        except InputError as error:
            raise InputError(f"--budget {text}: {error}") from None
        found.append(budget)
    return found


def given_bounds(texts: Sequence[str] | None) -> dict[str, GroupBound]:
    """Bounds of "blocks.*=64" (most channels) and "classifier=frozen", by group name or pattern.

    Raises:
        InputError: a text is no such bound, or a pattern is given twice.
    """
    from energysplit.types import GroupBound

    found: dict[str, GroupBound] = {}
    for text in texts or ():
        pattern, equals, bound = (part.strip() for part in text.rpartition("="))
        if not pattern or not equals or not (bound == "frozen" or (bound.isdecimal() and int(bound) > 0)):
            raise InputError(f"--bound {text}: expected PATTERN=CHANNELS or PATTERN=frozen, such as 'blocks.*=64'")
        if pattern in found:
            raise InputError(f"--bound {text}: {pattern!r} is given twice; expected one bound for each pattern")
        found[pattern] = GroupBound(frozen=True) if bound == "frozen" else GroupBound(max_channels=int(bound))
    return found


def given_multiple(text: str) -> int | str:
    """A multiple of "8" or "auto".

    Raises:
        InputError: the text is neither.
    """
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--multiple-of {text}: expected a whole number of at least 1, or auto")
    return int(text)


def file_to_write(option: str, file: Path, *, default: bool = False) -> Path:
    """The file itself, where links lead: a new one or a plain file, in a folder that can be written; before any work.

    Args:
        option: that names the file.
        file: the file.
        default: whether the option was not given; the file is what it stands for then.

    Raises:
        InputError: it is a folder or a device, or its folder is not there or can't be written.
    """
    from energysplit.output.place import check_writable

    said = f"{file} (default of {option})" if default else f"{option} {file}"
    found = file.resolve()
    if found.exists() and not found.is_file():
        what = "a folder" if found.is_dir() else "no file"
        raise InputError(f"{said}: is {what}; expected the name of a file")
    if not found.parent.is_dir():
        raise InputError(f"{said}: no folder {file.parent}; make it first or choose another")
    check_writable(found.parent, f"choose another file with {option}")
    return found
