"""Widens a copy of a network: every tensor that runs along split groups gets its new channels.

One dimension may hold channels of several groups, and one weight may produce and consume the same group, so every
dimension gets the order of all its new indices at once: copies of a channel stand next to it in every run, and what
belongs to no split group stays. In the coordinates of the old weight w, with G gathering along all dimensions,

    new = share * G(w + moves),

where a move adds its direction, times its size, times the steps that each copy makes (+1 and -1 in a plain pair) along
the dimension it belongs to. Shares may be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from energysplit.graph.channels import ChannelMap, End
from energysplit.graph.copied import copied
from energysplit.graph.layer_sizes import set_sizes
from energysplit.graph.network import Network, Role, Slot, tensor_of


@dataclass(frozen=True)
class Move:
    """A step of a weight: the copies of a group's channels along the dimension of this role move apart.

    tensor: first qualified name of the weight. size: length of a step, in units of the direction, which is shaped like
    the weight. end: whose steps the copies make.
    """

    tensor: str
    role: Role
    group: str
    size: float
    direction: Tensor
    end: End = "low"


@dataclass(frozen=True)
class _Dimension:
    """New indices of a dimension. source: the old index each copies. share: as in `ChannelMap`.

    pieces: in order, the map of the group that a piece of the dimension belongs to, with the group's name and the size
    of its channels there; or how many indices there are between.
    """

    role: Role
    source: Int[Tensor, " new"]
    share: Float[Tensor, " new"]
    pieces: tuple[tuple[str, ChannelMap, int] | int, ...]

    @property
    def groups(self) -> set[str]:
        """The split groups that run along it."""
        return {piece[0] for piece in self.pieces if not isinstance(piece, int)}

    def steps(self, group: str, end: End) -> Float[Tensor, " new"]:
        """Steps that each new index makes with this group along the direction of one end."""
        found = []
        for piece in self.pieces:
            if isinstance(piece, int):
                found.append(torch.zeros(piece, dtype=torch.float64))
            else:
                name, channels, block = piece
                steps = channels.moves(end).repeat_interleave(block)
                found.append(steps if name == group else torch.zeros_like(steps))
        return torch.cat(found)


def duplicate(net: Network, maps: Mapping[str, ChannelMap], moves: Sequence[Move] = ()) -> Network:
    """A new network in which the channels of each mapped group are copied; `net` and its module stay as they are.

    Args:
        net: the network before.
        maps: group -> its new channels.
        moves: steps of producers' and consumers' weights; without any, the function is kept.

    Returns:
        A network around a deep copy of the module. Tied tensors stay tied, and parameters that need no gradient need
        none.
    """
    made = {}
    with torch.no_grad():
        for name, dimensions in _dimensions(net, maps).items():
            mine = [move for move in moves if move.tensor == name]
            made[name] = _edited(tensor_of(net.module, name).detach(), dimensions, mine)
    return _replaced(net, made, {name: len(channels.source) for name, channels in maps.items()})


def resized(net: Network, widths: Mapping[str, int]) -> Network:
    """A new network with these widths and zeros in every resized tensor, to be filled from a checkpoint.

    Raises:
        InputError: a group is unknown, or a width is below 1.
    """
    net.cases(widths)
    made = {}
    for name, shape in shapes_at(net, widths).items():
        old = tensor_of(net.module, name)
        if old.shape != shape:
            made[name] = torch.zeros(shape, dtype=old.dtype, device=old.device)
    return _replaced(net, made, widths)


def shapes_at(net: Network, widths: Mapping[str, int]) -> dict[str, torch.Size]:
    """Shape, at these widths, of each tensor that runs along any group's channels; by first qualified name."""
    found: dict[str, list[int]] = {}
    for slot in net.slots:
        shape = found.setdefault(slot.tensor, list(tensor_of(net.module, slot.tensor).shape))
        gain = widths.get(slot.group, net.groups[slot.group].channels) - net.groups[slot.group].channels
        shape[slot.span.dim] += gain * slot.span.multiple
    return {name: torch.Size(shape) for name, shape in found.items()}


