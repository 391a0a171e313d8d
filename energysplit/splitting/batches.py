"""Batches as large as memory allows: all of them halved, and the work begun anew, where it does not.

What is summed over images does not depend on how they are divided into batches. Where batch norms follow the batch,
each batch is a sample of what training does with batches of its size, so halving changes what is estimated, a little;
it ends at two images a process, the fewest that have statistics, and no batch gets fewer.
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


def fewest(statistics: str, share: Share) -> int:
    """Images of the smallest batch that is of use."""
    return 2 * share.processes if statistics == "batch" else 1


def cut(batches: Batches, largest: int, least: int = 1) -> list[tuple[Tensor, Tensor]]:
    """The batches in pieces of at most `largest` images, those of one batch of nearly the same size.

    None has fewer than `least`; where both can't be, it has more than `largest`.

    Example:
        >>> import torch
        >>> [len(x) for x, _ in cut([(torch.zeros(5), torch.zeros(5)), (torch.zeros(2), torch.zeros(2))], 2)]
        [2, 2, 1, 2]
        >>> [len(x) for x, _ in cut([(torch.zeros(5), torch.zeros(5))], 2, least=2)]
        [3, 2]
    """
    cuts = []
    for x, target in batches:
        pieces = max(1, min(math.ceil(len(x) / largest), len(x) // least))
        cuts += list(zip(x.tensor_split(pieces), target.tensor_split(pieces), strict=True))
    return cuts


def in_memory(
    work: Callable[[int], T],
    size: int,
    *,
    statistics: str,
    share: Share,
    halved: Callable[[int, str], None] | None = None,
) -> T:
    """What `work` returns for batches of `size` images, or of what memory allows.

    Args:
        work: begins anew each time; takes the most images of a batch.
        size: images to begin with.
        statistics: of batch norms.
        share: of each batch.
        halved: called with each smaller number and with what was said; None: a `SmallerBatches` warning.

    Raises:
        OutOfMemory: memory ran out with the smallest batches, too.
    """

    def smaller(images: int, said: str) -> None:
        if halved is not None:
            halved(images, said)
        else:
            warnings.warn(f"memory ran out ({said}); begun anew with batches of {images}", SmallerBatches, stacklevel=4)

    doing = "indexing (index.batch_size)"
    least = fewest(statistics, share)
    return with_smaller_batches(work, size, least=least, halved=smaller, doing=doing, agreed=share.processes > 1)


def largest_of(batches: Batches) -> int:
    """Images of the largest batch, at least 1."""
    return max((1, *(len(x) for x, _ in batches)))
