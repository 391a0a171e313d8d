"""Learning rates as a pure function of progress, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from energysplit.errors import InputError, nearest

SCHEDULES = ("constant", "cosine", "step")
# A warm-up starts at this part of the base rate: at 0 the first step would do nothing.
_WARMUP_START = 0.01


def learning_rate(
    schedule: str,
    base: float,
    epoch: float,
    epochs: float,
    warmup_epochs: float = 0.0,
    milestones: Sequence[float] = (0.5, 0.75),
    decay: float = 0.1,
) -> float:
    """The learning rate at a moment of a training.

    Args:
        schedule: "constant"; "cosine", half a cosine from base to 0 after the warm-up (Loshchilov and Hutter 2016,
            arXiv 1608.03983, without restarts); "step", base times decay for each milestone passed.
        base: the rate after the warm-up.
        epoch: epochs done, with the fraction of the present one: 3.5 is the middle of the fourth.
        epochs: length of the training.
        warmup_epochs: during these the rate rises linearly from 1 % of what the schedule starts with.
        milestones: for "step", fractions of `epochs`.
        decay: for "step".

    Raises:
        InputError: an unknown schedule, or a warm-up that is as long as the training.

    Example:
        >>> [learning_rate("cosine", 0.1, epoch, 10) for epoch in (0, 5, 10)]
        [0.1, 0.05, 0.0]
        >>> [round(learning_rate("step", 0.1, epoch, 160), 9) for epoch in (79.9, 80, 120)]
        [0.1, 0.01, 0.001]
    """
    if schedule not in SCHEDULES:
        raise InputError(f"unknown schedule {schedule!r} (train.schedule); {nearest(schedule, SCHEDULES)}")
    if not 0 <= warmup_epochs < epochs:
        raise InputError(
            f"train.warmup_epochs = {warmup_epochs}: less than train.epochs = {epochs} and not negative is expected"
        )
    if epoch < warmup_epochs:
        return base * (_WARMUP_START + (1 - _WARMUP_START) * epoch / warmup_epochs)
    if schedule == "cosine":
        progress = min(1.0, (epoch - warmup_epochs) / (epochs - warmup_epochs))
        return base * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "step":
        return base * decay ** sum(epoch >= milestone * epochs for milestone in milestones)
    return base
