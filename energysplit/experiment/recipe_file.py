"""Writes a resolved recipe as the TOML file that a run is started with, and that anybody can run again by itself."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from energysplit.errors import RecipeError
from energysplit.output.atomic import write_text
from energysplit.recipe import Recipe, from_dict


def write_recipe(path: Path, recipe: Recipe) -> Path:
    """The path, holding every key of the recipe; an equal file is left alone.

    Raises:
        RecipeError: TOML can't hold it (a null in a model's arguments).
    """
    text = as_toml(recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def as_toml(recipe: Recipe) -> str:
    """The recipe as TOML that reads back equal.

    Raises:
        RecipeError: TOML can't hold it (a null in a model's arguments).
    """
    text = tomli_w.dumps(_without_none(recipe.resolved()))
    if from_dict(tomllib.loads(text), recipe.name) != recipe:
        raise RecipeError(f"{recipe.name}: the recipe changes when written as TOML; is there a null in model.args?")
    return text


def _without_none(tree: Any) -> Any:
    """The tree without keys that have no value: TOML has no null, and a recipe's default for them is none."""
    if isinstance(tree, Mapping):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    return [_without_none(item) for item in tree] if isinstance(tree, list) else tree
