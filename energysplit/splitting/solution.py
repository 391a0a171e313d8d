"""What an eigen-solver starts from and returns: one set of vectors for each end of the spectrum that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from energysplit.splitting.layout import Vectors
from energysplit.splitting.operator import SplittingOperator, dots


@dataclass(frozen=True)
class Eigenpairs:
    """The smallest eigenpair of each neuron's splitting matrix, as far as the solver got.

    vectors: group -> unit vectors. values: group -> v^T S v on the solver's sample. residual: group ->
    ||S v - value v||. images_swept: images times sweeps, the solver's cost. upper: the largest eigenpairs, where both
    ends of the spectrum were asked for; one sweep serves both.
    """

    vectors: Vectors
    values: dict[str, Tensor]
    residual: dict[str, Tensor]
    images_swept: int
    upper: Eigenpairs | None = None

    @property
    def ends(self) -> tuple[Eigenpairs, ...]:
        """The smallest eigenpairs, and the largest if they were asked for."""
        return (self,) if self.upper is None else (self, self.upper)


def starts(operator: SplittingOperator, seed: int, signed: bool) -> list[Vectors]:
    """Random unit vectors for the lower end and, where splits may be signed, others for the upper one."""
    return [operator.random_vectors(seed), *([operator.random_vectors(seed ^ 1)] if signed else [])]


def eigenvectors(matrices: Float[Tensor, "neurons n n"]) -> Float[Tensor, "neurons n n"]:
    """The eigenvectors of symmetric matrices, smallest eigenvalue first.

    A matrix that is not finite gets unit vectors, and what it makes of them says so. LAPACK would refuse all of them.
    """
    finite = torch.isfinite(matrices).flatten(1).all(1)[:, None, None]
    found: Tensor = torch.linalg.eigh(torch.where(finite, matrices, 0.0)).eigenvectors
    return found


def eigenpairs(ends: Sequence[tuple[Vectors, Vectors]], images_swept: int) -> Eigenpairs:
    """Rayleigh quotients and residuals of unit vectors.

    Args:
        ends: (unit vectors, S times them) of the lower end and, if there is one, of the upper end.
        images_swept: the solver's cost.
    """
    found = [_eigenpairs(vectors, applied, images_swept) for vectors, applied in ends]
    return found[0] if len(found) == 1 else replace(found[0], upper=found[1])


def measured(operator: SplittingOperator, ends: Sequence[Vectors], images_swept: int) -> Eigenpairs:
    """Eigenpairs of given unit vectors, at the price of one more sweep."""
    return eigenpairs(list(zip(ends, operator.apply_all(ends), strict=True)), images_swept + operator.images)


def _eigenpairs(vectors: Vectors, applied: Vectors, images_swept: int) -> Eigenpairs:
    values = {name: dots(v, applied[name]).double() for name, v in vectors.items()}
    residual = {}
    for name, v in vectors.items():
        residual[name] = (applied[name] - values[name].to(v)[:, None] * v).norm(dim=1).double()
    return Eigenpairs(vectors, values, residual, images_swept)
