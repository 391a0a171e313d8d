"""The recipe in a run folder: what has another shape than any version gave it is named, with the file."""

from __future__ import annotations

import json

import growth_runs
import pytest

from energysplit.errors import RunError
from energysplit.recipe.saved import recipe_text, saved_changes, saved_recipe


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
