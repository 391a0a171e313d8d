"""Operations without weights that take time all the same: pooling, residual sums, gates, copies.

They are cases like layers, for providers that price every operation. What moves no data (a flatten, a dropout in eval
mode) is no operation of its own: it belongs to whatever made its input.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor, nn

from energysplit.graph.labels import compact
from energysplit.graph.network import Count, Kind, Layer
from energysplit.graph.rule import Mark
from energysplit.graph.spaces import Spaces
from energysplit.graph.walk import Visit
from energysplit.types import LayerCase

_OPS = {Kind.ACTIVATION: "activation", Kind.MAX_POOL: "max_pool", Kind.SUM: "add", Kind.PRODUCT: "multiply"}
_REDUCTIONS = ("mean", "sum")
_FREE_MODULES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_FREE = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "expand", "expand_as"),
    *("to", "float", "type_as", "dropout", "dropout1d", "dropout2d", "stochastic_depth"),
)


def free(visit: Visit) -> bool:
    """Whether an operation moves no data when the network runs: a view, or nothing at all."""
    node = visit.node
    if visit.call is not None and visit.call.module is not None:
        return isinstance(visit.call.module, _FREE_MODULES) or "stochasticdepth" in _name(visit)
    if node.target is operator.getitem:
        return not isinstance(visit.call and visit.call.args[0], Tensor)  # one of the results of a chunk
    return _name(visit) in _FREE


def weightless(visit: Visit, images: int, spaces: Spaces) -> Layer:
    """The case of an operation without weights, and how its channels follow the groups."""
    op = _OPS.get(visit.outcome.kind) or ("average_pool" if _averages(visit) else "move")
    outputs, out_size = result_channels(visit, images, spaces)
    in_size, kernel, stride = out_size, (1, 1), (1, 1)
    if op in ("max_pool", "average_pool"):
        in_size = channels(_mark_read(visit), visit.source, images, spaces)[1]
        kernel, stride = _window(visit, in_size, out_size)
    activation = visit.outcome.activation.name if visit.outcome.activation is not None else None
    total = outputs.at(spaces.widths)
    case = LayerCase(
        op,  # type: ignore[arg-type]
        total,
        total,
        kernel=kernel,
        stride=stride,
        groups=max(1, total),
        in_size=in_size,
        out_size=out_size,
        activation=activation,
    )
    return Layer(case, outputs, outputs)


def result_channels(visit: Visit, images: int, spaces: Spaces) -> tuple[Count, tuple[int, int]]:
    """How the channels of an operation's result follow the groups, and its (height, width).

    Of pieces (chunk, split), those of what was divided: together they are as large.
    """
    whole = bool(visit.result)
    mark, shape = (visit.outcome.mark, visit.result) if whole else (_mark_read(visit), visit.source)
    return channels(mark, shape, images, spaces)


def channels(mark: Mark | None, shape: torch.Size, images: int, spaces: Spaces) -> tuple[Count, tuple[int, int]]:
    """How the channels of one image's tensor follow the groups, and its (height, width)."""
    total = shape.numel() // images if shape else 0
    wide = [1]
    if isinstance(mark, Tensor):
        small = compact(mark)
        wide = [dim for dim, size in enumerate(small.shape) if size > 1] or ([1] if mark.dim() > 1 else [])
        labels = small.expand(*(shape[d] if d in wide else small.shape[d] for d in range(mark.dim()))).flatten()
        count = spaces.count(len(labels), labels)
    else:
        count = Count(shape[1] if len(shape) > 1 else total)
    each = count.at(spaces.widths)
    if not each:
        return Count(0), (1, 1)
    size = size_of(shape)
    usual = wide == [1] and size[0] * size[1] * each == total  # else channels last, or folded into another dimension
    return count, size if usual else (1, max(1, total // each))


def _window(
    visit: Visit, in_size: tuple[int, int], out_size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(Kernel, stride) of a pooling; of an adaptive one, and of a mean or sum over positions, what comes nearest."""
    call, module = visit.call, visit.call.module if visit.call is not None else None
    reduces = _name(visit) in _REDUCTIONS
    if "adaptive" in _name(visit) or reduces or call is None or (module and not hasattr(module, "kernel_size")):
        near = (max(1, in_size[0] // out_size[0]), max(1, in_size[1] // out_size[1]))
        reduced = in_size[0] * in_size[1] // (out_size[0] * out_size[1])
        if reduces and near[0] * near[1] != reduced:  # the axis that is left stands in the other place
            near = (1, reduced)
        return near, (near if out_size != (1, 1) else (1, 1))
    kernel = _pair(call.option(1, "kernel_size", 1))
    return kernel, _pair(call.option(2, "stride", None) or kernel)


def _mark_read(visit: Visit) -> Mark | None:
    """The mark of what an operation reads first; None if it holds no labels."""
    source = visit.call.source(0, "input") if visit.call is not None else None
    return visit.call.marks.get(source) if visit.call is not None and source is not None else None


def _averages(visit: Visit) -> bool:
    return "pool" in _name(visit) or _name(visit) in _REDUCTIONS


def _name(visit: Visit) -> str:
    """The operation's bare name, in small letters."""
    module = visit.call.module if visit.call is not None else None
    target = visit.node.target
    name = type(module).__name__ if module is not None else getattr(target, "__name__", str(target))
    return name.lower()


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return (sizes[0], sizes[-1]) if len(sizes) == 2 or isinstance(value, int) else (1, sizes[0])


def size_of(shape: torch.Size) -> tuple[int, int]:
    """(height, width) of a tensor (batch, channels, ...); (1, length) for sequences, (1, 1) for vectors."""
    spatial = tuple(shape[2:4])
    return (1,) * (2 - len(spatial)) + spatial  # type: ignore[return-value]
