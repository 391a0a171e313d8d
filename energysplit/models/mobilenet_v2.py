"""MobileNetV2 with free per-layer widths: torchvision's network, the paper's, and the layout for CIFAR's images.

A block widens its input by a pointwise convolution, filters it depthwise, and projects it without an activation; all
blocks of a stage but the first add their input to the result. Free are the widths of the first convolution, of each
block's hidden channels, of each trunk, and of the last convolution. With `shortcut = "identity"` (torchvision's) the
blocks of a stage share one trunk; with "projection" (the paper's published program) the addition goes through a 1x1
convolution, so that every block has a trunk width of its own.
Sources: Sandler et al. 2018, arXiv 1801.04381, table 2; Wang et al. 2019, arXiv 1910.03103, and its published program.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, TypedDict

from pydantic import Field
from torch import Tensor, nn

from energysplit.errors import InputError
from energysplit.models.layers import conv_block, head, initialise
from energysplit.models.registry import Count, register

Shortcut = Literal["identity", "projection"]


class Stage(NamedTuple):
    """Blocks of one resolution: hidden channels for each input channel, trunk width, blocks, stride of the first."""

    expansion: int
    width: int
    blocks: int
    stride: int


STAGES = tuple(
    Stage(*row)
    for row in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
)
STEM, LAST = 32, 1280
# As is usual for 32x32 images: the first convolution and the first two stages keep the resolution.
CIFAR_STAGES = (STAGES[0], STAGES[1]._replace(stride=1), *STAGES[2:])
BLOCKS = sum(stage.blocks for stage in STAGES)


class Bottleneck(nn.Module):
    """Widen, filter, project; plus the input, as it is or through a 1x1 convolution, where there is a shortcut.

    Module names: "expand.conv" (absent where `hidden` is None), "depthwise.conv", "project.conv", each with its "norm";
    "shortcut" for a projected one.
    """

    def __init__(
        self, channels_in: int, hidden: int | None, channels_out: int, stride: int, act: str, shortcut: Shortcut | None
    ) -> None:
        super().__init__()
        wide = hidden or channels_in
        self.expand = conv_block(channels_in, wide, kernel=1, act=act) if hidden else None
        self.depthwise = conv_block(wide, wide, stride=stride, groups=wide, act=act)
        self.project = conv_block(wide, channels_out, kernel=1, act=None)
        self.adds = shortcut is not None
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False) if shortcut == "projection" else None

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        if not self.adds:
            return y
        return (x if self.shortcut is None else self.shortcut(x)) + y


class MobileNetV2(nn.Sequential):
    """A first convolution, inverted residual blocks, a last convolution, global average pooling and a classifier.

    Module names: "stem.conv", "blocks.1.expand.conv", "blocks.1.depthwise.conv", "blocks.1.project.conv", ...,
    "last.conv", "classifier". Blocks are counted through all stages; block 0 has no "expand".

    Args:
        stages: strides and numbers of blocks; the first stage has one block.
        stem: channels of the first convolution, which are also block 0's hidden ones.
        hidden: of every block but block 0.
        trunk: output channels of every block; those of one stage are equal where the shortcut is the identity.
        last: channels of the last convolution.
        stem_stride: stride of the first convolution.
        shortcut: what is added in all blocks of a stage but the first.
        in_channels: channels of the images.
        classes: outputs.
        act: name of the activation.
        dropout: probability before the classifier; 0 leaves the layer out.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        stem: int,
        hidden: Sequence[int],
        trunk: Sequence[int],
        last: int,
        stem_stride: int,
        shortcut: Shortcut,
        in_channels: int,
        classes: int,
        act: str,
        dropout: float,
    ) -> None:
        blocks: list[nn.Module] = []
        for stage in stages:
            for place in range(stage.blocks):
                number = len(blocks)
                blocks.append(
                    Bottleneck(
                        trunk[number - 1] if number else stem,
                        hidden[number - 1] if number else None,
                        trunk[number],
                        1 if place else stage.stride,
                        act,
                        shortcut if place else None,
                    )
                )
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            stem=conv_block(in_channels, stem, stride=stem_stride, act=act),
            blocks=nn.Sequential(*blocks),
            last=conv_block(trunk[-1], last, kernel=1, act=act),
        )
        super().__init__(OrderedDict(**parts, **head(last, classes, dropout)))
        initialise(self)


