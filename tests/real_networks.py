"""The networks other people wrote that this package promises to grow, and the page that says how far.

`python tests/real_networks.py > docs/supported.md` writes the page, in some minutes; `tests/graph/test_networks.py`
proves its rows while it splits, trains, saves, prices and exports the same networks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import oracles
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import energysplit as es
from energysplit.models.activations import SmoothReLU, SmoothReLU6

PAGE = Path(__file__).resolve().parents[1] / "docs" / "supported.md"
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
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused path is not counted
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.eval()(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 2


@dataclass(frozen=True)
class Check:
    """A loss change predicted by the splitting index, and that of the real split."""

    chosen: dict[str, list[int]]
    step: float
    predicted: float
    realised: float

    @property
    def error(self) -> float:
        """Relative to the prediction."""
        return abs(self.realised / self.predicted - 1)


def smooth_checks(real: Real) -> list[Check]:
    """Three groups, and one neuron of every group, with smooth activations and step 1e-3.

    Where a max-pooling window would take another element the step is smaller: the second order holds between switches.
    """
    with smoothed(real.slim()) as module:
        calibrated(module, real.images(4 if real.training else 32, seed=3, size=real.training))
        net = es.trace(module, real.images(1 if real.training else 2, size=real.training))
        pooled = any(op.pool is not None for op in net.ops)
        x = real.images(1 if pooled else 4, seed=4)
        batch = (x, torch.arange(len(x)))
        index = es.splitting_index(net, [batch], F.cross_entropy, sweeps=1)
        chosen = [{name: [0, net.widths[name] - 1]} for name in list(index)[:: max(1, len(index) // 3)][:3]]
        chosen.append({name: [net.widths[name] // 2] for name in index})
        checks = []
        for each in chosen:
            step = oracles.step_without_switch(net, x, index, each) if pooled else 1e-3
            checks.append(checked(net, batch, index, each, step))
        return checks


def kinked_checks(real: Real) -> list[Check]:
    """One neuron of every group, with the activations as they are, at steps of 0.01 and 0.03.

    Kinks are smoothed in the prediction, with beta = 10; directions and values are of the same 32 images.
    """
    module = calibrated(real.slim(), real.images(32, seed=3, size=real.training))
    net = es.trace(module, real.images(1 if real.training else 2, size=real.training))
    batch = (real.images(32, seed=4), torch.arange(32) % CLASSES)
    index = es.splitting_index(net, [batch], F.cross_entropy, sweeps=3, kink_beta=10.0)
    chosen = {name: [net.widths[name] // 2] for name in index}
    return [checked(net, batch, index, chosen, step) for step in (0.01, 0.03)]


def checked(
    net: es.Network,
    batch: oracles.Batch,
    index: dict[str, es.SplitIndex],
    chosen: dict[str, list[int]],
    step: float,
) -> Check:
    """The check of one split."""
    predicted = oracles.predicted_change(index, chosen, step)
    return Check(chosen, step, predicted, oracles.realised_change(net, [batch], index, chosen, step))


def family_row(real: Real) -> str:
    """The row of a family in the table of predictions."""
    checks = smooth_checks(real)
    worst = max(check.error for check in checks)
    bound = next((text for limit, text in ((1e-4, "0.01 %"), (1e-3, "0.1 %"), (1e-2, "1 %")) if worst < limit), "more")
    steps = sorted({f"{check.step:.0e}" for check in checks}, key=float)
    cells = [real.name, f"below {bound}", f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else steps[0]]
    if real.family in KINKED:
        cells += [f"{check.realised / check.predicted:.2f}" for check in kinked_checks(real)]
    else:
        cells += ["-", "-"]
    return "| " + " | ".join(cells) + " |"


def row(real: Real, net: es.Network) -> str:
    """The network's row of the page."""
    groups = net.groups.values()
    able = [group for group in groups if group.splittable]
    neurons = f"{sum(group.channels for group in able):,} of {sum(group.channels for group in groups):,}"
    macs = f"{real.macs() / 1e6:,.2f} M"
    source = "timm" if real.timm else "torchvision"
    why = "; ".join(f"{text} ({count})" for text, count in reasons(net).items())
    return f"| {real.name} | {source} | {len(able)} of {len(groups)} | {neurons} | {macs} | {why or 'outputs only'} |"


def reasons(net: es.Network) -> dict[str, int]:
    """Why groups other than the outputs can't be split, without the names of this network's layers -> groups."""
    found: Counter[str] = Counter()
    for group in net.groups.values():
        if not group.splittable and "outputs" not in group.reason:
            found[shortened(group.reason)] += 1
    return dict(found.most_common())


