"""MobileNetV1 with free per-layer widths: the ImageNet layout, and the CIFAR variants with k blocks.

A block is a depthwise 3x3 convolution and a pointwise one. The depthwise convolution keeps the channels of its input,
so the widths that can be chosen are those of the first convolution and of each pointwise one.
Sources: Howard et al. 2017, arXiv 1704.04861, table 1; the CIFAR variants: Wang et al. 2019, arXiv 1910.03103,
section 4 (k blocks after the first convolution, resolution halved three times evenly, one more block).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

from energysplit.errors import InputError
from energysplit.models.activations import activation
from energysplit.models.layers import conv_block, head, initialise
from energysplit.models.registry import Count, register

IMAGENET_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
IMAGENET_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class MobileNetV1(nn.Sequential):
    """A first convolution, depthwise-separable blocks, global average pooling and a classifier.

    Module names: "stem.conv", "blocks.0.depthwise", "blocks.0.pointwise", ..., "classifier".

    Args:
        widths: channels of the first convolution, then of each block's pointwise convolution.
        strides: stride of each block's depthwise convolution.
        stem_stride: stride of the first convolution.
        in_channels: channels of the images.
        classes: outputs.
        act: name of the activation.
        dropout: probability before the classifier; 0 leaves the layer out.
    """

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[int],
        *,
        stem_stride: int,
        in_channels: int,
        classes: int,
        act: str,
        dropout: float = 0.0,
    ) -> None:
        blocks = [_block(a, b, stride, act) for (a, b), stride in zip(pairwise(widths), strides, strict=True)]
        stem = conv_block(in_channels, widths[0], stride=stem_stride, act=act)
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem, blocks=nn.Sequential(*blocks))
        super().__init__(OrderedDict(**parts, **head(widths[-1], classes, dropout)))
        initialise(self)


@register("mobilenet_v1", image=(3, 224, 224))
def mobilenet_v1(
    *,
    classes: Count = 1000,
    in_channels: Count = 3,
    width_multiplier: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    widths: list[Count] | None = None,
    activation: str = "relu",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> MobileNetV1:
    """MobileNetV1 for 224x224 images, 32 times reduced.

    Args:
        classes: outputs.
        in_channels: channels of the images.
        width_multiplier: of the published widths, rounded to the nearest integer, at least 8; 1 if not given.
        widths: 14 numbers in place of a multiplier: the first convolution, then each pointwise one.
        activation: "relu", "relu6", "silu" or "gelu".
        dropout: probability before the classifier.

    Raises:
        InputError: not 14 widths, or widths and a multiplier together.
    """
    if widths is None:
        multiplier = 1.0 if width_multiplier is None else width_multiplier
        widths = [max(8, round(width * multiplier)) for width in IMAGENET_WIDTHS]
    elif width_multiplier is not None:
        raise InputError("model 'mobilenet_v1': give widths or width_multiplier, not both")
    _check_count("mobilenet_v1", widths, len(IMAGENET_WIDTHS))
    return MobileNetV1(
        widths,
        IMAGENET_STRIDES,
        stem_stride=2,
        in_channels=in_channels,
        classes=classes,
        act=activation,
        dropout=dropout,
    )


@register("mobilenet_v1_cifar", image=(3, 32, 32))
def mobilenet_v1_cifar(
    *,
    blocks: Annotated[int, Field(ge=3)] = 3,
    channels: Count = 8,
    widths: list[Count] | None = None,
    classes: Count = 10,
    in_channels: Count = 3,
    activation: str = "silu",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> MobileNetV1:
    """The paper's MobileNet for 32x32 images: `blocks` = 3 is its 9-layer MobileNet, 6 the 15-layer one.

    Args:
        blocks: k, blocks after the first convolution; three of them, evenly placed, halve the resolution. One more
            block of stride 1 follows.
        channels: width of every layer.
        widths: k + 2 numbers in its place: the first convolution, then each pointwise one.
        classes: outputs.
        in_channels: channels of the images.
        activation: "relu", "relu6", "silu" (the paper's Swish) or "gelu".
        dropout: probability before the classifier.

    Another number of widths than k + 2 is an InputError.
    """
    if widths is None:
        widths = [channels] * (blocks + 2)
    _check_count("mobilenet_v1_cifar", widths, blocks + 2)
    # Block i closes a third of the blocks where 3 i / k passes an integer: i = 1, 2, 3 for k = 3; 2, 4, 6 for k = 6.
    strides = [2 if 3 * (i + 1) // blocks > 3 * i // blocks else 1 for i in range(blocks)]
    return MobileNetV1(
        widths,
        [*strides, 1],
        stem_stride=1,
        in_channels=in_channels,
        classes=classes,
        act=activation,
        dropout=dropout,
    )


def _block(channels_in: int, channels_out: int, stride: int, act: str) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False),
            depthwise_norm=nn.BatchNorm2d(channels_in),
            depthwise_act=activation(act),
            pointwise=nn.Conv2d(channels_in, channels_out, 1, bias=False),
            pointwise_norm=nn.BatchNorm2d(channels_out),
            pointwise_act=activation(act),
        )
    )


def _check_count(model: str, widths: Sequence[int], expected: int) -> None:
    if len(widths) != expected:
        raise InputError(
            f"model {model!r}: {len(widths)} widths given, {expected} expected: the first convolution and the "
            f"pointwise convolution of each of the {expected - 1} blocks"
        )
