"""Floating-point operations as torch counts them, attention taken apart into the matrix products that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts floating-point operations, two a multiply-accumulate, without attention's fused operations.

    Torch does not see inside the fast path of `nn.MultiheadAttention`, and before 2.15 on CPU not inside
    `scaled_dot_product_attention` either.

    Yields:
        The counter.
    """
    # Imported only now: it brings Triton with it, which few networks need.
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
