"""Keys that may change while a run goes on, and what a run keeps of such changes.

Finished stages stay what they are: their networks, and their lines in the journal. A key may change only if no number
of theirs would mean something else under the new value; so data, model, loss, what an index is, and how neurons are
chosen stay as they were. `recipe.json` has the present recipe and, for each change, the first stage that it holds for,
with old and new values: the recipe of every stage follows from it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TRAINING = (
    *("epochs", "batch_size", "accumulate", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule"),
    *("milestones", "decay", "warmup_epochs", "ema", "patience", "min_improvement"),
)
"""How a training goes: each stage has its own. Not here: label_smoothing and teacher, which make another loss."""
_INDEX = ("images", "held_out_images", "batch_size", "sweeps", "growing", "precision")
"""How well and with how much memory indices are estimated, which the journal says of each growth."""
_STEP = ("size", "tolerance", "largest")
"""How far copies move in the growths to come. Not policy, by which the gains of earlier growths are weighed again."""
_RUN = ("device", "precision", "threads", "channels_last", "deterministic")
"""Where it runs."""

CHANGEABLE = frozenset(
    f"{section}.{key}"
    for section, keys in (("train", _TRAINING), ("index", _INDEX), ("step", _STEP), ("run", _RUN))
    for key in keys
)


@dataclass(frozen=True)
class RecipeChange:
    """Keys that have other values from a stage on: dotted key -> value before, value after."""

    stage: int
    keys: Mapping[str, tuple[Any, Any]]

    @property
    def texts(self) -> list[str]:
        """A sentence for each key, without its full stop."""
        return [f"from this stage on {value} (--change)" for value in self.values]

    @property
    def values(self) -> list[str]:
        """The new values and the old ones, a few words for each key."""
        return [
            f"{key} = {_word(after)} ({_word(before)} before)" for key, (before, after) in sorted(self.keys.items())
        ]

    def plain(self) -> dict[str, Any]:
        """As `recipe.json` holds it."""
        return {"stage": self.stage, "keys": {key: list(values) for key, values in self.keys.items()}}


def read_changes(plain: Any) -> tuple[RecipeChange, ...]:
    """The changes that a `recipe.json` holds, in the order of their stages.

    Raises:
        ValueError: they are not what `RecipeChange.plain` makes.
    """
    found: list[RecipeChange] = []
    for entry in plain if isinstance(plain, list) else [None]:
        stage, keys = (entry.get("stage"), entry.get("keys")) if isinstance(entry, Mapping) else (None, None)
        if (
            type(stage) is not int
            or stage < (found[-1].stage + 1 if found else 0)
            or not isinstance(keys, Mapping)
            or not keys.keys() <= CHANGEABLE
            or not all(isinstance(values, list) and len(values) == 2 for values in keys.values())
        ):
            raise ValueError("'changes' is no list of stages that rise, each with keys that may change and two values")
        found.append(RecipeChange(stage, {key: (before, after) for key, (before, after) in keys.items()}))
    return tuple(found)


def on_the_way(changes: Sequence[RecipeChange]) -> tuple[RecipeChange, ...]:
    """The changes by which finished stages differ in their recipe: without those made before the first was finished."""
    return tuple(change for change in changes if change.stage > 0)


def changeable(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of differing keys that may change in a run that goes on, as `CHANGEABLE` names them, and the others."""
    may: dict[str, None] = {}
    rest = []
    for key in keys:
        name = ".".join(key.split(".")[:2])  # of a list the whole
        if name in CHANGEABLE:
            may[name] = None
        else:
            rest.append(key)
    return list(may), rest


def changed_at(
    stage: int, values: Mapping[str, tuple[Any, Any]], before: Sequence[RecipeChange]
) -> tuple[RecipeChange, ...]:
    """All changes of a run, with those of some keys (value before, value after) that hold from a stage on.

    Earlier changes that no finished stage has seen hold from this stage on as well: they become one with the new ones.
    """
    merged: dict[str, tuple[Any, Any]] = {}
    for change in (*(change for change in before if change.stage >= stage), RecipeChange(stage, values)):
        for key, (was, now) in change.keys.items():
            merged[key] = (merged.get(key, (was, None))[0], now)
    kept = {key: values for key, values in merged.items() if values[0] != values[1]}
    return (*(change for change in before if change.stage < stage), *([RecipeChange(stage, kept)] if kept else []))


def recipe_of_stage(tree: Mapping[str, Any], changes: Sequence[RecipeChange], stage: int) -> dict[str, Any]:
    """The resolved recipe that a stage was, or is, trained with; `tree` is the present one."""
    found = copy.deepcopy(dict(tree))
    for change in reversed(changes):
        if change.stage > stage:
            for name, (before, _) in change.keys.items():
                section, key = name.split(".")
                if isinstance(found.get(section), dict):
                    found[section][key] = before
    return found


def of_training(changes: Sequence[RecipeChange], stage: int) -> dict[str, Any]:
    """The values, changed from this stage on, without which its training can't go on where it was: dotted key -> value.

    Where it runs counts: a stage is not to be trained in two ways.
    """
    return {
        key: after
        for change in changes
        if change.stage == stage
        for key, (_, after) in change.keys.items()
        if key.startswith(("train.", "run."))
    }


def was_and_is(values: Mapping[str, tuple[Any, Any]]) -> str:
    """Keys with what they were and what they are; of many the first, and how many more there are.

    Example:
        >>> was_and_is({"seed": (0, 1), "train.epochs": (5, [3, 1])})
        'seed (was 0, is 1), train.epochs (was 5, is [3, 1])'
        >>> was_and_is({f"key{number}": (None, True) for number in range(7)})
        'key0 (was not set, is true), key1 (was not set, is true), key2 (was not set, is true) and 4 more'
    """
    shown = [
        key if (words := (_short(before), _short(after)))[0] == words[1] else f"{key} (was {words[0]}, is {words[1]})"
        for key, (before, after) in values.items()
    ]
    return some(shown)


def some(words: Sequence[str]) -> str:
    """A list of at most four words; of more the first three, and how many are left.

    Example:
        >>> some(["a", "b", "c", "d"]), some(["a", "b", "c", "d", "e"])
        ('a, b, c, d', 'a, b, c and 2 more')
    """
    return ", ".join(words) if len(words) <= 4 else f"{', '.join(words[:3])} and {len(words) - 3} more"


def _short(value: Any) -> str:
    word = _word(value)
    return word if len(word) <= 40 else f"{word[:39]}…"


def _word(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
