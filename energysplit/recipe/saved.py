"""The recipe that a run folder holds, as plain data; of whatever version wrote it.

`recipe.json` is the resolved recipe, with the changes made while the run went on, if there were any, and a checksum;
files of 0.1.0 have neither.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from energysplit.errors import RunError, from_disk
from energysplit.plain_data import read_json, sealed, unsealed
from energysplit.recipe.changed import RecipeChange, read_changes, recipe_of_stage

RECIPE_FILE = "recipe.json"
_CHANGES = "changes"
_TABLES = ("model", "data", "train", "index", "growth", "step", "run", "export", "report", "hardware", "baseline")


def run_of_stage(folder: Path) -> Path | None:
    """The run that a folder is a stage of, by where it is said to be (links are not followed); None elsewhere."""
    return folder.parents[1] if folder.parent.name == "stages" else None


def stage_folders(run: Path) -> dict[int, Path]:
    """The folder of each finished stage of a run, by number. Stages appear whole: what one lacks was lost."""
    return {int(path.parent.name): path.parent for path in run.glob("stages/*/*") if path.parent.name.isdecimal()}


def saved_recipe(run: Path) -> dict[str, Any]:
    """The resolved recipe a run folder holds.

    Raises:
        RunError: it is missing or damaged.
        OSError: the disk refuses it.
    """
    return _saved(run)[0]


def saved_changes(run: Path) -> tuple[RecipeChange, ...]:
    """What was changed in the recipe while the run went on.

    Raises:
        RunError: the recipe is missing or damaged.
        OSError: the disk refuses it.
    """
    return _saved(run)[1]


def recipe_at(run: Path, stage: int) -> dict[str, Any]:
    """The resolved recipe that a stage of a run was, or is, trained with.

    Raises:
        RunError: the recipe is missing or damaged.
        OSError: the disk refuses it.
    """
    return recipe_of_stage(*_saved(run), stage)


def read_recipe(run: Path) -> tuple[Any, tuple[RecipeChange, ...]]:
    """The content of a run's `recipe.json` and its changes.

    Raises:
        OSError: it is missing or can't be read.
        ValueError: it is no JSON, or is damaged; the message does not name the file.
    """
    tree = unsealed(read_json(run / RECIPE_FILE))
    if not isinstance(tree, dict):
        return tree, ()
    changes = read_changes(tree.pop(_CHANGES)) if _CHANGES in tree else ()
    return tree, changes


def recipe_text(tree: Mapping[str, Any], changes: Sequence[RecipeChange] = ()) -> str:
    """The content of a `recipe.json`."""
    return sealed({**tree, _CHANGES: [change.plain() for change in changes]} if changes else tree)


def _saved(run: Path) -> tuple[dict[str, Any], tuple[RecipeChange, ...]]:
    file = run / RECIPE_FILE
    try:
        found, changes = read_recipe(run)
    except OSError as error:
        if from_disk(error) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise  # a run may go on once that is mended
        raise RunError(
            f"{file} can't be read: {error.strerror}; expected a run folder that `energysplit grow` wrote"
        ) from None
    except ValueError as error:
        what = f"it is no JSON ({error})" if isinstance(error, json.JSONDecodeError) else error
        raise RunError(f"{file} is damaged: {what}; run the recipe again in a new folder") from None
    if wrong := _misshapen(found):
        raise RunError(f"{file} is damaged: expected {wrong}; run the recipe again in a new folder")
    return found, changes


def _misshapen(tree: Any) -> str:
    """The first place that has not the shape that a resolved recipe of any version has: what was expected there."""
    if not isinstance(tree, dict):
        return "a table of recipe keys"
    for name in _TABLES:
        if not isinstance(tree.get(name, {}), dict | None):
            return f"a table of keys as {name!r}"
    lists = {"budget": (tree, "provider", "scope"), "price": (tree.get("report") or {}, "name", "provider")}
    for name, (table, *words) in lists.items():
        rows = table.get(name) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return f"a list of tables as {name!r}"
        if not all(isinstance(row.get(word), str) for row in rows for word in words):
            return f"{' and '.join(words)} in every {name!r}"
    limits = [budget.get("limit") for budget in tree.get("budget") or []]
    if not all(isinstance(limit, str | int | float) for limit in limits):
        return "a limit in every 'budget'"
    return ""
