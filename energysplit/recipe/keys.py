"""Dotted keys of a recipe, as `--set` takes them: "train.epochs", "budget.0.limit"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> leaf. Lists are leaves but for those of tables; so are empty tables: losing one is a difference.

    Example:
        >>> flat({"seed": 0, "budget": [{"limit": "2x"}], "train": {"epochs": [3, 1], "teacher": {}}})
        {'seed': 0, 'budget.0.limit': '2x', 'train.epochs': [3, 1], 'train.teacher': {}}
    """
    tables = isinstance(tree, list) and all(isinstance(item, Mapping) for item in tree)
    items = list(tree.items()) if isinstance(tree, Mapping) else list(enumerate(tree)) if tables else []
    if not items:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in items:
        found.update(flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def value_at(tree: Any, key: str) -> Any:
    """The value of a dotted key of tables; None where it, or a table above it, is not there.

    Example:
        >>> tree = {"train": {"epochs": [3, 1]}}
        >>> value_at(tree, "train.epochs"), value_at(tree, "train.teacher.run"), value_at(tree, "train.epochs.0")
        ([3, 1], None, None)
    """
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree
