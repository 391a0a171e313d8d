"""What an eigen-solver returns, and the sum by which solvers are compared."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from energysplit.splitting.layout import Vectors
from energysplit.splitting.operator import SplittingOperator, dots


@dataclass(frozen=True)
class Eigenpairs:
    """The smallest eigenpair of each neuron's splitting matrix, as far as the solver got.

    vectors: group -> unit vectors. values: group -> v^T S v on the solver's sample. residual: group ->
    ||S v - value v||. images_swept: images times sweeps, the solver's cost.
    """

    vectors: Vectors
    values: dict[str, Tensor]
    residual: dict[str, Tensor]
    images_swept: int


def eigenpairs(vectors: Vectors, applied: Vectors, images_swept: int) -> Eigenpairs:
    """Rayleigh quotients and residuals of unit vectors from S v."""
    values = {name: dots(v, applied[name]).double() for name, v in vectors.items()}
    residual = {}
    for name, v in vectors.items():
        residual[name] = (applied[name] - values[name].to(v)[:, None] * v).norm(dim=1).double()
    return Eigenpairs(vectors, values, residual, images_swept)


def measured(operator: SplittingOperator, vectors: Vectors, images_swept: int) -> Eigenpairs:
    """Eigenpairs of given unit vectors, at the price of one more sweep."""
    return eigenpairs(vectors, operator.apply(vectors), images_swept + operator.images)
