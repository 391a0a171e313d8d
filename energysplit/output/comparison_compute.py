"""What training a network has cost by a stage, in multiply-accumulates, counted from the journal.

Growth trains its early stages while they are small, so at equal epochs it may have spent less; and it spends something
on splitting indices, which others do not. Counted are the passes over images at each stage's MACs; not counted are
evaluation, the steps that are tried, a teacher's passes, and what is no MAC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from energysplit.kinds import FRESH
from energysplit.records import GrowthRecord

TRAINING_COMPUTE, UNIT = "training_compute", "MAC"
"""Name and unit of this cost."""
TRAINING_STEP = 3
"""Multiples of a network's MACs for an image that is trained on: forward, gradients of activations, of weights."""
SWEEP = 4
"""For an image in a sweep for splitting indices: forward, gradients of activations, tangent pass and its transpose."""
SWEEP_OF_BOTH_ENDS = 6
"""The same where splits may be signed: tangent pass and transpose for either end of the spectrum."""
PASS_OF_FRESH = 12
"""The same for fresh neurons: a training step of a network that is twice as wide, four times the MACs at most."""


def training_computes(records: Sequence[GrowthRecord]) -> list[float | None]:
    """For each stage the MACs spent on its network up to the end of its training; None where the journal does not say.

    A baseline's stage that starts from random weights has nothing of those before; a search before the last training
    counts. The growth out of a stage counts for the next, but for indices of one that bought nothing: the journal does
    not say what they took.

    Args:
        records: of a run, all of them.
    """
    found: list[float | None] = []
    total: float | None = 0.0
    for record in records:
        total = _sum(total, _training(record))
        found.append(total)
        if record.replacement is not None and record.replacement.fresh:
            total = 0.0
        elif record.growth is not None:
            total = _sum(total, _indexing(record))
    return found


def _training(record: GrowthRecord) -> float | None:
    """MACs of a stage's training."""
    macs = record.prices.get("macs")
    if macs is None or macs.unit != UNIT or not record.train.images:
        return None
    return TRAINING_STEP * macs.value * record.train.images * record.train.epochs


def _indexing(record: GrowthRecord) -> float | None:
    """MACs of the splitting indices behind a stage's growth."""
    assert record.growth is not None
    index, macs = record.growth.index, record.prices.get("macs")
    if macs is None or not math.isfinite(index.sweeps):
        return None
    passes = SWEEP_OF_BOTH_ENDS if record.growth.allocation.mass > 1 else SWEEP
    if index.solver == FRESH:
        passes = PASS_OF_FRESH
    # The held-out images count as one sweep more.
    return passes * macs.value * (index.sweeps * index.images + index.held_out_images)


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more
