"""Random networks: blocks drawn from those that real networks are made of, on few channels, with any width from 1 up.

A network of widths 1 and 2 confuses an analysis that goes by sizes; so do branches that happen to be as wide as others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial.case import CLASSES, Case, conv

Block = tuple[nn.Module, int]


class Residual(nn.Module):
    """The trunk plus, minus or times what a branch makes of it."""

    def __init__(self, branch: nn.Module, how: str) -> None:
        super().__init__()
        self.branch, self.how = branch, how

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        return {"add": lambda: x + y, "sub": lambda: y - x, "mul": lambda: x * torch.sigmoid(y)}[self.how]()


class Joined(nn.Module):
    """Branches side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Gate(nn.Module):
    """Squeeze-excite, with convolutions or with linear layers."""

    def __init__(self, channels: int, squeeze: int, linear: bool) -> None:
        super().__init__()
        layer = nn.Linear if linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.squeeze, self.excite, self.linear = layer(channels, squeeze), layer(squeeze, channels), linear

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=not self.linear)
        y = torch.sigmoid(self.excite(F.silu(self.squeeze(y))))
        return x * (y[:, :, None, None] if self.linear else y)


class Halves(nn.Module):
    """Both halves of the channels: one gates the other, or both are shuffled, or one is passed through a layer."""

    def __init__(self, how: str, inner: nn.Module) -> None:
        super().__init__()
        self.how, self.inner = how, inner

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "shuffle":
            b, c, h, w = x.shape
            return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        one, other = x.chunk(2, 1)
        if self.how == "gate":
            return one * torch.sigmoid(other)
        return torch.cat([self.inner(one), other], 1)


class Scaled(nn.Module):
    """A scale and a shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class ChannelsLast(nn.Module):
    """A multilayer perceptron over channels, as transformers have it."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


def block(draw: random.Random, channels: int, depth: int) -> Block:
    """A random block for this many channels, and how many it gives."""
    width = draw.randint(1, 5)

    def inside(c: int) -> Block:
        return block(draw, c, depth - 1) if depth > 0 else (conv(c, width, draw.choice([1, 3])), width)

    def back(c: int) -> nn.Module:
        """A random block and a convolution back to `c` channels."""
        inner, outputs = inside(c)
        return nn.Sequential(inner, nn.SiLU(), conv(outputs, c, 1), *draw.choice([[], [nn.BatchNorm2d(c)]]))

    def joined() -> Block:
        branches = [inside(channels) for _ in range(draw.randint(1, 3))]
        parts, outputs = [each for each, _ in branches], sum(count for _, count in branches)
        return (Joined(nn.Identity(), *parts), channels + outputs) if draw.random() < 0.5 else (Joined(*parts), outputs)

    def grouped() -> Block:
        groups = draw.choice([g for g in range(1, channels + 1) if channels % g == 0])
        return conv(channels, groups * draw.randint(1, 3), groups=groups), 0

    def halves() -> Block:
        if channels % 2:
            return conv(channels, 2 * width), 2 * width
        how = draw.choice(["gate", "shuffle", "layer"])
        inner, outputs = inside(channels // 2)
        return Halves(how, inner), {"gate": channels // 2, "shuffle": channels, "layer": channels // 2 + outputs}[how]

    options: list[Callable[[], Any]] = [
        lambda: (nn.Sequential(conv(channels, width), nn.BatchNorm2d(width), nn.SiLU()), width),
        lambda: (Residual(back(channels), draw.choice(["add", "sub", "mul"])), channels),
        joined,
        grouped,
        halves,
        lambda: (Gate(channels, width, draw.random() < 0.5), channels),
        lambda: (Scaled(channels), channels),
        lambda: (ChannelsLast(channels, width), channels),
        lambda: (nn.Sequential(nn.BatchNorm2d(channels), nn.Tanh(), nn.AvgPool2d(3, 1, 1)), channels),
    ]
    made, outputs = draw.choice(options)()
    return made, outputs or made.out_channels


class Body(nn.Module):
    """Blocks one after the other, and a head that flattens, averages, or flattens with the channels last."""

    def __init__(self, blocks: list[nn.Module], channels: int, head: str) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(*blocks), head
        self.fc = nn.Linear(channels if head == "mean" else channels * 4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        if self.head == "mean":
            return self.fc(x.mean((2, 3)))
        x = F.adaptive_avg_pool2d(x, 2)
        return self.fc((x if self.head == "flatten" else x.permute(0, 2, 3, 1)).flatten(1))


def random_case(seed: int) -> Case:
    """The network of that number."""

    def build() -> nn.Module:
        draw = random.Random(seed)
        channels = draw.randint(1, 5)
        blocks: list[nn.Module] = [conv(3, channels)]
        for _ in range(draw.randint(1, 4)):
            made, channels = block(draw, channels, 1)
            blocks += [made, draw.choice([nn.Identity(), nn.SiLU(), nn.GELU()])]
        return Body(blocks, channels, draw.choice(["mean", "flatten", "last"]))

    return Case(build, predicts=True)
