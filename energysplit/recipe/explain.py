"""Says what is wrong with a recipe: file, key, what was given, what was expected, nearest valid key.

What was expected is read from the schema itself (types, bounds, choices, descriptions), so a key can't be described
in one way and checked in another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from energysplit.errors import nearest

Path = tuple[str | int, ...]

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {"integer": "a whole number", "number": "a number", "string": "a string", "boolean": "true or false"}
_GIVEN = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", list: "a list"}


def explain(
    error: ValidationError, model: type[BaseModel], given: Mapping[str, Any], source: Callable[[Path], str]
) -> str:
    """One line for each wrong key.

    Args:
        error: what pydantic found.
        model: the schema that was checked against.
        given: the tree that was checked.
        source: path of a key -> the file (or option) that set it.
    """
    root = _schema(model)
    lines: dict[Path, str] = {}
    for problem in error.errors():
        path = problem["loc"]
        if problem["type"] == "extra_forbidden":
            known = (_find(root, path[:-1]) or root).get("properties", {})
            text = f"unknown key; {nearest(str(path[-1]), known)}"
        else:
            path = _known_part(root, path)
            schema = _find(root, path) or root
            text = _wrong(problem, schema, _lookup(given, path))
        place = f"{'.'.join(map(str, path))}: " if path else ""
        lines.setdefault(path, f"{source(path)}: {place}{text}")
    # A list with a wrong item is reported as too short as well: the item says it better.
    inner = [path for path in lines if not any(path == other[: len(path)] for other in lines if other != path)]
    return "\n".join(lines[path] for path in inner)


def shown(value: Any) -> str:
    """A value as it might stand in a file, with its type, cut at 60 characters."""
    text = json.dumps(value, default=str)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    kind = "a table" if isinstance(value, Mapping) else _GIVEN.get(type(value), f"a {type(value).__name__}")
    return text if isinstance(value, bool) else f"{text} ({kind})"


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, made once: that takes longer than everything else here. Not to be changed."""
    return model.model_json_schema()


def _wrong(problem: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> str:
    if problem["type"] == "value_error":
        said = str(problem["ctx"]["error"])
        quoted = isinstance(value, Mapping | list | tuple) or (isinstance(value, str) and repr(value) in said)
        return said if quoted else f"{said}, given {shown(value)}"
    about = f" ({schema['description']})" if "description" in schema else ""
    if problem["type"] == "missing":
        return f"missing; expected {_expected(schema)}{about}"
    choices = schema.get("enum", [])
    close = nearest(value, choices) if isinstance(value, str) and choices else ""
    hint = f"; {close}" if close.startswith("did you mean") else ""
    return f"expected {_expected(schema)}{about}, given {shown(value)}{hint}"


def _expected(schema: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "expected" in schema:
        return str(schema["expected"])
    if "anyOf" in schema:
        return ", or ".join(_expected(branch) for branch in schema["anyOf"] if branch.get("type") != "null")
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        *most, last = [repr(choice) for choice in schema["enum"]]
        return f"{', '.join(most)} or {last}" if most else last
    if schema.get("type") == "array":
        return f"a list, each item {_expected(schema['items'])}"
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    return f"{_TYPES.get(schema.get('type', ''), 'a table')} {bounds}".rstrip()


def _find(root: Mapping[str, Any], path: Sequence[str | int]) -> dict[str, Any] | None:
    """The schema of the key at `path`, references resolved; None where there is no such key."""
    node: dict[str, Any] = dict(root)
    for part in path:
        # A table of the user's own names says what each of them takes.
        own = node.get("additionalProperties") or None
        step: Any = node.get("properties", {}).get(part, own) if isinstance(part, str) else node.get("items")
        if step is None:
            return None
        node = _resolve(root, step)
    return node


def _resolve(root: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """The node with its reference filled in; a description beside the reference wins.

    Of a key that may be left out, the one branch that is no null: a null is how a default None looks, and nobody can
    write one in TOML.
    """
    branches = [branch for branch in node.get("anyOf", ()) if branch.get("type") != "null"]
    if len(branches) == 1:
        return _resolve(root, {**branches[0], **{key: value for key, value in node.items() if key != "anyOf"}})
    if "$ref" not in node:
        return dict(node)
    target = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _known_part(root: Mapping[str, Any], path: Path) -> Path:
    """The longest start of `path` that names a key: pydantic appends which branch of a union it tried."""
    for length in range(len(path), 0, -1):
        if _find(root, path[:length]) is not None:
            return path[:length]
    return ()


def _lookup(tree: Any, path: Path) -> Any:
    """The value at `path`, or None where nothing was given."""
    for part in path:
        if isinstance(tree, Mapping):
            tree = tree.get(str(part))
        elif isinstance(tree, list | tuple) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return None
    return tree
