"""Reads a recipe: TOML files that extend one another, then `--set key=value`, then the check against the schema.

Each file and each override is a layer. Layers are merged from the base upwards (tables merge, everything else
replaces), and kept, so that an error can name the layer a wrong key came from.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from energysplit import plain_data
from energysplit.errors import RecipeError, nearest
from energysplit.recipe.explain import explain, shown
from energysplit.recipe.own_code import check_code
from energysplit.recipe.schema import Recipe


class Layer(NamedTuple):
    """Where keys come from: a label for messages, the tree of what it sets (list items by number), whether a file.

    origin: the file that the keys stand in; None for what was typed.
    """

    label: str
    tree: dict[str, Any]
    file: bool = True
    origin: Path | None = None


class Setting(NamedTuple):
    """A dotted key with its value, as another file sets it over a recipe; label and origin as in `Layer`."""

    key: str
    value: Any
    label: str
    origin: Path | None = None


def load(
    path: str | Path, overrides: Iterable[str] = (), settings: Iterable[Setting] = (), *, allow_code: bool = True
) -> Recipe:
    """The recipe in a TOML file.

    Args:
        path: the file. Its key `extends` names a base recipe, relative to the file.
        settings: what is set over the file, before `overrides`; as in files that extend others, tables merge and
            everything else replaces.
        overrides: "key=value" each, applied last: dotted keys, list items by number ("budget.0.limit=2e6"); a value
            is read as TOML, and as plain text where it is not TOML.
        allow_code: whether a file from outside the working folder may name code ("module:callable"); see `own_code`.

    Raises:
        RecipeError: a file is missing or no TOML, recipes extend each other in a circle, a key is unknown, missing or
            has a wrong value, or code is named that is not allowed; the message names file, key, what was given and
            what was expected.
    """
    layers = _files(Path(path), ())
    return _recipe(layers, overrides, default_name=Path(path).stem, settings=settings, allow_code=allow_code)


def from_dict(data: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """The recipe in a plain dictionary, such as `Recipe.resolved()` gave. `source` names it in messages.

    Raises:
        RecipeError: see `load`.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{source}: expected a table of recipe keys, given {shown(data)}")
    return _recipe([Layer(source, dict(data))], ())


def override(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """A recipe with some keys changed, each given as "key=value"; see `load`.

    Raises:
        RecipeError: see `load`.

    Example:
        >>> base = from_dict({"name": "tiny", "model": {"name": "mlp"}, "data": {"name": "digits"},
        ...     "train": {"epochs": 2}, "growth": {"stages": 1}, "budget": [{"provider": "macs", "limit": "1.5x"}]})
        >>> changed = override(base, ["train.epochs=[3, 1]", "budget.0.limit=2e6"])
        >>> changed.train.epochs, changed.budget[0].limit
        ((3, 1), 2000000.0)
    """
    return _recipe([Layer("recipe", recipe.resolved())], overrides)


def _recipe(
    layers: Sequence[Layer],
    overrides: Iterable[str],
    default_name: str | None = None,
    settings: Iterable[Setting] = (),
    allow_code: bool = True,
) -> Recipe:
    tree: dict[str, Any] = {} if default_name is None else {"name": default_name}
    for layer in layers:
        tree = _merge(tree, layer.tree)
    layers = list(layers)
    for each in settings:
        layer = _put(tree, each.key.split("."), each.value, each.label, merge=True)
        layers.append(layer._replace(origin=each.origin))
    for text in overrides:
        layers.append(_set(tree, text))
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe, tree, lambda path: _layer(path, layers).label)) from None
    if not allow_code:
        check_code(recipe.resolved(), lambda path: _layer(path, layers).origin)
    return recipe


def _files(path: Path, children: tuple[Path, ...]) -> list[Layer]:
    """The layers of a file and of all it extends, base first. `children`: the files that led here."""
    here = path.resolve()
    if here in [child.resolve() for child in children]:
        circle = " -> ".join(str(child) for child in (*children, path))
        raise RecipeError(
            f"{children[-1]}: extends: recipes extend each other in a circle: {circle}; remove one extends"
        )
    tree = read_toml(path, f"{children[-1]}: extends: {path}" if children else "")
    base = tree.pop("extends", None)
    if base is None:
        return [Layer(str(path), tree, origin=path)]
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends: expected the file name of one recipe, given {shown(base)}")
    layers = _files(path.parent / base, (*children, path))
    # A base's name is its own: a run of the extending recipe must not land in the base's run folder.
    layers[-1].tree.pop("name", None)
    return [*layers, Layer(str(path), tree, origin=path)]