def carried(
    net: Network,
    maps: Mapping[str, ChannelMap],
    states: Mapping[str, Tensor],
    factor: Callable[[Tensor], Tensor],
    columns: Callable[[Tensor], Tensor] = torch.ones_like,
) -> dict[str, Tensor]:
    """Parameter name -> a tensor shaped like it, carried through a split.

    Copies along producers' and followers' dimensions are multiplied by `factor(share)`, columns of consumers by
    `columns(share)`, which leaves them as they are: with the share itself as the factor, that is how gradients of the
    split network follow from those before, and with its square how their squares do.
    """
    found = _dimensions(net, maps)
    carried = {}
    for name, state in states.items():
        dimensions = found.get(name, {})
        state = _gathered(state, dimensions)
        for dim, dimension in dimensions.items():
            of_copy = columns if dimension.role is Role.CONSUMER else factor
            state = state * _along(of_copy(dimension.share), dim, state)
        carried[name] = state
    return carried


def _dimensions(net: Network, maps: Mapping[str, ChannelMap]) -> dict[str, dict[int, _Dimension]]:
    """Tensor -> dimension number -> its new indices, for every dimension that mapped groups run along."""
    found: dict[str, dict[int, _Dimension]] = {}
    for (name, dim), slots in net.dimensions().items():
        split = tuple(slot for slot in slots if slot.group in maps)
        if split:
            found.setdefault(name, {})[dim] = _dimension(net, split, maps, tensor_of(net.module, name).shape[dim])
    return found


def _dimension(net: Network, slots: tuple[Slot, ...], maps: Mapping[str, ChannelMap], size: int) -> _Dimension:
    """The new order of a dimension: runs of copies, and what stands between them."""
    source: list[Tensor] = []
    share: list[Tensor] = []
    pieces: list[tuple[str, ChannelMap, int] | int] = []

    def between(start: int, stop: int) -> None:
        if stop > start:
            source.append(torch.arange(start, stop))
            share.append(torch.ones(stop - start, dtype=torch.float64))
            pieces.append(stop - start)

    at = 0
    runs = [(start, slot.span) for slot in slots for start in slot.span.starts]
    for start, span in sorted(runs, key=lambda run: run[0]):
        channels = maps[span.group]
        between(at, start)
        source.append(start + channels.indices(span.block))
        share.append(channels.share.repeat_interleave(span.block))
        pieces.append((span.group, channels, span.block))
        at = start + net.groups[span.group].channels * span.block
    between(at, size)
    return _Dimension(slots[0].role, torch.cat(source), torch.cat(share), tuple(pieces))


def _edited(old: Tensor, dimensions: Mapping[int, _Dimension], moves: Sequence[Move]) -> Tensor:
    """The new tensor: gathered, moved, shared."""
    new = _gathered(old, dimensions)
    for move in moves:
        for dim, dimension in dimensions.items():
            if dimension.role is move.role and move.group in dimension.groups:
                direction = _gathered(move.direction.to(old), dimensions)
                new += direction * _along(move.size * dimension.steps(move.group, move.end), dim, new)
    for dim, dimension in dimensions.items():
        if dimension.role is Role.CONSUMER:
            new *= _along(dimension.share, dim, new)
    return new


def _gathered(tensor: Tensor, dimensions: Mapping[int, _Dimension]) -> Tensor:
    """The copies of all dimensions, in memory of their own."""
    for dim, dimension in dimensions.items():
        tensor = tensor.index_select(dim, dimension.source.to(tensor.device))
    return tensor.contiguous()


def _along(values: Tensor, dim: int, like: Tensor) -> Tensor:
    """Values for each index of a dimension, shaped to multiply `like`."""
    shape = [1] * like.dim()
    shape[dim] = -1
    return values.to(like).reshape(shape)


def _replaced(net: Network, made: Mapping[str, Tensor], widths: Mapping[str, int]) -> Network:
    """The network around a copy of its module with these tensors in place of the old ones, wherever they are held."""
    memo: dict[int, Tensor] = {}
    for name, tensor in made.items():
        old = tensor_of(net.module, name)
        parameter = isinstance(old, nn.Parameter)
        memo[id(old)] = nn.Parameter(tensor, requires_grad=old.requires_grad) if parameter else tensor
    new = {id(tensor) for tensor in memo.values()}
    filters = {slot.tensor for slot in net.slots if slot.role is Role.FOLLOWER and slot.span.dim == 0}
    depthwise = {id(memo[id(tensor_of(net.module, name))]) for name in made if name in filters}
    # What deepcopy finds in its memo it takes for copied already: every holder of an old tensor gets the new one.
    module = copied(net.module, memo)
    for layer in module.modules():
        held = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(id(tensor) in new for tensor in held):
            set_sizes(layer, id(getattr(layer, "weight", None)) in depthwise)
    return net.rewidened(module, widths)
