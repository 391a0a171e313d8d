"""Finds what a run folder holds, for the commands that read one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from energysplit.errors import RunError

if TYPE_CHECKING:
    from energysplit.graph import Network


def check_grown(run: Path) -> None:
    """Refuse a folder that holds no finished stage.

    Raises:
        RunError: there is no such folder, or it holds none.
    """
    from energysplit.recipe.saved import stage_folders

    if not run.is_dir():
        raise RunError(f"{run}: no such run folder; expected a folder that `energysplit grow` wrote")
    if not stage_folders(run):
        raise RunError(f"{run}: no finished stage in {run / 'stages'}; expected a folder that `energysplit grow` wrote")


def last_stage(run: Path) -> Path:
    """The folder of the last finished stage.

    Raises:
        RunError: there is no such folder, it holds no finished stage, or the last one lost its network.
    """
    from energysplit.recipe.saved import stage_folders

    check_grown(run)
    stages = stage_folders(run)
    last = stages[max(stages)]
    if not (last / "network.json").is_file():  # the stage before it is not the one that is asked for
        raise RunError(f"{last / 'network.json'} is missing; `energysplit grow` with --resume trains that stage again")
    return last


def load_stage(run: Path, stage: Path) -> Network:
    """The network of a stage of a run, grown from the seed that the run's recipe names.

    A seed of the user's own ("module:callable") is imported, as `grow --resume` does; see `check_code`. Trained weights
    the seed started from are not needed.

    A `CheckpointError` if its weights are not those that the run's journal speaks of.
    """
    from energysplit import models
    from energysplit.growth.saved import check_weights
    from energysplit.output.checkpoint import load
    from energysplit.recipe.saved import RECIPE_FILE

    model = recipe(run).get("model") if (run / RECIPE_FILE).exists() else None
    seed = None
    if isinstance(model, dict) and isinstance(model.get("name"), str):
        seed = models.build_seed(model["name"], model.get("args", {}))
    net = load(stage, seed)
    check_weights(run, int(stage.name))
    return net


def check_code(run: Path) -> None:
    """Refuse a run from outside the working folder whose recipe names code.

    A `RecipeError` that says which key does.
    """
    from energysplit.recipe import own_code
    from energysplit.recipe.saved import RECIPE_FILE

    file = run / RECIPE_FILE
    if file.exists():
        own_code.check_code(recipe(run), lambda _: file)


def recipe(run: Path) -> dict[str, Any]:
    """The resolved recipe a run folder holds.

    A `RunError` if it is missing or damaged.
    """
    from energysplit.recipe.saved import saved_recipe

    return saved_recipe(run)
