"""Operations that move elements: labels go the way the elements go.

What only moves elements is applied to the labels themselves. Two things are looked at closely: sizes written into the
code along a dimension that holds channels, and pieces of a dimension that holds channels.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from energysplit.graph.labels import NONE, compact, spread, varying
from energysplit.graph.network import Kind
from energysplit.graph.rule import Call, Mark, Outcome, Refusal, Rule, same, shape_of


def rule_of(target: Any) -> Rule | None:
    """The rule of a module's class, function or method, or None."""
    try:
        return _RULES.get(target)
    except TypeError:  # not hashable
        return None


def _call(call: Call, args: tuple[Any, ...]) -> Any:
    if call.module is not None:
        return call.module(*args, **call.kwargs)
    if isinstance(call.target, str):
        # A mark may be laid out otherwise than its tensor.
        name = "reshape" if call.target == "view" else call.target
        return getattr(args[0], name)(*args[1:], **call.kwargs)
    return call.target(*args, **call.kwargs)


def _move(call: Call) -> Outcome:
    """Permutations and the like: the mark moves as the elements do."""
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    return Outcome(Kind.LINEAR, _call(call, (call.mark, *call.args[1:])))


def _reshape(call: Call) -> Outcome:
    """View, reshape, flatten, unflatten.

    Where channels end up along several dimensions (the groups of a shuffle), those whose size is written into the
    code stay as they are, so the channels along them can only be split together.
    """
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    mark = _call(call, (call.mark, *call.args[1:]))
    where = varying(mark)
    fixed = [dim for dim in where if dim in _written(call, mark.dim())]
    if where and len(fixed) == len(where):
        raise Refusal(f"its sizes {tuple(mark.shape)} are written into the code, so that they can't follow a split")
    if len(where) - len(fixed) > 1:
        raise Refusal("it puts channels along several dimensions")
    for dim in fixed:
        call.labels.unify(compact(mark), compact(mark).narrow(dim, 0, 1))
    return Outcome(Kind.LINEAR, mark)


def _written(call: Call, dims: int) -> set[int]:
    """The dimensions of a reshape's result whose sizes are constants in the code."""
    if call.target in (torch.flatten, "flatten", nn.Flatten):
        return set()
    if call.target in (torch.unflatten, "unflatten", nn.Unflatten):
        dim = call.option(1, "dim")
        if isinstance(dim, str):
            raise Refusal("named dimensions are not followed")
        sizes = _written_argument(call, 2, "sizes") if call.module is None else call.option(2, "unflattened_size")
        if isinstance(sizes, fx.Node):
            return set()
        before = dim % call.mark.dim()
        return {before + n for n, size in enumerate(sizes) if isinstance(size, int) and size != -1}
    given = call.node.args[1:] or tuple(call.node.kwargs.values())
    sizes = given[0] if len(given) == 1 and not isinstance(given[0], int) else given
    if isinstance(sizes, fx.Node):  # x.view(y.shape), or a single computed size
        return set()
    assert isinstance(sizes, Sequence)
    return {dim for dim, size in enumerate(sizes) if isinstance(size, int) and size != -1 and len(sizes) == dims}


def _written_argument(call: Call, position: int, name: str) -> Any:
    """An argument as the code has it: a constant, or a node where it is computed."""
    return call.node.args[position] if len(call.node.args) > position else call.node.kwargs.get(name)


def _expand(call: Call) -> Outcome:
    return Outcome(Kind.LINEAR, None if call.mark is None else call.mark.expand(shape_of(call)))


def _dim(call: Call, position: int) -> int:
    return int(call.argument(position, "dim", call.kwargs.get("axis", 0)))


def _chunk(call: Call) -> Outcome:
    """Equal pieces of the channels must stay equal, so what stands in one place of each is split together."""
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    dim = _dim(call, 2) % call.mark.dim()
    pieces = _call(call, (call.mark, *call.args[1:]))
    if dim not in varying(call.mark):
        return Outcome(Kind.LINEAR, pieces)
    if call.target in (torch.split, "split") and not isinstance(
        _written_argument(call, 1, "split_size_or_sections"), fx.Node
    ):
        raise Refusal("the sizes of its pieces are written into the code")
    if len({piece.shape[dim] for piece in pieces}) > 1:
        raise Refusal("it cuts the channels into pieces of different sizes")
    for piece in pieces[1:]:
        call.labels.unify(compact(piece), compact(pieces[0]))
    return Outcome(Kind.LINEAR, pieces)


