"""Weighted sums over neurons of v^T S v, with the standard error that neurons' common images give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from energysplit.splitting.layout import Vectors
from energysplit.splitting.operator import SplittingOperator


def weighted_sums(
    operator: SplittingOperator, ends: Sequence[Vectors], weightings: Sequence[Sequence[Vectors]]
) -> list[tuple[float, float]]:
    """For each weighting, the weighted sum of v^T S v over all neurons and all ends, and its standard error.

    Args:
        operator: S on the images.
        ends: one vector of each neuron, for each end of the spectrum.
        weightings: for each sum, for each end, group -> one weight a neuron; groups may be left out.

    Error: over images. Neurons share images, and so do both ends, so their errors are correlated and do not add up as
    squares; here each image's whole sum is one observation. NaN for a single image.
    """

    def sweep() -> torch.Tensor:
        moments = torch.zeros(2, len(weightings), dtype=torch.float64)
        for part in operator.sample.parts():
            each = [
                {name: part.images * found for name, found in made.items()} for made in operator.quadratic(part, ends)
            ]
            for number, weighting in enumerate(weightings):
                terms = [
                    # A neuron without a weight has no part in the sum, whatever its value is.
                    torch.where(weights.to(parts[name]) != 0, parts[name], 0.0) @ weights.to(parts[name])
                    for parts, by_group in zip(each, weighting, strict=True)
                    for name, weights in by_group.items()
                ]
                image = torch.stack(terms).sum(0)
                moments[0, number] += float(image.sum())
                moments[1, number] += float(image.square().sum())
        return moments

    first, second = operator.share.total(operator.swept(sweep)).tolist()
    n = operator.images
    means = [total / n for total in first]
    if n == 1:
        return [(mean, float("nan")) for mean in means]
    return [
        (mean, (max(0.0, square / n - mean**2) / (n - 1)) ** 0.5) for mean, square in zip(means, second, strict=True)
    ]
