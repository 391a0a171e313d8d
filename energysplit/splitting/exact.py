"""The oracle: every splitting matrix column by column, then `eigh`.

One sweep a column serves all neurons of all groups; right for tiny fan-in and for proving the other solvers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from energysplit.errors import InputError
from energysplit.splitting.operator import SplittingOperator, Vectors
from energysplit.splitting.solution import Eigenpairs, eigenpairs

MOST_ELEMENTS = 2**28
"""Elements of all matrices together that are still formed: 2 GiB in float64."""


def check_size(shapes: Mapping[str, torch.Size]) -> None:
    """Refuse networks whose splitting matrices would not fit; shapes: group -> shape of the producer's weight.

    Raises:
        InputError: the matrices would not fit in memory.
    """
    elements = sum(shape[0] * shape[1:].numel() ** 2 for shape in shapes.values())
    if elements > MOST_ELEMENTS:
        raise InputError(
            f"solver 'exact' would form matrices of {elements:,} elements, at most {MOST_ELEMENTS:,} expected; "
            "use method 'lobpcg'"
        )


def solve(operator: SplittingOperator) -> Eigenpairs:
    """Smallest eigenpairs by dense eigendecomposition.

    Raises:
        InputError: the matrices would not fit in memory.
    """
    check_size(operator.shapes)
    fan_in = {name: shape[1:].numel() for name, shape in operator.shapes.items()}
    columns: dict[str, list[torch.Tensor]] = {name: [] for name in operator.shapes}
    for column in range(max(fan_in.values(), default=0)):
        basis: Vectors = {}
        for name, shape in operator.shapes.items():
            v = torch.zeros(shape, dtype=operator.dtype, device=operator.device)
            if column < fan_in[name]:
                v.flatten(1)[:, column] = 1
            basis[name] = v
        for name, applied in operator.apply(basis).items():
            if column < fan_in[name]:
                columns[name].append(applied.flatten(1))
    vectors, images = {}, {}
    for name, shape in operator.shapes.items():
        matrix = torch.stack(columns[name], dim=2).double()
        lowest = torch.linalg.eigh((matrix + matrix.mT) / 2).eigenvectors[:, :, 0]
        vectors[name] = lowest.to(operator.dtype).reshape(shape)
        images[name] = torch.einsum("nij,nj->ni", matrix, lowest).to(operator.dtype).reshape(shape)
    return eigenpairs(vectors, images, operator.images * max(fan_in.values(), default=0))
