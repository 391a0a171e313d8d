"""Training between splits: a session (device, precision, processes), one epoch at a time, nothing kept in between.

Learning rates are a pure function of progress and all randomness comes from arguments, so that weights and momentum
are the whole state: a run stopped after any epoch goes on bit for bit.
"""

from __future__ import annotations

from energysplit.train.loop import EpochResult, evaluate, train_epoch
from energysplit.train.optimiser import load_state_tensors, make_optimiser, state_tensors
from energysplit.train.schedules import learning_rate
from energysplit.train.session import Session

__all__ = [
    "EpochResult",
    "Session",
    "evaluate",
    "learning_rate",
    "load_state_tensors",
    "make_optimiser",
    "state_tensors",
    "train_epoch",
]
