"""VGG-like networks: plain convolutions with max pooling between them, as long and wide as wanted.

Source of the default layout: Simonyan and Zisserman 2014, arXiv 1409.1556, table 1 (A), with batch norm and with
global average pooling in place of the two hidden linear layers, as is usual for 32x32 images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from energysplit.errors import InputError
from energysplit.models.layers import conv_block, head, initialise, odd
from energysplit.models.registry import Count, register

VGG11: tuple[int | Literal["M"], ...] = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class VGG(nn.Sequential):
    """Convolutions, some followed by 2x2 max pooling, then global average pooling and a classifier.

    Module names: "blocks.0.conv", "blocks.0.pool", ..., "classifier".
    """

    def __init__(
        self,
        layout: Sequence[tuple[int, bool]],
        *,
        kernel: int,
        batch_norm: bool,
        act: str,
        in_channels: int,
        classes: int,
        dropout: float,
    ) -> None:
        blocks: list[nn.Module] = []
        before = in_channels
        for width, pool in layout:
            blocks.append(conv_block(before, width, kernel=kernel, batch_norm=batch_norm, act=act, pool=pool))
            before = width
        super().__init__(OrderedDict(blocks=nn.Sequential(*blocks), **head(before, classes, dropout)))
        initialise(self)


@register("vgg", image=(3, 32, 32))
def vgg(
    *,
    widths: list[Count | Literal["M"]] | None = None,
    kernel: Count = 3,
    batch_norm: bool = True,
    activation: str = "relu",
    classes: Count = 10,
    in_channels: Count = 3,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> VGG:
    """A VGG-like network.

    Args:
        widths: channels of each convolution, "M" for a max pooling; VGG-11 if not given.
        kernel: odd kernel size.
        batch_norm: after each convolution; without it they have biases.
        activation: "relu", "relu6", "silu" or "gelu".
        classes: outputs.
        in_channels: channels of the images.
        dropout: probability before the classifier.

    Raises:
        InputError: no convolution, a pooling that follows none, or an even kernel.
    """
    layout: list[tuple[int, bool]] = []
    for item in VGG11 if widths is None else widths:
        if item != "M":
            layout.append((item, False))
        elif not layout or layout[-1][1]:
            raise InputError(f"model 'vgg': widths = {widths}: each \"M\" must follow a convolution's width")
        else:
            layout[-1] = (layout[-1][0], True)
    if not layout:
        raise InputError("model 'vgg': widths = []: at least one convolution's width is expected")
    return VGG(
        layout,
        kernel=odd(kernel, "vgg"),
        batch_norm=batch_norm,
        act=activation,
        in_channels=in_channels,
        classes=classes,
        dropout=dropout,
    )
