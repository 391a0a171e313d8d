"""Small networks the tests share, in float64 with batch-norm state and affine parameters randomised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import energysplit as es

Batch = tuple[Tensor, Tensor]


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random batch-norm statistics and affine parameters and random biases; in eval mode, float64."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=torch.float64) * (high - low) + low

    module.double().eval()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.copy_(uniform(layer.running_mean, -0.3, 0.3))
                layer.running_var.copy_(uniform(layer.running_var, 0.5, 1.5))
                if layer.weight is not None:
                    layer.weight.copy_(uniform(layer.weight, 0.6, 1.6))
                    layer.bias.copy_(uniform(layer.bias, -0.4, 0.4))
            elif getattr(layer, "bias", None) is not None:
                layer.bias.copy_(uniform(layer.bias, -0.2, 0.2))
    return module


def conv_bn_act(
    c_in: int, c_out: int, kernel: int = 3, stride: int = 1, act: type[nn.Module] = nn.SiLU, bias: bool = False
) -> list[nn.Module]:
    """A convolution with batch norm and activation."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=bias)
    return [conv, nn.BatchNorm2d(c_out), act()]


def separable(
    c_in: int, c_out: int, stride: int = 1, kernel: int = 3, act: type[nn.Module] = nn.SiLU
) -> list[nn.Module]:
    """A depthwise convolution and a pointwise one, each with batch norm and activation."""
    depthwise = nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False)
    return [depthwise, nn.BatchNorm2d(c_in), act(), *conv_bn_act(c_in, c_out, 1, act=act)]


def head(channels: int, classes: int = 5) -> list[nn.Module]:
    """Global average pooling and a classifier."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def mobilenet(act: type[nn.Module] = nn.SiLU) -> nn.Module:
    """A small MobileNetV1: strides 1 and 2, kernels 3 and 5."""
    layers = [*conv_bn_act(3, 4, act=act), *separable(4, 5, 2, act=act), *separable(5, 6, 1, 5, act=act)]
    return nn.Sequential(*layers, *head(6))


def vgg(act: type[nn.Module] = nn.SiLU) -> nn.Module:
    """A VGG with max pooling, a flatten over positions and a batch norm behind it; with and without bias."""
    return nn.Sequential(
        *conv_bn_act(3, 4, act=act, bias=True),
        nn.MaxPool2d(2),
        *conv_bn_act(4, 5, 5, act=act),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.BatchNorm1d(5 * 4),
        nn.Linear(5 * 4, 6),
        act(),
        nn.Dropout(0.5),
        nn.Linear(6, 5),
    )


def cnn(act: type[nn.Module] = nn.SiLU) -> nn.Module:
    """A plain CNN without batch norm: kernels 1, 3, 5, strides 1 and 2, bias; average pooling between."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, 2, 2),
        act(),
        nn.Conv2d(4, 5, 1, bias=False),
        act(),
        nn.AvgPool2d(2),
        nn.Conv2d(5, 4, 3, 1, 1),
        act(),
        *head(4),
    )


def mlp(act: type[nn.Module] = nn.GELU) -> nn.Module:
    """A multilayer perceptron with GELU; one layer without bias."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 8 * 8, 7),
        act(),
        nn.Linear(7, 6, bias=False),
        nn.BatchNorm1d(6),
        act(),
        nn.Linear(6, 5),
    )


FAMILIES = {"mobilenet": mobilenet, "vgg": vgg, "cnn": cnn, "mlp": mlp}


def images(count: int = 12, seed: int = 1, size: int = 8, classes: int = 5) -> Batch:
    """One random batch in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (count,), generator=generator)


def network(family: str, act: type[nn.Module] | None = None, seed: int = 0) -> es.Network:
    """A traced, randomised network of a family."""
    torch.manual_seed(seed)
    build = FAMILIES[family]
    module = randomise(build() if act is None else build(act), seed)
    return es.trace(module, images()[0])


def batches_of(batch: Batch, size: int) -> list[Batch]:
    """The batch cut into batches of at most `size` images."""
    return list(zip(batch[0].split(size), batch[1].split(size), strict=True))
