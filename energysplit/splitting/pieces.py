"""What each operation does to tangents on one batch, with the little that it keeps of the batch for that.

A piece carries tangents through an operation, or starts one. Where the operation bends (or something stands in for a
bend) the piece also says what that counts in v^T S v, element by element.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map_only

from energysplit.graph.network import Op
from energysplit.splitting.layout import Moves

Tangents = dict[fx.Node, Any]
Pulls = list[tuple[Tensor, Tensor]]
Mixer = Callable[[Tensor, Tensor], Tensor]
"""(Input, weight) -> a layer's output without bias."""


def _nothing(t: Tangents, moves: Moves) -> Any:
    raise AssertionError("the plan asked a piece for what it does not do")


@dataclass(frozen=True)
class Piece:
    """One step of the tangent pass on one batch.

    carry: the tangent of the operation's result. each: what counts here, by element, to be summed by neuron.
    pull: half the gradient of the sum of `each` to some tensors, where it is known: pairs of tensor and gradient.
    both: the tangent and such pairs, where they are found together. held: the tensors kept of the batch.
    `pull` and `both` are also told whether the piece is spent then, so that they may write over what is held.
    """

    carry: Callable[[Tangents, Moves], Any] = _nothing
    each: Callable[[Tangents, Moves], Tensor] = _nothing
    pull: Callable[[Tangents, Moves, bool], Pulls] | None = None
    both: Callable[[Tangents, Moves, bool], tuple[Any, Pulls]] | None = None
    held: tuple[Tensor, ...] = ()

    def counted(self, t: Tangents, moves: Moves, passes: bool, spent: bool) -> tuple[Any, Pulls]:
        """The tangent of the operation's result, needed if it `passes`, and half the gradient of what counts here."""
        if self.both is not None:
            return self.both(t, moves, spent)
        if self.pull is not None:
            pulls = self.pull(t, moves, spent and not passes)
        else:
            total = self.each(t, moves).sum()
            pulls = [(total, total.new_tensor(0.5))]
        return self.carry(t, moves) if passes else None, pulls


def start(layer: str, mixer: Mixer, source: Tensor) -> Piece:
    """A layer whose rows move: its input, mixed by the move."""
    return Piece(carry=lambda _, moves: mixer(source, moves.rows[layer]), held=(source,))


def read(layer: str, mixer: Mixer, node: fx.Node, gradient: Tensor) -> Piece:
    """A consumer whose columns move; gradient: of the loss to its output.

    `each` stands at the consumer's input, where the neurons can be told apart: twice the tangent times what the move
    sends back of the gradient.
    """

    def each(t: Tangents, moves: Moves) -> Tensor:
        with torch.enable_grad():
            source = t[node].detach().requires_grad_()
            (back,) = torch.autograd.grad(mixer(source, moves.columns[layer]), source, gradient)
        return 2 * source.detach() * back

    def pull(t: Tangents, moves: Moves, _: bool) -> Pulls:
        return [(mixer(t[node], moves.columns[layer]), gradient)]

    return Piece(each=each, pull=pull, held=(gradient,))


def bend(node: fx.Node, weight: Tensor, slope: Tensor | None) -> Piece:
    """A nonlinearity. weight: G sigma''(z), gradient of the mean loss included; slope: sigma'(z), where needed."""

    def half(t: Tangents, spent: bool) -> Tensor:
        moved = t[node].detach()
        return torch.mul(weight, moved, out=weight if spent and weight.dtype == moved.dtype else None)

    def both(t: Tangents, _: Moves, spent: bool) -> tuple[Tensor, Pulls]:
        carried, nothing = _Bend.apply(t[node], half(t, spent), slope)  # type: ignore[no-untyped-call]
        return carried, [(nothing, nothing)]

    return Piece(
        carry=lambda t, _: slope * t[node],
        each=lambda t, _: weight * t[node].square(),
        pull=lambda t, _, spent: [(t[node], half(t, spent))],
        both=None if slope is None else both,
        held=(weight,) if slope is None else (weight, slope),
    )


