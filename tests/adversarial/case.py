"""What an adversarial network is: how it is built, what must split, and what must be refused with which words.

Networks are written as a forward function over named layers, so that a trap is one line and stands beside its layers.
Everything is in float64 with all parameters and buffers random: no two channels are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5
Forward = Callable[[Any, Tensor], Any]
Inputs = Callable[[int, torch.Generator], Tensor]


def images(count: int, generator: torch.Generator) -> Tensor:
    """Random images, 3 x 8 x 8."""
    return torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)


def vectors(size: int) -> Inputs:
    """Random vectors of this size."""
    return lambda count, generator: torch.randn(count, size, generator=generator, dtype=torch.float64)


def sequences(length: int, size: int) -> Inputs:
    """Random sequences of this length, of vectors of this size."""
    return lambda count, generator: torch.randn(count, length, size, generator=generator, dtype=torch.float64)


def tokens(length: int, words: int) -> Inputs:
    """Random sequences of this length, of whole numbers below `words`."""
    return lambda count, generator: torch.randint(words, (count, length), generator=generator)


@dataclass(frozen=True)
class Case:
    """One network and what is allowed.

    splits: tensors whose rows must be neurons that can be split. refuses: tensor -> pattern; its rows must not be
    split, and the reason, or the error of the whole trace, must match. smooth: two copies that move apart change the
    outputs by exactly four times as much when they move twice as far. predicts: the loss change that the splitting
    index predicts is checked too. idle: parameters that the outputs do not depend on. traced: images in the example.
    """

    build: Callable[[], nn.Module]
    splits: tuple[str, ...] = ()
    refuses: Mapping[str, str] = field(default_factory=dict)
    inputs: Inputs = images
    smooth: bool = True
    predicts: bool = False
    idle: tuple[str, ...] = ()
    traced: int = 2

    def example(self) -> Tensor:
        """The example input."""
        return self.batch(self.traced, 1)

    def module(self) -> nn.Module:
        """The network, the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return randomise(self.build())

    def batch(self, count: int, seed: int) -> Tensor:
        """Inputs, the same every time."""
        return self.inputs(count, torch.Generator().manual_seed(seed))


class Cases(dict[str, Case]):
    """Cases by name; as a decorator it adds the network that a function builds."""

    def __call__(self, **options: Any) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
        def add(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
            assert build.__name__ not in self
            self[build.__name__] = Case(build, **options)
            return build

        return add


class Net(nn.Module):
    """Layers, and other attributes, with the forward function that runs them."""

    def __init__(self, run: Forward, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the image's size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def around(op: Forward, outputs: int = 4, **layers: Any) -> Net:
    """A convolution with SiLU to 4 channels, `op`, a mean over positions and a linear layer that reads `outputs`."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.fc(op(m, F.silu(m.conv(x))).mean((2, 3)))

    return Net(run, **{"conv": conv(3, 4), "fc": nn.Linear(outputs, CLASSES), **layers})


def randomise(module: nn.Module) -> nn.Module:
    """The module in float64 with every parameter and every float buffer random; variances are positive."""
    generator = torch.Generator().manual_seed(7)
    module.double()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.square())
            else:
                fan_in = max(1, tensor[0].numel()) if tensor.dim() > 1 else 1
                tensor.copy_(noise * fan_in**-0.5 + (0.5 if tensor.dim() <= 1 else 0))
    return module
