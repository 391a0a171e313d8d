"""Run-time check that a split kept the function."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from energysplit.graph import Network
from energysplit.graph.trace import evaluating


def function_error(before: Network, after: Network, x: Tensor) -> float:
    """Largest difference of the outputs on `x` relative to the largest output; NaN if an output is not finite.

    A network with several outputs, in tuples or dicts, has the error of its worst.
    """
    with torch.no_grad(), evaluating(before.module), evaluating(after.module):
        pairs = zip(_outputs(before, x), _outputs(after, x), strict=True)
        errors = [_error(old, new) for old, new in pairs]
    return float(torch.tensor(errors, dtype=torch.float64).max())  # NaN wins


def _outputs(net: Network, x: Tensor) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(net.module(x)) if isinstance(leaf, Tensor) and leaf.numel() > 0]


def _error(old: Tensor, new: Tensor) -> float:
    if not (old.is_floating_point() or old.is_complex()):
        return 0.0 if torch.equal(old, new) else float("inf")
    scale = old.abs().max().clamp_min(torch.finfo(old.dtype).tiny)
    error = (old - new).abs().max() / scale
    return float(error) if bool(torch.isfinite(old).all() & torch.isfinite(new).all()) else float("nan")
