"""The oracle: every splitting matrix column by column, then `eigh`.

One sweep a column serves all neurons of all groups; right for tiny fan-in and for proving the other solvers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from energysplit.errors import InputError
from energysplit.splitting.layout import Vectors
from energysplit.splitting.operator import SplittingOperator
from energysplit.splitting.solution import Eigenpairs, eigenpairs, eigenvectors

MOST_ELEMENTS = 2**28
"""Elements of all matrices together that are still formed: 2 GiB in float64."""


def check_size(shapes: Mapping[str, torch.Size]) -> None:
    """Refuse networks whose splitting matrices would not fit; shapes: group -> (neurons, dims).

    Raises:
        InputError: the matrices would not fit in memory.
    """
    elements = sum(neurons * dims**2 for neurons, dims in shapes.values())
    if elements > MOST_ELEMENTS:
        raise InputError(
            f"solver 'exact' would form matrices of {elements:,} elements, at most {MOST_ELEMENTS:,} expected; "
            "use method 'lobpcg'"
        )


def solve(operator: SplittingOperator, *, signed: bool = False) -> Eigenpairs:
    """Smallest eigenpairs by dense eigendecomposition, and the largest too where splits may be signed.

    Raises:
        InputError: the matrices would not fit in memory.
    """
    check_size(operator.shapes)
    longest = max((dims for _, dims in operator.shapes.values()), default=0)
    columns: dict[str, list[torch.Tensor]] = {name: [] for name in operator.shapes}
    for column in range(longest):
        basis: Vectors = {}
        for name, shape in operator.shapes.items():
            basis[name] = torch.zeros(shape, dtype=operator.dtype, device=operator.device)
            basis[name][:, column : column + 1] = 1  # nothing for groups with fewer dims
        for name, applied in operator.apply(basis).items():
            if column < operator.shapes[name][1]:
                columns[name].append(applied)

    def decomposed() -> list[tuple[Vectors, Vectors]]:
        ends: list[tuple[Vectors, Vectors]] = [({}, {}) for _ in range(2 if signed else 1)]
        for name in operator.shapes:
            matrix = torch.stack(columns[name], dim=2).double()
            ascending = eigenvectors((matrix + matrix.mT) / 2)
            for (vectors, applied_to), vector in zip(ends, (ascending[:, :, 0], ascending[:, :, -1]), strict=False):
                vectors[name] = vector.to(operator.dtype)
                applied_to[name] = torch.einsum("nij,nj->ni", matrix, vector).to(operator.dtype)
        return ends

    # The matrices take most memory of all: should it run out here on one process, all begin anew.
    return eigenpairs(operator.share.done(decomposed), operator.images * longest)