class _Bend(torch.autograd.Function):
    """The tangent behind a bend; what counts at the bend joins its gradient on the way back, in one pass.

    The second result is 0 and only stands for what counts, so that the way back comes here in any case.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, half: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(half, slope)
        ctx.set_materialize_grads(False)
        return slope * t, t.new_zeros(())

    @staticmethod
    def backward(ctx: Any, carried: Tensor | None, _: Tensor) -> tuple[Tensor, None, None]:
        counted, slope = ctx.saved_tensors
        return counted if carried is None else counted.addcmul_(slope, carried), None, None


def unit(node: fx.Node, gradient: Tensor) -> Piece:
    """A place that counts as if sigma'' were 1; gradient: of the loss to it."""
    return Piece(
        each=lambda t, _: gradient * t[node].square(),
        pull=lambda t, _, __: [(t[node], gradient * t[node].detach())],
        held=(gradient,),
    )


def product(
    op: Op,
    moving: tuple[fx.Node | None, ...],
    values: tuple[Any, Any],
    gradient: Tensor | None,
) -> Piece:
    """A product of two factors, or a quotient by one that does not move.

    moving: node of each factor that moves, None for the other. values: of each factor whose partner moves. gradient:
    of the loss to the result, where both move, for d2(ab) = 2 da db.
    """
    (a, b), (x, y), function = moving, values, op.function
    assert function is not None

    def carry(t: Tangents, moves: Moves) -> Tensor:
        terms = [] if a is None else [function(t[a], y)]
        terms += [] if b is None else [function(x, t[b])]
        return reduce(torch.add, terms)

    def each(t: Tangents, moves: Moves) -> Tensor:
        assert a is not None
        assert b is not None
        assert gradient is not None
        return 2 * gradient * t[a] * t[b]

    return Piece(carry, each, held=tuple(value for value in (x, y, gradient) if isinstance(value, Tensor)))


def addition(op: Op, sources: tuple[fx.Node, ...], shape: torch.Size) -> Piece:
    """A sum or difference: what does not move counts as 0, and a broadcast tangent gets the result's shape."""
    node, function = op.node, op.function
    assert function is not None
    moving: list[Any] = [arg for arg in node.args if arg in sources]
    plain = len(moving) == 1 and function in (operator.add, torch.add) and not node.kwargs

    def carry(t: Tangents, moves: Moves) -> Tensor:
        first = t[moving[0]]
        if plain:
            return first.expand(shape)
        zero = first.new_zeros(())
        args: list[Any] = [t[arg] if isinstance(arg, fx.Node) and arg in sources else zero for arg in node.args]
        return function(*args, **node.kwargs).expand(shape)

    return Piece(carry)


def pool(node: fx.Node, positions: Tensor) -> Piece:
    """Max pooling: the tangent at the largest element. positions: flat indices over the pooled dimensions."""
    return Piece(lambda t, _: _Pick.apply(t[node], positions), held=(positions,))  # type: ignore[no-untyped-call]


class _Pick(torch.autograd.Function):
    """The elements at positions, and back; autograd's own keeps what they are picked from, and fills it twice."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, positions: Tensor) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.shape = t.shape
        return t.flatten(2).gather(2, positions.flatten(2)).view(positions.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (picked,), (positions,) = gradients, ctx.saved_tensors
        made = picked.new_zeros(ctx.shape)
        made.flatten(2).scatter_add_(2, positions.flatten(2), picked.flatten(2))
        return made, None


def scaling(node: fx.Node, scale: Tensor) -> Piece:
    """A batch norm: times the scale of each channel."""
    return Piece(lambda t, _: t[node] * scale.reshape(-1, *(1,) * (t[node].dim() - 2)).to(t[node].dtype))


def filtering(node: fx.Node, mixer: Mixer, weight: Tensor) -> Piece:
    """A depthwise convolution, without its bias."""
    return Piece(lambda t, _: mixer(t[node], weight))


def linear(op: Op, module: nn.Module, sources: tuple[fx.Node, ...], others: Mapping[fx.Node, Any]) -> Piece:
    """The operation itself, applied to tangents; its other tensors become zeros, which take no memory."""
    fixed = {
        node: tree_map_only(Tensor, lambda tensor: tensor.new_zeros(()).expand(tensor.shape), value)
        for node, value in others.items()
    }
    return Piece(lambda t, _: op.run(module, {**fixed, **{node: t[node] for node in sources}}))


def mixer_of(op: Op, module: nn.Module, env: Mapping[fx.Node, Any]) -> Mixer:
    """The layer that an operation runs, as a function of its input and its weight, without bias."""
    node = op.node
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            conv = layer
            return lambda x, weight: conv._conv_forward(x, weight, None)
        assert isinstance(layer, nn.Linear)
        return F.linear
    function = node.target
    assert callable(function)
    rest, named = fx.map_arg((node.args[3:], dict(node.kwargs)), lambda n: env[n])  # type: ignore[misc]
    named = {key: value for key, value in named.items() if key not in ("input", "weight", "bias")}
    return lambda x, weight: function(x, weight, None, *rest, **named)


def weight_of(op: Op, module: nn.Module) -> Tensor | None:
    """The parameter that a layer uses as its weight; None if it is computed."""
    node = op.node
    if node.op == "call_module":
        weight = module.get_submodule(str(node.target)).weight
        assert isinstance(weight, Tensor)
        return weight
    source = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    if not isinstance(source, fx.Node) or source.op != "get_attr":
        return None
    return reduce(getattr, str(source.target).split("."), module)  # type: ignore[arg-type, return-value]