def shortened(reason: str) -> str:
    """A reason without what is peculiar to one layer: its name, its sizes, where an operation stands.

    >>> shortened("operation 'add' (at 'add_2'): channels meet a tensor of fixed size")
    '`add`: channels meet a tensor of fixed size'
    >>> shortened("layer 'blocks.0.norm' (LayerNorm): it compares the channels of (2, 8)")
    'LayerNorm: it compares the channels of'
    >>> shortened("its channels stand along several dimensions at 'view_8'")
    'its channels stand along several dimensions at `view`'
    """
    text = re.sub(r"^operation ('\w+') \(at '\w+'\)", r"\1", reason)
    text = re.sub(r"^layer '[\w.]+' \((\w+)\)", r"\1", text)
    text = re.sub(r"'(\w*?)(?:_\d+)?'", r"`\1`", text)
    return re.sub(r" (?:'[\w.]+'|\(\d[\d, ]*\))", "", text).replace("|", "/")


HEAD = """# Is my model supported?

Ask it: `energysplit.trace` finds the channel groups of any `torch.nn.Module` and says of each whether it can be split
or why not. Nothing is guessed: an operation that is not understood is refused by name, and what is believed is proved
on a copy before you get it.

```python
import torch
import torchvision

import energysplit as es

model = torchvision.models.convnext_tiny(num_classes=10)
net = es.trace(model, torch.zeros(2, 3, 64, 64))
for group in net.groups.values():
    if not group.splittable:
        print(f"{group.name} -> {group.reason}")
```

## Reading the reasons

A group is a set of channels that can only be split together, named after the first layer that writes it. A reason
names the operation that stands in the way.

- **its channels are the network's outputs**: nothing to do, classes do not grow.
- **layer norm, group norm or softmax compares the channels with each other**: nothing to do; a copy would change what
  the others are compared with. The hidden units of a transformer's blocks can be split.
- **sizes are written into the code, channels are taken by number**: write `x.flatten(1)`, sizes from `x.shape` in place
  of numbers, `chunk` in place of slices.
- **channels meet a tensor whose size is fixed or whose channels are not followed**: the other tensor comes from the
  input, from the code or from a refused group; look at that group's reason first. One value a channel can be a
  parameter.
- **no rule says what it does to channels**: write it with operations that are known (layers, element-wise functions,
  pooling, reshapes, concatenation), or leave the group as it is.
- **split, it breaks ...**: found by the trial growth; the operation depends on the width in a way that the trace does
  not show. Look there for a number that should be a size.

A model is refused as a whole (`UnsupportedModel`) only where its operations can't be listed, or none of them can be
followed: control flow that depends on values, forward functions of several inputs, tensors changed in place and read
again. Everything else stays trainable and exportable as it is, whether its groups can be split or not.

## Networks this is tested on

Each network below is split in single groups, in all groups, and in all groups twice, in float64 with random weights and
random batch-norm state: outputs change by less than 1e-9 of the largest one. The grown networks train, are saved and
loaded, and export to ONNX. Multiply-accumulates are of one image at the usual size, for 1,000 classes; the prices
`energysplit.price` gives equal `torch.utils.flop_counter`'s count.

"""


PREDICTIONS = """
## How well the loss change is predicted

With smooth activations in place of kinked ones (softplus for ReLU, SiLU for Hardswish) the loss change that
`energysplit.splitting_index` predicts is that of the real split to second order: below, the largest relative error
over single groups and one neuron of every group together, float64. The step is 1e-3, smaller where a max-pooling window
would otherwise take another element: such a switch is a kink, and the prediction knows nothing of it.

A kinked activation has no second derivative at its kinks; the prediction replaces each by a kernel (here beta = 10).
The last columns are what one neuron of every group together really changes, over what is predicted, on the 32 images
the directions were found on, random weights: the smoothed form gives the sign and the size, within a factor of about
two where the step is small, and overstates what larger steps bring.

| network | error, smooth | step | realised / predicted, kinked, step 0.01 | step 0.03 |
| --- | --- | --- | --- | --- |
"""


def families() -> list[str]:
    """The families in the order of the table."""
    return list(dict.fromkeys(real.family for real in _ALL))


def page() -> str:
    """The whole page; traces every network."""
    lines = [HEAD + "| network | from | groups | neurons that can be split | MACs | refused because (groups) |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for real in _ALL:
        lines.append(row(real, real.trace()))
    return "\n".join(lines) + "\n" + PREDICTIONS + "".join(family_row(FAMILIES[name]) + "\n" for name in families())


if __name__ == "__main__":
    print(page(), end="")
