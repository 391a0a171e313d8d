"""The teacher a recipe names: found, read without pickle, checked against the data, and held to for the whole run.

A teacher is a checkpoint of ours: a folder of one, or the last finished stage of a run. The run folder notes which
weights it was, because a run that goes on with other ones would not end where it was going.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from energysplit import data, models
from energysplit.errors import CheckpointError, RecipeError, RunError
from energysplit.graph import Network
from energysplit.growth.noted import hold
from energysplit.output import checkpoint
from energysplit.output.atomic import sha256_of
from energysplit.recipe.saved import run_of_stage, saved_recipe, stage_folders
from energysplit.recipe.schema import TeacherRecipe
from energysplit.train.distillation import Distillation
from energysplit.train.session import Session

TEACHER_FILE = "teacher.json"


@dataclass(frozen=True)
class Teacher:
    """A teacher ready to use.

    folder: of the checkpoint. weights_sha256: of its weights file. distillation: the loss with it.
    """

    folder: Path
    weights_sha256: str
    distillation: Distillation

    def hold(self, run: Path) -> None:
        """Note the teacher in the run folder, or check that it is the one noted there.

        Raises:
            RunError: the run was started with other weights, or the note can't be read.
        """
        hold(
            run / TEACHER_FILE,
            {"folder": str(self.folder), "weights_sha256": self.weights_sha256},
            "weights_sha256",
            f"run folder {run} was started with other weights of the teacher than {self.folder} holds now "
            f"({TEACHER_FILE}); put those back, or choose another folder with --run",
        )


def load_teacher(recipe: TeacherRecipe, splits: data.Splits, session: Session) -> Teacher:
    """The teacher of a recipe, on the session's device.

    Raises:
        RecipeError: it is of other images or other classes than the data.
        CheckpointError: there is no checkpoint, or it can't be read.
    """
    run = Path(recipe.run).expanduser()
    folder = _checkpoint(run)
    net = checkpoint.load(folder, _seed(folder))
    _check(recipe, folder, net, splits)
    module = session.place(net.module)
    return Teacher(
        folder,
        sha256_of(folder / checkpoint.WEIGHTS_FILE),
        Distillation(module, recipe.weight, recipe.temperature),
    )


def _checkpoint(run: Path) -> Path:
    """The folder of the checkpoint that `train.teacher.run` means."""
    if (run / checkpoint.NETWORK_FILE).exists():
        return run
    stages = stage_folders(run)
    if not stages:
        what = "has no finished stage and is no checkpoint" if run.is_dir() else "does not exist"
        raise CheckpointError(
            f"train.teacher.run = {str(run)!r}: the folder {what}; expected a run folder that `energysplit grow` "
            "wrote, or a folder that energysplit.save wrote"
        )
    return stages[max(stages)]


def _seed(folder: Path) -> Any:
    """The seed of a stage's run, as its recipe names it (that may be the user's own code); None elsewhere."""
    run = run_of_stage(folder)
    if run is None:
        return None
    try:
        model = saved_recipe(run)["model"]
        name, args = model["name"], model.get("args", {})
    except (RunError, KeyError, TypeError):
        return None
    return models.build_seed(name, args)


def _check(recipe: TeacherRecipe, folder: Path, net: Network, splits: data.Splits) -> None:
    """Refuse a teacher that can't say anything about these images."""
    taken = tuple(net.example_input.shape[1:])
    with torch.no_grad():
        given = tuple(net.module(torch.zeros_like(net.example_input)).shape[1:])
    if (taken, given) != (splits.image_shape, (splits.classes,)):
        raise RecipeError(
            f"train.teacher.run = {recipe.run!r}: the teacher in {folder} takes images of {_times(taken)} and gives "
            f"{_times(given)} classes; {splits.name} has images of {_times(splits.image_shape)} and {splits.classes} "
            "classes. Give a teacher that was trained on the same data, or leave out [train.teacher]"
        )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
