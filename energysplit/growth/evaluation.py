"""What a network comes to on the validation and test images, in batches as large as memory allows."""

from __future__ import annotations

import math

from torch import nn

from energysplit.growth.notes import Notes
from energysplit.growth.setup import Setup
from energysplit.memory import with_smaller_batches
from energysplit.records import Evaluation
from energysplit.train.loop import evaluate


def evaluated(setup: Setup, module: nn.Module, part: str, notes: Notes) -> Evaluation:
    """Loss and accuracy on the images of one part of the data, "validation" or "test".

    Args:
        setup: the recipe ready to run.
        module: the network, where the session placed it.
        part: of the data.
        notes: of the stage; told what went wrong: memory that ran out, a loss that is not finite.

    Raises:
        OutOfMemory: not even one image at a time is evaluated.
    """
    images = setup.splits.validation if part == "validation" else setup.splits.test

    def halved(size: int, said: str) -> None:
        notes.evaluation_batch = size
        notes(f"memory ran out while evaluating {part} images ({said}); done again in batches of {size}")

    found = with_smaller_batches(
        lambda size: evaluate(setup.session, module, images.batches(size, device=setup.session.device), setup.loss),
        notes.evaluation_batch,
        halved=halved,
        doing="evaluating",
    )
    if not math.isfinite(found.loss):
        notes(
            f"the loss on {part} images is {found.loss}, though training's is finite: their accuracy says nothing; are "
            "these images sound, and is the learning rate low enough for the running statistics of batch norms?"
        )
    return found
