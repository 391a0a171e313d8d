"""ResNet for 32x32 images with free widths: a 3x3 first convolution, no pooling after it, then basic blocks.

With its defaults it is torchvision's `resnet18` with the first convolution replaced by a 3x3 one of stride 1 and the
max pooling left out, as is usual for CIFAR. Free are the width of each stage's trunk (the first stage's is also the
first convolution's) and of each block's hidden channels.
Source: He et al. 2015, arXiv 1512.03385.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from energysplit.errors import InputError
from energysplit.models.activations import activation as make_activation
from energysplit.models.layers import conv_block, head, initialise
from energysplit.models.registry import Count, register


class BasicBlock(nn.Module):
    """Two 3x3 convolutions plus the input, which a 1x1 convolution fits where a stage begins.

    Module names: "first.conv", "second.conv", and "shortcut.conv", each with its "norm".
    """

    def __init__(
        self, channels_in: int, hidden: int, channels_out: int, stride: int, act: str, projection: bool
    ) -> None:
        super().__init__()
        self.first = conv_block(channels_in, hidden, stride=stride, act=act)
        self.second = conv_block(hidden, channels_out, act=None)
        self.shortcut = conv_block(channels_in, channels_out, kernel=1, stride=stride, act=None) if projection else None
        self.act = make_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return self.act(self.second(self.first(x)) + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Sequential):
    """A first convolution, stages of basic blocks, global average pooling and a classifier.

    Module names: "stem.conv", "blocks.0.first.conv", ..., "classifier". Blocks are counted through all stages.

    Args:
        blocks: of each stage; each stage but the first halves the resolution.
        trunk: output channels of each stage's blocks; the first are also the first convolution's.
        hidden: hidden channels of each block.
        in_channels: channels of the images.
        classes: outputs.
        act: name of the activation.
        dropout: probability before the classifier; 0 leaves the layer out.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        trunk: Sequence[int],
        hidden: Sequence[int],
        in_channels: int,
        classes: int,
        act: str,
        dropout: float,
    ) -> None:
        made: list[nn.Module] = []
        before = trunk[0]
        for stage, (count, width) in enumerate(zip(blocks, trunk, strict=True)):
            for place in range(count):
                begins = stage > 0 and place == 0
                stride = 2 if begins else 1
                made.append(BasicBlock(before, hidden[len(made)], width, stride, act, projection=begins))
                before = width
        stem = conv_block(in_channels, trunk[0], act=act)
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem, blocks=nn.Sequential(*made))
        super().__init__(OrderedDict(**parts, **head(trunk[-1], classes, dropout)))
        initialise(self)


@register("resnet_cifar", image=(3, 32, 32))
def resnet_cifar(
    *,
    blocks: Annotated[Sequence[Count], Field(min_length=1)] = (2, 2, 2, 2),
    channels: Count = 64,
    trunk: list[Count] | None = None,
    hidden: list[Count] | None = None,
    classes: Count = 10,
    in_channels: Count = 3,
    activation: str = "relu",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> ResNet:
    """ResNet for 32x32 images; ResNet-18 if nothing is given.

    Args:
        blocks: of each stage; each stage but the first halves the resolution.
        channels: of the first stage; each other stage has twice those of the one before.
        trunk: one number a stage, in its place.
        hidden: one number a block; its stage's trunk if not given.
        classes: outputs.
        in_channels: channels of the images.
        activation: "relu", "relu6", "silu" or "gelu".
        dropout: probability before the classifier.

    Raises:
        InputError: another number of widths than stages or blocks.
    """
    if trunk is None:
        trunk = [channels * 2**stage for stage in range(len(blocks))]
    if len(trunk) != len(blocks):
        raise InputError(
            f"model 'resnet_cifar': {len(trunk)} widths in trunk given, {len(blocks)} expected, one for each stage"
        )
    if hidden is None:
        hidden = [width for width, count in zip(trunk, blocks, strict=True) for _ in range(count)]
    if len(hidden) != sum(blocks):
        raise InputError(
            f"model 'resnet_cifar': {len(hidden)} widths in hidden given, {sum(blocks)} expected, one for each block"
        )
    return ResNet(
        blocks,
        trunk=trunk,
        hidden=hidden,
        in_channels=in_channels,
        classes=classes,
        act=activation,
        dropout=dropout,
    )
