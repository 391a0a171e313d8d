"""Writes the table of recipe keys from the schema: `python tests/recipe_keys.py > docs/recipes.md`."""

from __future__ import annotations

import json

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from energysplit.recipe import Recipe

HEAD = """# Recipes

A recipe is a TOML file; `energysplit grow RECIPE` runs it. Unknown keys are refused. `extends = "other.toml"` starts
from another recipe (tables merge, lists replace), `--set key=value` changes a key on the command line, a list item by
its number: `--set budget.0.limit=2e6`. Written from the schema by `tests/recipe_keys.py`.
"""


def render() -> str:
    """The page."""
    lines = [HEAD]
    top = []
    for name, field in Recipe.model_fields.items():
        inner = next((part for part in _parts(field.annotation) if issubclass(part, BaseModel)), None)
        if inner is None:
            top.append(_row(name, field))
            continue
        title = f"[[{name}]]" if name == "budget" else f"[{name}]"
        rows = [_row(key, value) for key, value in inner.model_fields.items()]
        lines += [
            f"## `{title}`: {field.description}",
            "",
            "| key | default | meaning |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    lines[1:1] = ["## At the top", "", "| key | default | meaning |", "| --- | --- | --- |", *top, ""]
    return "\n".join(lines)


def _parts(annotation: object) -> list[type]:
    """The classes in an annotation."""
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        return [annotation]
    return [part for each in getattr(annotation, "__args__", ()) for part in _parts(each)]


def _row(key: str, field: object) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    elif default is None:
        shown = "none"
    else:
        shown = f"`{json.dumps(default)}`"
    return f"| `{key}` | {shown} | {field.description} |"


if __name__ == "__main__":
    print(render(), end="")