def _item(call: Call) -> Outcome:
    """A piece of a tuple, or an index into dimensions that hold no channels."""
    if call.mark is None:
        return Outcome(Kind.LINEAR if isinstance(call.result, Tensor) else Kind.VALUE)
    if isinstance(call.mark, tuple | list):
        return Outcome(Kind.LINEAR, call.mark[call.args[1]])
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    consumed = sum(1 for part in index if part is not None and part is not Ellipsis)
    dim, where = 0, varying(call.mark)
    for part in index:
        if part is None:
            continue
        if part is Ellipsis:
            dim += call.mark.dim() - consumed
            continue
        if part != slice(None) and dim in where:
            raise Refusal("it takes channels by numbers written into the code")
        if not isinstance(part, int | slice):
            raise Refusal("it indexes with a tensor or a list")
        dim += 1
    return Outcome(Kind.LINEAR, call.mark[call.args[1]])


def _unbind(call: Call) -> Outcome:
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    if _dim(call, 1) % call.mark.dim() in varying(call.mark):
        raise Refusal("it takes the channels apart")
    return Outcome(Kind.LINEAR, call.mark.unbind(_dim(call, 1)))


def _cat(call: Call) -> Outcome:
    """Side by side: channels of several groups in one dimension; compact marks keep it cheap."""
    nodes = call.node.args[0] if call.node.args else call.node.kwargs["tensors"]
    values = call.args[0] if call.args else call.kwargs["tensors"]
    if not isinstance(nodes, tuple | list):
        raise Refusal("it joins a list that is made while it runs")
    if not any(node in call.marks for node in nodes):
        return Outcome(Kind.LINEAR)
    dim = _dim(call, 1)
    stack = call.target is torch.stack
    marks = [
        call.marks.get(node, torch.full((), NONE).expand(value.shape))
        for node, value in zip(nodes, values, strict=True)
    ]
    if stack:
        return Outcome(Kind.LINEAR, torch.stack(marks, dim))
    dim %= marks[0].dim()
    small = [_but(mark, dim) for mark in marks]
    shape = [max(mark.shape[d] for mark in small) for d in range(small[0].dim())]
    joined = torch.cat([m.expand(*shape[:dim], m.shape[dim], *shape[dim + 1 :]) for m in small], dim)
    return Outcome(Kind.LINEAR, joined.expand(shape_of(call)))


def _but(mark: Mark, dim: int) -> Mark:
    """The mark compact along all dimensions but one, which keeps its size."""
    small = compact(mark)
    return small.expand(*small.shape[:dim], mark.shape[dim], *small.shape[dim + 1 :])


def _turn(call: Call) -> Outcome:
    """Roll and flip: positions may turn, channels may not."""
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    position = 2 if call.target in (torch.roll, "roll") else 1
    dims = call.argument(position, "dims")
    if dims is None and len(call.args) > position:
        dims = call.args[position:]
    dims = (dims,) if isinstance(dims, int) else dims
    if dims is None or any(dim % call.mark.dim() in varying(call.mark) for dim in dims):
        raise Refusal("it changes the order of the channels")
    return same(call)


def _pixel_shuffle(call: Call) -> Outcome:
    """Each output channel is made of r x r input channels, which are split together."""
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    r = call.option(1, "upscale_factor")
    labels = call.channels(call.mark.dim() - 3)
    assert labels is not None
    blocks = labels.reshape(-1, r * r)
    call.labels.unify(blocks, blocks[:, :1])
    return Outcome(Kind.LINEAR, spread(blocks[:, 0], call.mark.dim() - 3, shape_of(call)))


_FLAT = ("view", "reshape", torch.reshape, torch.flatten, "flatten", nn.Flatten, torch.unflatten, "unflatten")
_MOVES = (
    *(torch.permute, "permute", torch.transpose, "transpose", torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze"),
    *(torch.movedim, "movedim", torch.swapaxes, "swapaxes", torch.swapdims, "t", torch.t),
    *("repeat", torch.repeat_interleave, "repeat_interleave", F.pixel_unshuffle, nn.PixelUnshuffle, torch.tile),
)
_SAME = (
    *("contiguous", "clone", torch.clone, "to", "float", "double", "half", "type_as"),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
)
_RULES: dict[Any, Rule] = {
    **dict.fromkeys((*_FLAT, nn.Unflatten), _reshape),
    **dict.fromkeys(_MOVES, _move),
    **dict.fromkeys(_SAME, same),
    **dict.fromkeys((torch.chunk, "chunk", torch.split, "split", torch.tensor_split, "tensor_split"), _chunk),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate, torch.stack), _cat),
    **dict.fromkeys((torch.unbind, "unbind"), _unbind),
    **dict.fromkeys((torch.roll, "roll", torch.flip, "flip"), _turn),
    **dict.fromkeys((F.pixel_shuffle, nn.PixelShuffle), _pixel_shuffle),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    operator.getitem: _item,
}