def read_toml(path: Path, named: str = "", what: str = "recipe") -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        path: the file.
        named: how messages call it, if not by its path.
        what: the kind of file, for messages.

    Raises:
        RecipeError: it is missing, can't be read or is no TOML.
    """
    named = named or str(path)
    try:
        if path.is_dir():
            raise RecipeError(f"{named}: is a folder; expected {_article(what)} file (TOML)")
        return plain_data.read_toml(path)
    except FileNotFoundError:
        beside = [other.name for other in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        advice = close if close.startswith("did you mean") else "expected the path of a TOML file"
        raise RecipeError(f"{named}: no such {what} file; {advice}") from None
    except OSError as error:
        raise RecipeError(f"{named}: can't be read: {error.strerror}; expected a readable TOML file") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{named}: not UTF-8 text (byte {error.start}); expected a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{named}: not valid TOML: {error}") from None
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{named[:200]}: can't be read as TOML ({error}); expected {_article(what)} file") from None


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, deeply: tables merge, anything else of `above` replaces. Shares no mutable value with its arguments."""
    merged = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return merged


def _set(tree: dict[str, Any], text: str) -> Layer:
    """Applies one "key=value" to `tree` in place; returns the layer it makes."""
    key, equals, value_text = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise RecipeError(f"--set {text}: expected key=value with a dotted key, such as train.epochs=5")
    return _put(tree, parts, _value(value_text.strip()), f"--set {'.'.join(parts)}")


def _put(tree: dict[str, Any], parts: Sequence[str], value: Any, label: str, merge: bool = False) -> Layer:
    """Sets the key with these parts in `tree`, in place; returns the layer it makes. merge: tables merge."""
    node: Any = tree
    for depth, part in enumerate(parts):
        where: Any = part
        if isinstance(node, list):
            # Python reads no number of thousands of digits.
            if not part.isdecimal() or len(part) > 9 or int(part) >= len(node):
                expected = f"a number from 0 to {len(node) - 1}" if node else "nothing: the list is empty"
                raise RecipeError(f"{label}: {'.'.join(parts[:depth])} is a list; expected {expected}, given {part!r}")
            where = int(part)
        elif not isinstance(node, dict):
            raise RecipeError(
                f"{label}: {'.'.join(parts[:depth])} has the value {shown(node)} and no keys; given {part!r}"
            )
        if depth == len(parts) - 1:
            old = node[where] if isinstance(node, list) else node.get(where)
            both = merge and isinstance(old, Mapping) and isinstance(value, Mapping)
            node[where] = _merge(old, value) if both else copy.deepcopy(value)
        else:
            node = node.setdefault(where, {}) if isinstance(node, dict) else node[where]
            if node is None:
                raise RecipeError(f"{label}: {'.'.join(parts[: depth + 1])} has no keys; given {parts[depth + 1]!r}")
    for part in reversed(parts):
        value = {part: value}
    return Layer(label, value, file=False)


def _value(text: str) -> Any:
    """A TOML value, or plain text where it is none. A text that holds a whole TOML line more is plain text."""
    try:
        read = plain_data.parse_toml(f"value = {text}")
    except ValueError:
        return text
    plain = isinstance(read["value"], bool | int | float | str | list | dict)
    return read["value"] if plain and len(read) == 1 else text


def _layer(path: Sequence[str | int], layers: Sequence[Layer]) -> Layer:
    """The last layer that sets the key at `path`; the last file where none does (a missing key)."""
    for layer in reversed(layers):
        node: Any = layer.tree
        for part in path:
            if isinstance(node, Mapping) and str(part) in node:
                node = node[str(part)]
            elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                break
        else:
            return layer
    return next((layer for layer in reversed(layers) if layer.file), Layer("recipe", {}))
