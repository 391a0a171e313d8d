"""Whose is what: elements of an operation's result, summed by image and neuron."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from energysplit.graph.spans import Span
from energysplit.splitting.precision import at_least_float32


def attributed(
    each: Tensor, spans: Sequence[Span], images: int, widths: Mapping[str, int], groups: Container[str]
) -> Iterator[tuple[str, Float[Tensor, "images neurons"]]]:
    """Sums by image and neuron, for those of the groups that stand in a result.

    Args:
        each: one number for each element of the result.
        spans: the channels in it.
        images: in the batch.
        widths: neurons of every group.
        groups: those that are asked for.

    Error: summed over images they are exact. Their division among the images is exact where dimension 0 holds the
    images, or several rows (moments, windows) of each image one after another; elsewhere each gets the same part, and
    a standard error from it is too small.
    """
    (dim,) = {span.dim for span in spans}
    wide = at_least_float32(each.dtype)
    if dim > 0 and each.shape[0] % images == 0:
        rows = each.sum([d for d in range(1, each.dim()) if d != dim], dtype=wide) if each.dim() > 2 else each.to(wide)
        rows = rows.reshape(images, -1, each.shape[dim]).sum(1)
    else:
        row = each.sum([d for d in range(each.dim()) if d != dim], dtype=wide) if each.dim() > 1 else each.to(wide)
        rows = (row / images).expand(images, -1)
    for span in spans:
        if span.group in groups:
            index = span.index(widths[span.group])
            found = rows.index_select(1, index.flatten().to(rows.device))
            yield span.group, found.reshape(images, *index.shape).sum(2)
