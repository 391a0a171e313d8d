"""A batch norm whose statistics follow the batch, as in training: it bends, because it divides by a size.

With m, s the mean and size of a channel's input over the batch, s = sqrt(var + eps), z = (value - m)/s, c = t - mean t,
a = mean(z c) and p = mean(c^2), moving the input by e t moves the result by e (c - a z)/s + e^2/2 (z (3 a^2 - p) -
2 a c)/s^2 + O(e^3), all times the channel's weight.

The first-order map is its own transpose, and is what batch norm's backward pass does to a gradient, so torch's own
kernel does it. The gradient of what a bend counts needs two more sums a channel, and no sum of what counts itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from energysplit.splitting.layout import Moves
from energysplit.splitting.pieces import Piece, Pulls, Tangents
from energysplit.splitting.precision import at_least_float32
from energysplit.splitting.statistics import too_few

_kernel = torch.ops.aten.native_batch_norm_backward


@dataclass(frozen=True)
class Batch:
    """A batch norm's input on a batch, and of each channel its mean, 1 / size and weight."""

    value: Tensor
    mean: Tensor
    invstd: Tensor
    weight: Tensor

    @property
    def elements(self) -> int:
        """Elements of a channel."""
        return self.value.numel() // len(self.mean)

    def wide(self, channels: Tensor) -> Tensor:
        """Numbers of channels, to multiply an input with."""
        return channels.view(-1, *(1,) * (self.value.dim() - 2))

    def carried(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tangent of the result, and of each channel the sums of z t and of t."""
        # The size comes with `invstd`, so that eps has no part any more.
        made: tuple[Tensor, Tensor, Tensor] = _kernel(
            t, self.value, self.weight, None, None, self.mean, self.invstd, True, 0.0, output_mask=(True, True, True)
        )
        return made

    def sums(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of each channel the sums of z t and of t."""
        return _sums(t, self.value, self.mean, self.invstd)


def _sums(a: Tensor, b: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel the sums of a (b - mean) scale and of a."""
    made = _kernel(a, b, None, None, None, mean, scale, True, 0.0, output_mask=(False, True, True))
    return made[1], made[2]


class Followed:
    """A batch norm that runs with its batch's statistics, which are kept, so that it can be run again.

    Args:
        norm: the module; its running statistics are neither read nor changed.
        value: its input.

    Raises:
        InputError: a channel has one value only.
    """

    def __init__(self, norm: _BatchNorm, value: Tensor) -> None:
        if value.numel() == value.shape[1]:
            raise too_few()
        mean, variance = _moments(value.detach())
        weight = torch.ones_like(mean) if norm.weight is None else norm.weight.detach()
        self.bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach()
        self.met = Batch(value.detach(), mean, (variance + norm.eps).rsqrt(), weight)

    def run(self, value: Tensor) -> Tensor:
        """The result, through which gradients flow."""
        result: Tensor = _Run.apply(value, self)  # type: ignore[no-untyped-call]
        return result

    def again(self) -> Tensor:
        """The result, the same bits."""
        met = self.met
        scale = met.weight * met.invstd
        zero = torch.zeros_like(scale)
        return F.batch_norm(met.value, zero, zero + 1, scale, self.bias - met.mean * scale, training=False, eps=0.0)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, norm: Followed) -> Tensor:
        ctx.save_for_backward(value)  # which autograd frees as it goes
        ctx.channels = (norm.met.mean, norm.met.invstd, norm.met.weight)
        return norm.again()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return Batch(*ctx.saved_tensors, *ctx.channels).carried(gradients[0])[0], None


def normalising(node: fx.Node, met: Batch, gradient: Tensor) -> Piece:
    """The piece of a batch norm that follows its batch.

    Args:
        node: its input.
        met: what it met.
        gradient: of the loss to its result.
    """
    gz = met.sums(gradient)[0]

    def each(t: Tangents, _: Moves) -> Tensor:
        axes = (0, *range(2, met.value.dim()))
        z = (met.value - met.wide(met.mean)) * met.wide(met.invstd)
        c = (t[node] - t[node].mean(axes, keepdim=True)) * met.wide(met.invstd)
        a = (z * c).mean(axes, keepdim=True)
        bent = z * (3 * a.square() - c.square().mean(axes, keepdim=True)) - 2 * a * c
        return gradient * met.wide(met.weight) * bent

    def both(t: Tangents, _: Moves, __: bool) -> tuple[Tensor, Pulls]:
        followed, nothing = _Bend.apply(t[node], met, gradient, gz)  # type: ignore[no-untyped-call]
        return followed, [(nothing, nothing)]

    return Piece(
        carry=lambda t, _: met.carried(t[node])[0],
        each=each,
        both=both,
        held=(met.value, gradient),
    )


def _moments(value: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, the latter divided by the number of elements."""
    dtype = at_least_float32(value.dtype)
    if value.device.type == "cpu" and value.is_contiguous():
        # Three passes, which together take a third of the time of torch's own for this layout.
        mean = value.mean((0, *range(2, value.dim())), dtype=dtype)
        moved = value - mean.view(-1, *(1,) * (value.dim() - 2))
        squares, _ = _sums(moved, moved, torch.zeros_like(mean), torch.ones_like(mean))
        return mean, squares / (value.numel() // len(mean))
    nothing = value.new_zeros(value.shape[1], dtype=dtype)  # which the results are made like
    mean, variance = torch.ops.aten.batch_norm_update_stats(value, nothing, nothing, 0.0)
    return mean, variance


class _Bend(torch.autograd.Function):
    """The tangent of the result; what counts joins its gradient on the way back, so that no sum of it is needed.

    The second result is 0 and only stands for what counts, so that the way back comes here in any case.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, met: Batch, gradient: Tensor, gz: Tensor) -> tuple[Tensor, Tensor]:
        followed, zt, _ = met.carried(t)
        ctx.save_for_backward(followed, gradient)  # not t, which may be let go: a tangent behind a bend needs the room
        ctx.met, ctx.sums = met, (zt / met.elements, gz)
        ctx.set_materialize_grads(False)
        return followed, t.new_zeros(())

    @staticmethod
    def backward(ctx: Any, back: Tensor | None, _: Tensor) -> tuple[Tensor, None, None, None]:
        (followed, gradient), met = ctx.saved_tensors, ctx.met
        a, gz = ctx.sums
        n = met.elements
        zero = torch.zeros_like(a)
        gf, g = _sums(gradient, followed, zero, zero + 1)
        size, scale = met.weight * met.invstd.square(), met.weight * met.invstd
        # Half the gradient is a sum of z, c, the loss's gradient less its mean, and the transpose of the tangent's map;
        # c is what followed and z say of it, c = followed / scale + a z, and its factor has that scale in it.
        of_followed, of_gradient = -met.invstd * gz / n, -size * a
        of_z = (size * a * gz - met.invstd * gf) / n
        rest = -of_gradient * g / n
        if back is not None:
            zb, b = met.sums(back)
            of_z = of_z - scale * zb / n
            rest = rest - scale * b / n
        of_value = of_z * met.invstd
        rest = rest - of_value * met.mean
        made = F.batch_norm(met.value, zero, zero + 1, of_value, rest, training=False, eps=0.0)
        made.addcmul_(followed, met.wide(of_followed)).addcmul_(gradient, met.wide(of_gradient))
        if back is not None:
            made.addcmul_(back, met.wide(scale))
        return made, None, None, None
