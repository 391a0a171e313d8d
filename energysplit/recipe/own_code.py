"""The code that a recipe names: "module:callable" imports a module, and importing runs it.

Whoever writes a recipe in the working folder means that. A recipe from elsewhere may be anybody's, so the command line
asks for `--allow-code` before it does what such a recipe names. From Python nothing is asked: a program that loads a
recipe decides for itself, with `load(..., allow_code=False)` if it is a stranger's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from energysplit.errors import RecipeError, RunError
from energysplit.recipe.keys import value_at
from energysplit.recipe.saved import RECIPE_FILE, run_of_stage, saved_recipe

Key = tuple[str | int, ...]

LIBRARIES = ("torchvision:", "timm:")
"""Beginnings of models' names that have a colon and name no code of anybody's own."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")


def check_code(tree: Mapping[str, Any], origin: Callable[[Key], Path | None]) -> None:
    """Nothing, if all code that a resolved recipe names may be run without asking.

    Args:
        tree: of the recipe.
        origin: a key -> the file that sets it; None for what was typed.

    Raises:
        RecipeError: a file from outside the working folder names code; the message says which key.
    """
    for key, name in _named(tree):
        if (file := origin(key)) is not None:
            _check(file, ".".join(map(str, key)), name)
    for run in _teachers(tree):
        try:
            named = list(_named({"model": saved_recipe(run).get("model")}))
        except RunError:
            continue  # nothing is built by a recipe that is missing or damaged; what the disk refuses ends the command
        for key, name in named:
            _check(run / RECIPE_FILE, ".".join(map(str, key)), name)


def in_working_folder(file: Path) -> bool:
    """Whether a file is in the working folder or below, links followed, and was not given by an address (URL)."""
    return not _ADDRESS.match(str(file)) and file.resolve().is_relative_to(Path.cwd())


def _check(file: Path, key: str, name: str) -> None:
    if not in_working_folder(file):
        raise RecipeError(
            f"{file}: {key} = {name!r} runs code, and the file is not in the working folder ({Path.cwd()}); read it "
            "and the code it names, then add --allow-code"
        )


def _named(tree: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Every key whose value names code, and the value."""
    if _is_code(name := value_at(tree, "model.name")) and not name.startswith(LIBRARIES):
        yield ("model", "name"), name
    for at, name in enumerate(value_at(tree, "report.providers") or ()):
        if _is_code(name):
            yield ("report", "providers", at), name
    for section, prices in (("budget",), tree.get("budget")), (("report", "price"), value_at(tree, "report.price")):
        for at, price in enumerate(prices or ()):
            yield from _priced(price, (*section, at), "options")


def _priced(said: Any, place: Key, options: str = "") -> Iterator[tuple[Key, str]]:
    """The code that one price names: its provider, and those of the parts of a weighted sum."""
    if not isinstance(said, Mapping):
        return
    if _is_code(name := said.get("provider")):
        yield (*place, "provider"), name
    parts = value_at(said, f"{options}.parts" if options else "parts")
    place = (*place, options, "parts") if options else (*place, "parts")
    for label, part in parts.items() if isinstance(parts, Mapping) else ():
        if _is_code(label):
            yield (*place, label), label
        yield from _priced(part, (*place, label))


def _is_code(name: Any) -> TypeGuard[str]:
    return isinstance(name, str) and ":" in name


def _teachers(tree: Mapping[str, Any]) -> list[Path]:
    """The runs whose recipe may say what the teacher's seed is built by: the run named, or that of the stage named."""
    said = value_at(tree, "train.teacher.run")
    if not isinstance(said, str):
        return []
    run = Path(said).expanduser()
    return [run] if (whole := run_of_stage(run)) is None else [run, whole]
