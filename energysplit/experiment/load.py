"""Reads an experiment's file, and makes the recipe of one of its runs: base, size, method, command line, in this order.

The more particular wins: what is set for a size is below what is set for a method, and below what `--set` says. Every
layer is kept under its own label, so that an error names the table that a wrong key came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from energysplit.errors import RecipeError
from energysplit.experiment.schema import OWN_KEYS, PLACEHOLDER, Experiment, MethodTable, Size
from energysplit.recipe import Recipe, Setting, load, override
from energysplit.recipe.explain import explain
from energysplit.recipe.load import read_toml


def load_experiment(path: Path | str) -> Experiment:
    """The experiment in a TOML file.

    Raises:
        RecipeError: the file is missing or no TOML, or a key is unknown, missing or has a wrong value; the message
            names file, key, what was given and what was expected.
    """
    path = Path(path)
    tree = read_toml(path, what="experiment")
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(explain(error, Experiment, tree, lambda _: str(path))) from None


def check_size(path: Path | str, experiment: Experiment, size: Size) -> None:
    """Nothing, if the experiment can be run in a size.

    Raises:
        RecipeError: it has no table for it, or no method takes part.
    """
    if experiment.table(size) is None:
        other = "full" if size == "small" else "small"
        raise RecipeError(f"{path}: there is no [size.{size}]; add it, or run --size {other}")
    if not experiment.methods(size):
        raise RecipeError(f"{path}: no method takes part in size {size}; add {size!r} to the sizes of one")


def expected(experiment: Experiment, size: Size) -> str:
    """What a size costs and how long it takes, in words."""
    table = experiment.table(size)
    assert table is not None
    return table.expect


def run_recipe(
    path: Path | str,
    experiment: Experiment,
    method: MethodTable,
    size: Size,
    seed: int,
    folder_of: Callable[[str], Path],
    overrides: Sequence[str] = (),
    allow_code: bool = True,
) -> Recipe:
    """The recipe of one run.

    A number of threads that nobody sets is 1: runs stand side by side, and the last bit of a sum depends on it.

    Args:
        path: of the experiment's file; base recipes are relative to it.
        experiment: its content.
        method: one of its methods.
        size: one of its sizes.
        seed: of the run.
        folder_of: name of a method -> folder of its run with this seed.
        overrides: "key=value" each, for all methods.
        allow_code: see `energysplit.recipe.load`.

    Raises:
        RecipeError: the base is missing, or the recipe is wrong; the message names the place of the wrong key.
    """
    check_size(path, experiment, size)
    table = experiment.table(size)
    assert table is not None
    own = method.size.small if size == "small" else method.size.full
    base = (own.recipe if own else None) or method.recipe or table.recipe or experiment.recipe
    called = f"{path}, method {method.name!r}"
    settings = [
        *_settings(table.set, f"{path}, size {size}", path),
        *_settings(_filled(method.set, folder_of), called, path),
        *_settings(_filled(own.set if own else {}, folder_of), f"{called}, size {size}", path),
        Setting("name", method.name, called),
        Setting("seed", seed, called),
    ]
    _check_overrides(overrides)
    file = Path(path).parent / base
    recipe = load(file, overrides, settings, allow_code=allow_code)
    return recipe if recipe.run.threads is not None else override(recipe, ["run.threads=1"])


def _settings(values: Mapping[str, Any], label: str, path: Path | str) -> Iterable[Setting]:
    return [Setting(key, value, label, Path(path)) for key, value in values.items()]


def _filled(value: Any, folder_of: Callable[[str], Path]) -> Any:
    """The tree with every "{run:METHOD}" replaced."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: str(folder_of(found[1])), value)
    if isinstance(value, Mapping):
        return {key: _filled(item, folder_of) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, folder_of) for item in value]
    return value


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what the experiment sets itself.

    Raises:
        RecipeError: a name or a seed is set.
    """
    for text in overrides:
        if (key := text.partition("=")[0].strip()) in OWN_KEYS:
            advice = "give seeds with --seed" if key == "seed" else "names are those of the methods"
            raise RecipeError(f"--set {text}: {key} is set by the experiment itself; {advice}")
