"""What batch norm does when neurons move: keep its running statistics, as in inference, or follow, as in training.

With running statistics a batch norm scales each channel. With a batch's own it takes out again whatever a move does to
the mean and the size of its input, so a split that gains only by those gains nothing that training keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from energysplit.errors import InputError, nearest

STATISTICS = ("running", "batch")


def check_statistics(statistics: str) -> None:
    """Refuse an unknown word.

    Raises:
        InputError: it is neither "running" nor "batch".
    """
    if statistics not in STATISTICS:
        raise InputError(f"statistics={statistics!r} given: {nearest(str(statistics), STATISTICS)}")


def following(module: nn.Module) -> list[_BatchNorm]:
    """Its batch norms whose statistics follow the batch in training: not those that its own `train()` keeps frozen."""
    modes = {sub: sub.training for sub in module.modules()}
    module.train()
    try:
        return [sub for sub in module.modules() if isinstance(sub, _BatchNorm) and sub.training]
    finally:
        for sub, mode in modes.items():
            sub.training = mode


def norms_of(module: nn.Module, statistics: str) -> AbstractContextManager[None]:
    """The context in which batch norms have these statistics; everything else keeps its mode."""
    return _batch_statistics(module) if statistics == "batch" else nullcontext()


@contextmanager
def _batch_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms with the statistics of each batch; running ones and counters are neither read nor changed."""
    norms = following(module)
    if any(isinstance(norm, nn.SyncBatchNorm) for norm in norms):
        raise InputError(
            "statistics='batch' given for a network with nn.SyncBatchNorm, whose statistics are of all processes; use "
            "statistics='running', or ordinary batch norms"
        )
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise too_few() from None
    finally:
        for norm, (training, track) in zip(norms, before, strict=True):
            norm.training = training
            norm.track_running_stats = track


def too_few() -> InputError:
    """The error where a channel has one value in a batch."""
    return InputError(
        "statistics='batch' given with a batch of one image, which has no statistics in some batch norm; give "
        "batches of two images or more, or use statistics='running'"
    )
