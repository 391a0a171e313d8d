"""Writes the table of recipe keys from the schema: `python tests/recipe_keys.py > docs/recipes.md`."""

from __future__ import annotations

import json
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from energysplit.recipe import Recipe
from energysplit.recipe.schema import Counts, Rates

NOTES = {
    "train": """\
What `accumulate`, `ema`, `patience` and `teacher` do in detail: [training.md](training.md).
""",
    "growth": """\
`bounds` are by the name of a group (`energysplit price` lists them) or a pattern, in quotes because of the dots:

```toml
[growth.bounds]
"blocks.0.*" = { max_channels = 16 } # a group that is wider already stays as it is
"stem.conv" = { frozen = true }
```
""",
    "budget": """\
A `limit` is a number in the provider's unit, a multiple of a price (`"1.5x"`), or text: a number, then an SI prefix, a
unit, or both, with or without spaces.

| provider's unit | examples | also known as |
| --- | --- | --- |
| `MAC` | `"100 MMAC"`, `"100M"`, `"1e8"`, `"100 M MACs"` | `MACs` |
| `param` | `"1 M params"`, `"250k"` | `params`, `parameter`, `parameters` |
| `B` | `"512 kB"` (1,000 each), `"512 KiB"`, `"512Ki"` (1,024 each) | `byte`, `bytes` |
| `s` | `"8 ms"`, `"8m"`, `"350 us"`, `"350 µs"` | |
| `J` | `"3 mJ"`, `"3m"` | |
| any other, of a provider of your own | `"4 token"`, `"4 k token"`, `"4k"` | |

Prefixes: `n`, `u` or `µ`, `m`, `k` or `K`, `M`, `G`, `T`; for bytes also `Ki`, `Mi`, `Gi`. Their case counts. The whole
unit goes before a prefix (`"3 us"` of a provider whose unit is `us` is three of them), and a prefix alone goes to the
provider's unit (`"8m"` of seconds is 8 ms). What is counted (MACs, parameters, bytes) refuses `m`, `u` and `n`:
`"100m"` asks whether `"100M"` is meant. A unit that is not the provider's is refused before anything runs.
""",
}
"""Section -> what its table of keys can't say."""

HEAD = """# Recipes

A recipe is a TOML file; `energysplit grow RECIPE` runs it. Unknown keys are refused. `extends = "other.toml"` starts
from another recipe (tables merge, lists replace), `--set key=value` changes a key on the command line, a list item by
its number: `--set budget.0.limit=2e6`. `module:callable` and `module:Class` import that module, which runs its code: a
recipe outside the working folder needs `--allow-code` for it ([files-from-others.md](files-from-others.md)). This page
is written from the schema by `tests/recipe_keys.py`.
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
        lines += [f"## `{title}`: {field.description}", "", *_table(inner), *([NOTES[name]] if name in NOTES else [])]
        for key, value in inner.model_fields.items():
            table = _optional_table(value.annotation)
            if table is not None:
                lines += [f"### `[{name}.{key}]`: {value.description}", "", *_table(table)]
    lines[1:1] = ["## At the top", "", "| key | default | meaning |", "| --- | --- | --- |", *top, ""]
    return "\n".join(lines)


def _table(section: type[BaseModel]) -> list[str]:
    """The keys of a section."""
    rows = [_row(key, value) for key, value in section.model_fields.items()]
    return ["| key | default | meaning |", "| --- | --- | --- |", *rows, ""]


def _optional_table(annotation: object) -> type[BaseModel] | None:
    """The section that `Section | None` names, None for every other annotation."""
    named = [part for part in getattr(annotation, "__args__", ()) if part is not type(None)]
    found = named[0] if len(named) == 1 else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


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
    return f"| `{key}` | {shown} | {_words(field.annotation)}{field.description}{_lists(field.annotation)} |"


def _words(annotation: object) -> str:
    """The words that a key takes, if it takes nothing else."""
    words = [f"`{word}`" for word in get_args(annotation)] if get_origin(annotation) is Literal else []
    return f"{', '.join(words[:-1])} or {words[-1]}: " if len(words) > 1 else ""


def _lists(annotation: object) -> str:
    """That a key takes a list too, where it does."""
    listed = any(part in (Counts, Rates) for part in get_args(annotation))
    return "; or a list, one for each training, the last one for all later" if listed else ""


if __name__ == "__main__":
    print(render(), end="")
