"""Starts a run from the trained stage 0 of another run, where both would train it alike.

Methods that are compared often grow from one seed network, which then needs to be trained once. The new run gets the
training in progress that it would have after the last epoch of its own stage 0, goes on with evaluation and indices,
and ends with the same journal as if it had trained everything itself (on one machine). The seconds of the training come
with it, so that times stay comparable.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from energysplit import models
from energysplit.errors import RunError
from energysplit.growth import journal
from energysplit.growth.folder import OPTIMISER_FILE, RunFolder, TrainingState
from energysplit.growth.noted import DATA_FILE
from energysplit.growth.teacher import TEACHER_FILE
from energysplit.output import checkpoint
from energysplit.output.atomic import sha256_of
from energysplit.recipe import Recipe, from_dict
from energysplit.recipe.changes import completed
from energysplit.recipe.first_stage import first_stage, unshared
from energysplit.recipe.saved import recipe_at
from energysplit.records import JOURNAL_FILE, GrowthRecord
from energysplit.train.plateau import Plateau


def reuse_seed(finished: Path, new: Path, recipe: Recipe) -> bool:
    """Whether the new run was given the trained stage 0; False if it has begun already, and is left as it is.

    Args:
        finished: a run folder whose stage 0 is in its journal; it may still run.
        new: folder of the new run; `energysplit grow --resume` goes on from there.
        recipe: of the new run.

    Raises:
        RunError: the runs would not train the same stage 0, the one there has none, or the new folder is of another
            recipe, in use, or holds other files.
        CheckpointError: a file of the finished stage is missing or damaged.
    """
    if reason := unshared(recipe):
        raise RunError(f"{new}: its stage 0 must be trained in the run itself: {reason}")
    record = _trained(finished, recipe)
    seed = models.build_seed(recipe.model.name, recipe.model.args)
    there, folder = RunFolder(finished, seed), RunFolder(new, seed)
    _check_files(there, record)
    net, optimiser, _ = there.load_stage(0)
    with folder.opened(recipe, resume=True):
        if folder.journal.exists() or (new / "progress").exists():
            return False
        for note in (TEACHER_FILE, DATA_FILE):
            if (finished / note).exists():
                shutil.copyfile(finished / note, new / note)
        folder.save_progress(
            TrainingState(
                stage=0,
                epoch=record.train.epochs,
                net=net,
                optimiser=optimiser,
                train=record.train,
                seconds=record.seconds.get("train", 0.0),
                # An average of the weights is in the network already. Begun anew and never updated, it puts the same
                # weights back. The lowest loss of a plateau is of no use any more; that it was reached is.
                plateau=_plateau(recipe, record),
            )
        )
    return True


def _trained(finished: Path, recipe: Recipe) -> GrowthRecord:
    """The journal line of a stage 0 that the recipe would train alike.

    Raises:
        RunError: there is none.
    """
    lines = finished / JOURNAL_FILE
    records = journal.recover(lines)[0] if lines.exists() else []
    if not records:
        raise RunError(f"{finished}: its stage 0 is not finished, so there is nothing to reuse")
    theirs = from_dict(completed(recipe_at(finished, 0)), str(finished))
    if unshared(theirs) or first_stage(theirs) != first_stage(recipe):
        raise RunError(
            f"{finished}: its stage 0 was trained otherwise; reuse needs the same seed, [model], [data], [run] and, "
            "for stage 0, [train]"
        )
    return records[0]


def _check_files(folder: RunFolder, record: GrowthRecord) -> None:
    """Refuse files that are not those of the journal.

    Raises:
        RunError: a digest differs or a file is missing.
    """
    stated = {checkpoint.WEIGHTS_FILE: record.weights_sha256, OPTIMISER_FILE: record.optimiser_sha256}
    for name, digest in stated.items():
        file = folder.stage(0) / name
        if not file.exists() or sha256_of(file) != digest:
            raise RunError(f"{file} is not what stage 0 left: it is missing, or its SHA-256 differs from the journal's")


def _plateau(recipe: Recipe, record: GrowthRecord) -> Plateau:
    """What ends the training at once when the run goes on, where a plateau ended it before its last epoch."""
    patience = recipe.train.patience
    if patience is None or record.train.epochs >= recipe.train.epochs_at(0):
        return Plateau()
    return Plateau(waited=patience)
