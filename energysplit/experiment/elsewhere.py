"""Runs that another experiment in the same folder has finished with the same recipe, so that no run is made twice.

Only runs of the present versions: seeds of one method are to differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from energysplit.experiment.state import state_of
from energysplit.hardware.detect import package_version
from energysplit.output.environment import read_environment
from energysplit.recipe import Recipe, changes
from energysplit.recipe.changed import on_the_way
from energysplit.recipe.saved import RECIPE_FILE, read_recipe

VERSIONS = ("energysplit", "torch")


class Elsewhere:
    """The runs of all experiments. runs: the folder with a folder for each of them."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def find(self, recipe: Recipe) -> tuple[Path, Recipe] | None:
        """A finished run whose recipe differs in its name at most: its folder and recipe; None if there is none."""
        for folder, old in self._recipes:
            if old.get("seed") != recipe.seed or not set(changes(recipe, old)) <= {"name"}:
                continue
            if state_of(folder, recipe).finished and _versions(read_environment(folder) or {}) == self._now:
                return folder, recipe.model_copy(update={"name": old["name"]})
        return None

    @cached_property
    def _now(self) -> dict[str, str | None]:
        return _versions({name: package_version(name) for name in VERSIONS})

    @cached_property
    def _recipes(self) -> list[tuple[Path, Mapping[str, Any]]]:
        """Folder and recipe of every run that had one from its beginning to its end, in the order of names."""
        found = []
        for file in sorted(self.runs.glob(f"*/*/*/{RECIPE_FILE}")):
            try:
                old, changed = read_recipe(file.parent)
            except (OSError, ValueError):
                continue  # somebody else's: whoever runs that experiment is told
            if isinstance(old, Mapping) and isinstance(old.get("name"), str) and not on_the_way(changed):
                found.append((file.parent, old))
        return found


def _versions(facts: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: facts.get(name) for name in VERSIONS}
