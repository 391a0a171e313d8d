"""Batches as large as memory allows: all of them halved, and the work begun anew, where it does not.

What is summed over images does not depend on how they are divided into batches. Where batch norms follow the batch,
each batch is a sample of what training does with batches of its size, so halving changes what is estimated, a little;
it ends at two images a process, the fewest that have statistics.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from energysplit.errors import SmallerBatches
from energysplit.memory import with_smaller_batches
from energysplit.splitting.sample import Batches
from energysplit.splitting.share import Share

T = TypeVar("T")


def cut(batches: Batches, largest: int) -> list[tuple[Tensor, Tensor]]:
    """The batches in pieces of at most `largest` images, those of one batch of nearly the same size.

    Example:
        >>> import torch
        >>> [len(x) for x, _ in cut([(torch.zeros(5), torch.zeros(5)), (torch.zeros(2), torch.zeros(2))], 2)]
        [2, 2, 1, 2]
    """
    return [
        pair
        for x, target in batches
        for pair in zip(
            *(tensor.tensor_split(max(1, math.ceil(len(x) / largest))) for tensor in (x, target)), strict=True
        )
    ]


def in_memory(
    work: Callable[[int], T],
    batches: Batches,
    *,
    statistics: str,
    share: Share,
    halved: Callable[[int, str], None] | None = None,
) -> tuple[T, int]:
    """What `work` returns for batches cut to a number of images, and that number: their own, or what memory allows.

    Args:
        work: begins anew each time; takes the most images of a batch.
        batches: as they were given.
        statistics: of batch norms.
        share: of each batch.
        halved: called with each smaller number and with what was said; None: a `SmallerBatches` warning.

    Raises:
        OutOfMemory: memory ran out with the smallest batches, too.
    """
    size = max((1, *(len(x) for x, _ in batches)))
    least = 2 * share.processes if statistics == "batch" else 1

    def smaller(images: int, said: str) -> None:
        nonlocal size
        size = images
        if halved is not None:
            halved(images, said)
        else:
            warnings.warn(f"memory ran out ({said}); begun anew with batches of {images}", SmallerBatches, stacklevel=4)

    doing = "indexing (index.batch_size)"
    made = with_smaller_batches(work, size, least=least, halved=smaller, doing=doing)
    return made, size
