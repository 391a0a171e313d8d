"""The four reference networks of MLPerf Tiny v1.x as lists of layer cases, written from their public architectures.

`Network.operations` would give the same from a live model; these are written out so that no framework is needed.
"""

from __future__ import annotations

from itertools import pairwise

from energysplit.types import LayerCase

Size = tuple[int, int]


def autoencoder() -> list[LayerCase]:
    """AD: the fully connected autoencoder of anomaly detection, 640 inputs, 8 in the middle."""
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers = [LayerCase("linear", a, b, bias=True, batch_norm=True, activation="relu") for a, b in pairwise(sizes)]
    return [*layers, LayerCase("linear", 128, 640, bias=True)]


def ds_cnn() -> list[LayerCase]:
    """KWS: the depthwise separable network of keyword spotting, 49x10 features, 12 words."""
    size = (25, 5)
    layers = [_conv(1, 64, (10, 4), 2, (49, 10), size)]
    for _ in range(4):
        layers += _separable(64, 64, 1, size, size)
    pool = LayerCase("average_pool", 64, 64, size, size, groups=64, in_size=size)
    return [*layers, pool, LayerCase("linear", 64, 12, bias=True)]


def resnet8() -> list[LayerCase]:
    """IC: the residual network of image classification, 32x32 images, 10 classes."""
    layers = [_conv(3, 16, (3, 3), 1, (32, 32), (32, 32))]
    channels, side = 16, 32
    for width in (16, 32, 64):
        stride = 1 if width == channels else 2
        before, after = (side, side), (side // stride, side // stride)
        layers.append(_conv(channels, width, (3, 3), stride, before, after))
        layers.append(_conv(width, width, (3, 3), 1, after, after, activation=None))
        if stride == 2:
            layers.append(
                LayerCase("conv2d", channels, width, (1, 1), (2, 2), in_size=before, out_size=after, bias=True)
            )
        layers.append(LayerCase("add", width, width, groups=width, in_size=after, out_size=after))
        layers.append(
            LayerCase("activation", width, width, groups=width, in_size=after, out_size=after, activation="relu")
        )
        channels, side = width, after[0]
    pool = LayerCase("average_pool", 64, 64, (8, 8), (8, 8), groups=64, in_size=(8, 8))
    return [*layers, pool, LayerCase("linear", 64, 10, bias=True)]


def mobilenet() -> list[LayerCase]:
    """VWW: MobileNetV1 0.25x of visual wake words, 96x96 images, 2 classes."""
    layers = [_conv(3, 8, (3, 3), 2, (96, 96), (48, 48))]
    channels, side = 8, 48
    for width, stride in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]:
        layers += _separable(channels, width, stride, (side, side), (side // stride, side // stride))
        channels, side = width, side // stride
    pool = LayerCase("average_pool", 256, 256, (3, 3), (3, 3), groups=256, in_size=(3, 3))
    return [*layers, pool, LayerCase("linear", 256, 2, bias=True)]


KINDS = ("convolution", "depthwise", "linear")


def kind(case: LayerCase) -> str | None:
    """The class of a layer that has weights; None for one that has none."""
    if case.op == "linear":
        return "linear"
    if case.op == "conv2d":
        return "depthwise" if case.depthwise else "convolution"
    return None


def _conv(
    inputs: int, outputs: int, kernel: Size, stride: int, before: Size, after: Size, activation: str | None = "relu"
) -> LayerCase:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return LayerCase(
        "conv2d", inputs, outputs, kernel, (stride, stride), padding, in_size=before, out_size=after, bias=True,
        batch_norm=True, activation=activation,
    )  # fmt: skip


def _separable(inputs: int, outputs: int, stride: int, before: Size, after: Size) -> list[LayerCase]:
    depthwise = LayerCase(
        "conv2d", inputs, inputs, (3, 3), (stride, stride), (1, 1), groups=inputs, in_size=before, out_size=after,
        bias=True, batch_norm=True, activation="relu",
    )  # fmt: skip
    return [depthwise, _conv(inputs, outputs, (1, 1), 1, after, after)]


NETWORKS = {"AD": autoencoder(), "KWS": ds_cnn(), "VWW": mobilenet(), "IC": resnet8()}