@register("mobilenet_v2", image=(3, 224, 224))
def mobilenet_v2(
    *,
    classes: Count = 1000,
    in_channels: Count = 3,
    width_multiplier: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    stem: Count | None = None,
    hidden: list[Count] | None = None,
    trunk: list[Count] | None = None,
    last: Count | None = None,
    shortcut: Shortcut = "identity",
    activation: str = "relu6",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
) -> MobileNetV2:
    """MobileNetV2 for 224x224 images, 32 times reduced: the function of torchvision's `mobilenet_v2`.

    Args:
        classes: outputs.
        in_channels: channels of the images.
        width_multiplier: of the published widths, rounded to multiples of 8 as torchvision does; 1 if not given. Below
            0.3 torchvision adds shortcuts where a stage happens to begin with equal widths; here it does not.
        stem: channels of the first convolution, in place of a multiplier, as the next three.
        hidden: 16 numbers, of every block but block 0; six times each block's input if not given.
        trunk: 7 numbers, one a stage; 17, one a block, where `shortcut` is "projection".
        last: channels of the last convolution.
        shortcut: "identity", or "projection" as in the paper's program: a 1x1 convolution.
        activation: "relu", "relu6", "silu" (the paper's Swish) or "gelu".
        dropout: probability before the classifier.

    Raises:
        InputError: other numbers of widths, or widths and a multiplier together.
    """
    widths = _widths("mobilenet_v2", width_multiplier, stem, hidden, trunk, last, shortcut)
    return MobileNetV2(
        STAGES,
        **widths,
        stem_stride=2,
        shortcut=shortcut,
        in_channels=in_channels,
        classes=classes,
        act=activation,
        dropout=dropout,
    )


@register("mobilenet_v2_cifar", image=(3, 32, 32))
def mobilenet_v2_cifar(
    *,
    classes: Count = 10,
    in_channels: Count = 3,
    width_multiplier: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    stem: Count | None = None,
    hidden: list[Count] | None = None,
    trunk: list[Count] | None = None,
    last: Count | None = None,
    shortcut: Shortcut = "identity",
    activation: str = "silu",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> MobileNetV2:
    """MobileNetV2 for 32x32 images, 8 times reduced: the first convolution and the first two stages have stride 1.

    Args:
        classes: outputs.
        in_channels: channels of the images.
        width_multiplier: of the published widths, rounded to multiples of 8; 1 if not given.
        stem: channels of the first convolution, in place of a multiplier, as the next three.
        hidden: 16 numbers, of every block but block 0; six times each block's input if not given.
        trunk: 7 numbers, one a stage; 17, one a block, where `shortcut` is "projection".
        last: channels of the last convolution.
        shortcut: "identity", or "projection" as in the paper's program: a 1x1 convolution.
        activation: "relu", "relu6", "silu" (the paper's Swish) or "gelu".
        dropout: probability before the classifier.

    Raises:
        InputError: other numbers of widths, or widths and a multiplier together.
    """
    widths = _widths("mobilenet_v2_cifar", width_multiplier, stem, hidden, trunk, last, shortcut)
    return MobileNetV2(
        CIFAR_STAGES,
        **widths,
        stem_stride=1,
        shortcut=shortcut,
        in_channels=in_channels,
        classes=classes,
        act=activation,
        dropout=dropout,
    )


class _Widths(TypedDict):
    """What `MobileNetV2` takes of widths."""

    stem: int
    hidden: list[int]
    trunk: list[int]
    last: int


def _widths(
    model: str,
    multiplier: float | None,
    stem: int | None,
    hidden: list[int] | None,
    trunk: list[int] | None,
    last: int | None,
    shortcut: Shortcut,
) -> _Widths:
    """The widths given, and the published ones times the multiplier for the others."""
    given = {"stem": stem, "hidden": hidden, "trunk": trunk, "last": last}
    if multiplier is not None and (named := [key for key, value in given.items() if value is not None]):
        raise InputError(f"model {model!r}: give {' and '.join(named)} or width_multiplier, not both")
    multiplier = 1.0 if multiplier is None else multiplier
    stem = stem or _divisible(STEM * multiplier)
    last = last or _divisible(LAST * max(1.0, multiplier))
    if trunk is None:
        trunk = [_divisible(stage.width * multiplier) for stage in STAGES for _ in range(stage.blocks)]
    elif shortcut == "identity":
        _check_count(model, "trunk", trunk, len(STAGES), "each stage; its blocks share a trunk")
        trunk = [width for width, stage in zip(trunk, STAGES, strict=True) for _ in range(stage.blocks)]
    _check_count(model, "trunk", trunk, BLOCKS, "each block")
    if hidden is None:
        expansions = [stage.expansion for stage in STAGES for _ in range(stage.blocks)]
        hidden = [expansion * width for expansion, width in zip(expansions[1:], trunk, strict=False)]
    _check_count(model, "hidden", hidden, BLOCKS - 1, "each block but block 0")
    return {"stem": stem, "hidden": hidden, "trunk": trunk, "last": last}


def _divisible(width: float) -> int:
    """The nearest multiple of 8, at least 8, and no more than 10 % below the width."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def _check_count(model: str, key: str, widths: Sequence[int], expected: int, where: str) -> None:
    if len(widths) != expected:
        raise InputError(f"model {model!r}: {len(widths)} widths in {key} given, {expected} expected, one for {where}")
