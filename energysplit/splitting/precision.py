"""Precision of the tangent passes: the parameters' own, or bfloat16 for what a batch goes through.

In "bf16" the forward pass, the backward pass and the tangent passes of a batch run as mixed-precision training does,
and what is kept of a batch is bfloat16. Vectors, their moves and the sums over batches stay float32, and so do batch
norms' statistics. There is no float16: gradients of a mean loss to activations would drown below its smallest numbers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from energysplit.errors import InputError, nearest

PRECISIONS = ("no", "bf16")


def check_precision(precision: str, dtype: torch.dtype) -> None:
    """Refuse an unknown word, and bfloat16 where parameters are not float32.

    Raises:
        InputError: one of the two.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} given: {nearest(str(precision), PRECISIONS)}")
    if precision == "bf16" and dtype != torch.float32:
        raise InputError(
            f"precision='bf16' given for a network of {str(dtype).removeprefix('torch.')} parameters, which mixed "
            "precision leaves as they are; use precision='no', or a float32 network"
        )


def mixed(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """The context that work on a batch runs in. Threads have their own: a backward pass's hooks must enter it too."""
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """What sums over a tensor of this type are kept in."""
    return torch.promote_types(dtype, torch.float32)
