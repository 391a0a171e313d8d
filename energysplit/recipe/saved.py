"""The recipe that a run folder holds, as plain data; of whatever version wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from energysplit.errors import RunError
from energysplit.plain_data import read_json

RECIPE_FILE = "recipe.json"


def run_of_stage(folder: Path) -> Path | None:
    """The run that a folder is a stage of, by where it is said to be (links are not followed); None elsewhere."""
    return folder.parents[1] if folder.parent.name == "stages" else None


def saved_recipe(run: Path) -> dict[str, Any]:
    """The resolved recipe a run folder holds.

    Raises:
        RunError: it is missing or damaged.
    """
    file = run / RECIPE_FILE
    try:
        found = read_json(file)
    except OSError as error:
        raise RunError(
            f"{file} can't be read: {error.strerror}; expected a run folder that `energysplit grow` wrote"
        ) from None
    except ValueError as error:
        raise RunError(f"{file} is damaged: it is no JSON ({error}); run the recipe again in a new folder") from None
    if not isinstance(found, dict):
        raise RunError(f"{file} is damaged: expected a table of recipe keys; run the recipe again in a new folder")
    return found
