"""Building blocks of the built-in models: a convolution with what follows it, the head, and the initial weights.

All are `nn.Sequential`s with named parts, so that module names say what they are ("blocks.3.conv") and torch.fx sees
a chain without any arithmetic on sizes.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from energysplit.errors import InputError
from energysplit.models.activations import activation


def conv_block(
    channels_in: int,
    channels_out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    batch_norm: bool = True,
    act: str | None = "relu",
    pool: bool = False,
) -> nn.Sequential:
    """A "same"-padded convolution, batch norm (or a bias), activation if any, and optionally 2x2 max pooling."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=not batch_norm
        )
    )
    if batch_norm:
        parts["norm"] = nn.BatchNorm2d(channels_out)
    if act is not None:
        parts["act"] = activation(act)
    if pool:
        parts["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(parts)


def head(channels: int, classes: int, dropout: float = 0.0) -> OrderedDict[str, nn.Module]:
    """Global average pooling, dropout if any, and the classifier."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    if dropout > 0:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(channels, classes)
    return parts


def initialise(module: nn.Module) -> None:
    """Kaiming-normal weights for all convolutions and hidden linear layers, zero biases.

    fan_in, because it is right for depthwise convolutions too: each output reads one channel. The classifier (a
    linear layer named so) keeps torch's smaller weights: the first loss is near log(classes), and with 8 channels it
    learns faster than from nearly zero ones.
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if name != "classifier":
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def odd(kernel: int, model: str) -> int:
    """The kernel size, refused when even: "same" padding is symmetric only for odd kernels.

    Raises:
        InputError: the kernel size is even.
    """
    if kernel % 2 == 0:
        raise InputError(f"model {model!r}: kernel {kernel} is even; an odd size (1, 3, 5, ...) is expected")
    return kernel
