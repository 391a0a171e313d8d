"""Run-time check that a split kept the function."""

from __future__ import annotations

import torch
from torch import Tensor

from energysplit.graph import Network
from energysplit.graph.trace import evaluating


def function_error(before: Network, after: Network, x: Tensor) -> float:
    """Largest difference of the outputs on `x` relative to the largest output; NaN if an output is not finite."""
    with torch.no_grad(), evaluating(before.module), evaluating(after.module):
        old, new = before.module(x), after.module(x)
    scale = old.abs().max().clamp_min(torch.finfo(old.dtype).tiny)
    error = (old - new).abs().max() / scale
    return float(error) if bool(torch.isfinite(old).all() & torch.isfinite(new).all()) else float("nan")
