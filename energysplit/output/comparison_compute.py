"""What training a network has cost by a stage, in multiply-accumulates, counted from the journal.

Growth trains its early stages while they are small, so at equal epochs it may have spent less; and it spends something
on splitting indices, which others do not. Counted are the passes over images at each stage's MACs; not counted are
evaluation, the steps that are tried, a teacher's passes, and what is no MAC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from energysplit.types import GrowthRecord

TRAINING_COMPUTE, UNIT = "training_compute", "MAC"
"""Name and unit of this cost."""
TRAINING_STEP = 3
"""Multiples of a network's MACs for an image that is trained on: forward, gradients of activations, of weights."""
SWEEP = 4
"""For an image in a sweep for splitting indices: forward, gradients of activations, tangent pass and its transpose."""
SWEEP_OF_BOTH_ENDS = 6
"""The same where splits may be signed: tangent pass and transpose for either end of the spectrum."""


def training_compute(behind: Sequence[GrowthRecord]) -> float | None:
    """MACs spent on a network up to the end of its stage's training; None where the journal does not say.

    Args:
        behind: the stages whose training is in the network, its own last. The growth out of that one is not yet spent.
    """
    total = 0.0
    for record in behind:
        macs = record.prices.get("macs")
        if macs is None or macs.unit != UNIT or not record.train.images:
            return None
        total += TRAINING_STEP * macs.value * record.train.images * record.train.epochs
        if record is not behind[-1] and record.growth is not None:
            index = record.growth.index
            if not math.isfinite(index.sweeps):
                return None
            passes = SWEEP_OF_BOTH_ENDS if record.growth.allocation.mass > 1 else SWEEP
            # The held-out images count as one sweep more.
            total += passes * macs.value * (index.sweeps * index.images + index.held_out_images)
    return total
