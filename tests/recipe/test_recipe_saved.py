"""The recipe in a run folder: what has another shape than any version gave it is named, with the file."""

from __future__ import annotations

import json
from typing import get_args

import growth_runs
import pytest

from energysplit.errors import RunError
from energysplit.recipe.saved import recipe_text, saved_changes, saved_recipe
from energysplit.recipe.schema import Recipe, Section


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"model": "cnn"}, "a table of keys as 'model'"),
        ({"report": [1]}, "a table of keys as 'report'"),
        ({"budget": "1.5x"}, "a list of tables as 'budget'"),
        ({"budget": ["/etc/passwd"]}, "a list of tables as 'budget'"),
        ({"budget": [{"provider": "macs", "limit": "1.5x"}]}, "provider and scope in every 'budget'"),
        ({"budget": [{"provider": "macs", "limit": [], "scope": "stage"}]}, "a limit in every 'budget'"),
        ({"report": {"providers": [], "price": {}}}, None),
        ({"report": {"providers": [], "price": [{"name": "a"}]}}, "name and provider in every 'price'"),
        ({"baseline": None}, None),
    ],
)
def test_another_shape_is_named(tmp_path, wrong, expected):
    tree = {**growth_runs.tiny().resolved(), **wrong}
    (tmp_path / "recipe.json").write_text(recipe_text(tree))
    if expected is None:
        assert saved_recipe(tmp_path) == tree
        return
    for read in (saved_recipe, saved_changes):
        with pytest.raises(RunError) as caught:
            read(tmp_path)
        text = f"{tmp_path / 'recipe.json'} is damaged: expected {expected}; run the recipe again in a new folder"
        assert str(caught.value) == text


def test_no_table_at_all(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps([1]))
    with pytest.raises(RunError, match="expected a table of recipe keys"):
        saved_recipe(tmp_path)


def sections():
    """Every table of keys that a recipe has, and the lists of them."""
    found = []
    for name, field in Recipe.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # BaselineRecipe | None has two
        if any(isinstance(kind, type) and issubclass(kind, Section) for kind in kinds):
            found.append(name)
    return found


@pytest.mark.parametrize("name", sections())
def test_every_section_must_have_its_shape(tmp_path, name):
    (tmp_path / "recipe.json").write_text(recipe_text({**growth_runs.tiny().resolved(), name: "text"}))
    with pytest.raises(RunError, match=f"expected a (table of keys|list of tables) as '{name}'"):
        saved_recipe(tmp_path)
