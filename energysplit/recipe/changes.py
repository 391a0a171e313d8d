"""What differs between a recipe and an earlier one.

A resumed run is checked by it: `recipe.json` holds the recipe that the run was started with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from energysplit.recipe.keys import flat
from energysplit.recipe.schema import (
    ExportRecipe,
    GrowthRecipe,
    HardwareRecipe,
    IndexRecipe,
    Recipe,
    ReportRecipe,
    RunRecipe,
    TrainRecipe,
)


def changes(recipe: Recipe, old: Mapping[str, Any]) -> list[str]:
    """Dotted keys, sorted, whose values differ from those of `old`, an earlier `Recipe.resolved()`.

    A key that only one of the two has differs; keys of tables in a list carry their number (`budget.0.limit`), and
    another list is one value. Keys that recipes did not have at first count as their default where `old` lacks them, so
    that old runs can be resumed.
    """
    before, now = flat(completed(old)), flat(recipe.resolved())
    return sorted(key for key in before.keys() | now.keys() if before.get(key, ...) != now.get(key, ...))


def before_and_now(recipe: Recipe, old: Mapping[str, Any], keys: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """The values that keys have in `old` and in a recipe, in this order; None where a key is missing.

    A table that only one of the two has is named by its keys, not once more by itself.
    """
    before, now, listed = flat(completed(old)), flat(recipe.resolved()), list(keys)
    inner = [key for key in listed if not any(other.startswith(f"{key}.") for other in listed)]
    return {key: (before.get(key), now.get(key)) for key in inner}


def completed(old: Mapping[str, Any]) -> dict[str, Any]:
    """`old`, an earlier resolved recipe, with the keys that came later and their defaults."""
    tree = copy.deepcopy(dict(old))
    tree.setdefault("hardware", HardwareRecipe().model_dump(mode="json"))
    tree.setdefault("baseline", None)
    later: dict[str, tuple[BaseModel, tuple[str, ...]]] = {
        "growth": (GrowthRecipe(stages=0), ("risk", "signed", "mass", "bounds", "sizes_of", "last_weights")),
        "train": (TrainRecipe(epochs=1), ("accumulate", "ema", "patience", "min_improvement", "teacher")),
        "run": (RunRecipe(), ("tensorboard",)),
        "report": (ReportRecipe(), ("price",)),
    }
    for name, (section, keys) in later.items():
        if isinstance(tree.get(name), dict):
            defaults = section.model_dump(mode="json")
            tree[name] = {**{key: defaults[key] for key in keys}, **tree[name]}
    if isinstance(tree.get("index"), dict):
        tree["index"].setdefault("statistics", "running")
        tree["index"].setdefault("shrinkage", "none")
        tree["index"].setdefault("precision", IndexRecipe().precision)
    if isinstance(tree.get("export"), dict):
        tree["export"].setdefault("measure", ExportRecipe().measure)
    budgets = tree.get("budget")
    for budget in budgets if isinstance(budgets, list) else []:
        if isinstance(budget, dict):
            budget.setdefault("options", {})
    return tree
