"""Running out of memory, on a GPU or on the CPU: told apart from other errors, and answered by smaller batches.

What an attempt held stays alive as long as somebody looks at its error, so an answer begins only when that is gone.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

from energysplit.errors import OutOfMemory

T = TypeVar("T")

_SIGNS = re.compile("can't allocate memory|out of memory|ALLOC_FAILED|bad_alloc|could not create a primitive(?! desc)")
"""Words in the plain RuntimeErrors of torch's allocator on the CPU, of CUDA's libraries and of oneDNN."""


def within_memory(work: Callable[[], T]) -> T:
    """What `work` returns.

    Raises:
        OutOfMemory: memory ran out; nothing that the work held is kept alive by the error.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not _ran_out(error):
            raise
        said = str(error).strip().partition("\n")[0] or type(error).__name__
    # Not in the handler above: the first error would be this one's context, with every frame of the work.
    raise OutOfMemory(said)


def with_smaller_batches(
    work: Callable[[int], T],
    size: int,
    *,
    least: int = 1,
    halved: Callable[[int, str], None],
    doing: str,
    agreed: bool = False,
) -> T:
    """What `work` returns for batches of `size` images, or of half as many each time memory runs out.

    Args:
        work: begins anew each time; takes the most images of a batch.
        size: images to begin with.
        least: images of the smallest batch that is of use.
        halved: called with each smaller size, and with what was said as memory ran out.
        doing: what the work is, for the message.
        agreed: whether only an `OutOfMemory` of the work itself counts, as several processes have agreed on it; one
            that began anew alone would send the others what they do not expect.

    Raises:
        OutOfMemory: memory ran out with the smallest batches, too.
    """
    while True:
        try:
            return work(size) if agreed else within_memory(partial(work, size))
        except OutOfMemory as error:
            said = str(error)
        free()
        if size <= least:
            raise OutOfMemory(
                f"memory ran out while {doing}, in batches of {size} too, the smallest of use ({said}); use a smaller "
                "network, smaller images (data.image_size), or a machine with more memory"
            )
        size = max(least, size // 2)
        halved(size, said)


def free() -> None:
    """Let go of what a failed attempt held: reference cycles, and what torch keeps of a GPU's memory for itself."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _ran_out(error: RuntimeError | MemoryError) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or _SIGNS.search(str(error)) is not None
