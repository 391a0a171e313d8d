"""Directions by chance: what eigen-solvers are compared with.

A random unit vector of each neuron, over all the rows that move, as the solvers' own vectors are. No image is looked
at, so nothing is swept and there is no residual; what the direction is worth is then asked of images like any other's.
Where splits may be signed, the upper end is a second, independent vector: both values are still what copies along them
would bring, only that neither is an end of the spectrum.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from energysplit.splitting.layout import Vectors
from energysplit.splitting.operator import SplittingOperator
from energysplit.splitting.solution import Eigenpairs, starts


def solve(operator: SplittingOperator, *, seed: int = 0, signed: bool = False) -> Eigenpairs:
    """Random unit vectors, uniform over all directions; values and residuals are NaN, for nothing was swept.

    Error: none is meant. The mean of v^T S v over seeds is the trace of S over its dimensions.
    """
    ends = [_unknown(vectors) for vectors in starts(operator, seed, signed)]
    return ends[0] if len(ends) == 1 else replace(ends[0], upper=ends[1])


def _unknown(vectors: Vectors) -> Eigenpairs:
    def nothing() -> dict[str, torch.Tensor]:
        return {name: torch.full((len(v),), torch.nan, dtype=torch.float64) for name, v in vectors.items()}

    return Eigenpairs(vectors, nothing(), nothing(), images_swept=0)
