"""The networks other people wrote that this package promises to grow, built small, random and the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import energysplit as es
from energysplit.graph.counting import counting
from energysplit.models.activations import SmoothReLU, SmoothReLU6

CLASSES = 10


@dataclass(frozen=True)
class Real:
    """One network: who builds it, with which options, and the images it is tested on and counted on.

    size: height and width of the test images, about the smallest it takes. training: the same in train mode, where
    auxiliary heads need more. usual: those of the page's MACs. sized: the option that tells the builder the image
    size, if it has one. family: networks of one family need one proof of the predicted loss change.
    """

    name: str
    family: str
    size: int = 64
    usual: int = 224
    training: int = 0
    sized: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    timm: bool = False

    @property
    def missing(self) -> bool:
        """Whether its package is not installed."""
        return self.timm and find_spec("timm") is None

    def build(self, size: int, **options: Any) -> nn.Module:
        """The stock network with new random weights, for images of this size."""
        options = {"num_classes": CLASSES, **self.options, **({self.sized: size} if self.sized else {}), **options}
        if not self.timm:
            return torchvision.models.get_model(self.name, **options)
        import timm

        return timm.create_model(self.name, **options)

    @property
    def heavy(self) -> bool:
        """Whether one pass through everything takes long: more than 40 million parameters or large images."""
        return self.name in ("wide_resnet50_2", "vgg11_bn", "vgg16", "alexnet", "vit_b_16") or self.size > 200

    def trace(self) -> es.Network:
        """The network of `module`, on the smallest images it takes in both modes."""
        return es.trace(self.module(), self.images(1 if self.training else 2, size=self.training))

    def module(self) -> nn.Module:
        """The network in float64 with everything random, the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return randomise(self.build(self.size))

    def images(self, count: int, seed: int = 0, size: int = 0) -> Tensor:
        """Random images, the same every time."""
        size = size or self.size
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)

    def slim(self) -> nn.Module:
        """As `module`, with fewer hidden units where the classifier holds most weights; convolutions as they are."""
        module: Any = self.module()
        if self.family in ("vgg", "alexnet"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                module.avgpool = nn.AdaptiveAvgPool2d(1)
                channels = [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]
                widths = iter([(channels[-1], 128), (128, 128), (128, CLASSES)])
                for n, layer in enumerate(module.classifier):
                    if isinstance(layer, nn.Linear):
                        module.classifier[n] = nn.Linear(*next(widths)).double()
        return module

    def macs(self) -> float:
        """Multiply-accumulates of one image of the usual size, for 1,000 classes; counted, nothing is computed."""
        module = self.build(self.usual, num_classes=1000).to("meta")
        return counted_macs(module, torch.empty(1, 3, self.usual, self.usual, device="meta"))


_NO_INIT = {"init_weights": False}  # theirs takes seconds
_ALL = (
    Real("mobilenet_v2", "mobilenet_v2"),
    Real("mobilenet_v3_small", "mobilenet_v3"),
    Real("mobilenet_v3_large", "mobilenet_v3"),
    Real("resnet18", "resnet"),
    Real("resnet50", "resnet"),
    Real("resnext50_32x4d", "resnext"),
    Real("wide_resnet50_2", "resnet"),
    Real("vgg11_bn", "vgg", size=32),
    Real("vgg16", "vgg", size=32),
    Real("alexnet", "alexnet", size=96),
    Real("squeezenet1_1", "squeezenet"),
    Real("densenet121", "densenet"),
    Real("efficientnet_b0", "efficientnet"),
    Real("efficientnet_v2_s", "efficientnet"),
    Real("shufflenet_v2_x1_0", "shufflenet"),
    Real("regnet_y_400mf", "regnet"),
    Real("regnet_x_400mf", "regnet"),
    Real("mnasnet0_5", "mnasnet"),
    Real("googlenet", "googlenet", options=_NO_INIT),
    Real("inception_v3", "inception", size=75, usual=299, training=299, options=_NO_INIT),
    Real("convnext_tiny", "convnext"),
    Real("vit_b_16", "vit", sized="image_size"),
    Real("swin_t", "swin"),
    Real("mobilenetv3_small_050", "mobilenet_v3", timm=True),
    Real("mobilenetv4_conv_small", "mobilenet_v4", timm=True),
    Real("efficientnet_lite0", "efficientnet", timm=True),
    Real("repvgg_a0", "repvgg", timm=True),
    Real("ghostnet_100", "ghostnet", timm=True),
    Real("resnet26d", "resnet", timm=True),
    Real("mixer_s16_224", "mixer", size=224, sized="img_size", timm=True),
)
NETWORKS = {real.name: real for real in _ALL}
FAMILIES = {real.family: real for real in reversed(_ALL)}
"""The first network of each family."""
KINKED = {real.family for real in _ALL} - {"efficientnet", "convnext", "vit", "swin", "mixer"}
"""Families whose activations have kinks: ReLU, ReLU6, Hardswish."""


def randomise(module: nn.Module) -> nn.Module:
    """The module in float64, in train mode, with no two channels alike.

    Norms get random scale, shift and statistics; biases, and whatever starts as a constant (class tokens, layer
    scales, norms that start at zero), become random too.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=torch.float64) * (high - low) + low

    module.double().train()
    with torch.no_grad():
        for path, layer in module.named_modules():
            norm = "Norm" in type(layer).__name__
            for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
                if not tensor.is_floating_point():
                    continue
                if name == "running_var":
                    tensor.copy_(uniform(tensor, 0.5, 1.5))
                elif name in ("running_mean", "bias"):
                    tensor.copy_(uniform(tensor, -0.3, 0.3))
                elif norm and name == "weight":
                    tensor.copy_(uniform(tensor, 0.6, 1.4))
                elif "layer_scale" in path + name:
                    tensor.copy_(uniform(tensor, 0.3, 0.9))
                elif bool((tensor == tensor.flatten()[0]).all()):
                    tensor.copy_(uniform(tensor, -0.3, 0.3))
    return module


def calibrated(module: nn.Module, x: Tensor) -> nn.Module:
    """The module in eval mode, batch-norm statistics near those of `x`, 20 % off: signals neither fade nor explode."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        module.train()(x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            noise = torch.rand(2, norm.num_features, generator=generator, dtype=torch.float64) * 0.4 - 0.2
            norm.running_mean += noise[0] * norm.running_var.sqrt()
            norm.running_var *= 1 + noise[1]
    return module.eval()


_SMOOTH: dict[type[nn.Module], Callable[[], nn.Module]] = {
    nn.ReLU: lambda: SmoothReLU(3.0),
    nn.ReLU6: lambda: SmoothReLU6(3.0),
    nn.Hardswish: nn.SiLU,
    nn.Hardsigmoid: nn.Sigmoid,
}


@contextmanager
def smoothed(module: nn.Module) -> Iterator[nn.Module]:
    """The module with smooth activations, also where forward calls `F.relu`."""
    for layer in list(module.modules()):
        for name, child in layer.named_children():
            if type(child) in _SMOOTH:
                setattr(layer, name, _SMOOTH[type(child)]())
    with mock.patch.object(F, "relu", lambda z, inplace=False: F.softplus(z, 3.0, 50.0)):
        yield module


def counted_macs(module: nn.Module, image: Tensor) -> float:
    """Multiply-accumulates of one image as `torch.utils.flop_counter` counts them."""
    with counting() as counter, torch.no_grad():
        module.eval()(image)
    return counter.get_total_flops() / 2
