"""A plain CNN: strided convolutions and activations, nothing else on the way; for small images and quick runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import nn

from energysplit.errors import InputError
from energysplit.models.layers import conv_block, head, initialise, odd
from energysplit.models.registry import Count, register


class CNN(nn.Sequential):
    """Convolutions, global average pooling and a classifier. Module names: "blocks.0.conv", ..., "classifier"."""

    def __init__(self, blocks: list[nn.Sequential], channels: int, classes: int, dropout: float) -> None:
        super().__init__(OrderedDict(blocks=nn.Sequential(*blocks), **head(channels, classes, dropout)))
        initialise(self)


@register("cnn", image=(3, 32, 32))
def cnn(
    *,
    widths: Annotated[Sequence[Count], Field(min_length=1)] = (16, 32, 32),
    strides: Sequence[Count] | None = None,
    kernels: Count | Sequence[Count] = 3,
    batch_norm: bool = True,
    activation: str = "relu",
    classes: Count = 10,
    in_channels: Count = 3,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> CNN:
    """A plain CNN.

    Args:
        widths: channels of each convolution.
        strides: of each convolution; if not given, 1 for the first and 2 for all others.
        kernels: odd kernel size, one for all or one for each convolution.
        batch_norm: after each convolution; without it they have biases.
        activation: "relu", "relu6", "silu" or "gelu".
        classes: outputs.
        in_channels: channels of the images.
        dropout: probability before the classifier.

    Raises:
        InputError: strides or kernels of another number than widths, or an even kernel.
    """
    if strides is None:
        strides = [1] + [2] * (len(widths) - 1)
    if isinstance(kernels, int):
        kernels = [kernels] * len(widths)
    for key, values in (("strides", strides), ("kernels", kernels)):
        if len(values) != len(widths):
            raise InputError(f"model 'cnn': {len(values)} {key} given, {len(widths)} expected, one for each width")
    sizes = zip([in_channels, *widths], widths, kernels, strides, strict=False)
    blocks = [
        conv_block(a, b, kernel=odd(kernel, "cnn"), stride=stride, batch_norm=batch_norm, act=activation)
        for a, b, kernel, stride in sizes
    ]
    return CNN(blocks, widths[-1], classes, dropout)
