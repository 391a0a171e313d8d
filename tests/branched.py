"""Small networks whose channels branch and meet again; in float64 with batch-norm state randomised (see `cases`)."""

from __future__ import annotations

from collections.abc import Callable

import cases
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import energysplit as es


class Residual(nn.Module):
    """A trunk of three producers, two of them with a batch norm; one weight produces and consumes the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*cases.conv_bn_act(3, 4))
        self.up, self.down = nn.Conv2d(4, 6, 3, padding=1), nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4))
        self.same = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Sequential(*cases.head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.silu(x + self.down(F.gelu(self.up(x))))
        return self.head(x - self.same(x))


class Grouped(nn.Module):
    """Grouped convolutions between ordinary ones: a neuron has a row in every group."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *cases.conv_bn_act(3, 6),
            nn.Conv2d(6, 8, 3, padding=1, groups=2),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 4, 1, groups=2, bias=False),
            nn.SiLU(),
            *cases.head(4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Multiplier(nn.Module):
    """A depthwise convolution with two filters a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.filters = nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 5, 1)
        self.head = nn.Sequential(*cases.head(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.point(F.silu(self.norm(self.filters(self.stem(x)))))))


class Concat(nn.Module):
    """Groups that share a dimension, one of them twice, with the image between; a flatten over positions behind."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(14)
        self.c = nn.Conv2d(14, 5, 3, padding=1)
        self.d = nn.Linear((5 + 3) * 16, 6)
        self.classes = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.silu(self.a(x)), F.gelu(self.b(x))
        c = F.silu(self.c(self.norm(torch.cat([a, x, b, a], 1))))
        flat = torch.flatten(F.avg_pool2d(torch.cat([b, c], 1), 2), 1)
        return self.classes(torch.tanh(self.d(flat)))


class Gated(nn.Module):
    """Squeeze-excite, then a layer scale and a buffer that is not saved."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*cases.conv_bn_act(3, 6))
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.gamma = nn.Parameter(torch.rand(6, 1, 1) + 0.5)
        self.register_buffer("scale", torch.rand(1, 6, 1, 1) + 0.5, persistent=False)
        self.body = nn.Sequential(*cases.conv_bn_act(6, 4))
        self.head = nn.Sequential(*cases.head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(self.body(x * gate * self.gamma * self.scale))


class Tied(nn.Module):
    """Two modules with one weight, and one module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.other.weight = self.one.weight
        self.mix, self.back = nn.Conv2d(4, 5, 1), nn.Conv2d(5, 4, 1)
        self.head = nn.Sequential(*cases.head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.other(F.silu(self.one(F.silu(self.stem(x))))))
        for _ in range(2):
            x = x + self.back(F.gelu(self.mix(x)))
        return self.head(x)


class Halves(nn.Module):
    """A gated linear unit: both halves of a layer's rows are one group; pixels shuffled before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shuffle = nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.PixelShuffle(2)
        self.both, self.out = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 3, 1)
        self.head = nn.Sequential(*cases.head(3))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(F.silu(self.shuffle(self.stem(x)))).chunk(2, 1)
        return self.head(F.silu(self.out(value * torch.sigmoid(gate))))


class Tokens(nn.Module):
    """A channel MLP over the positions of a patch embedding, with a residual trunk that layer norm holds fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 4, 4)
        self.norm = nn.LayerNorm(4)
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)
        self.classes = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.classes(x.mean(1))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "grouped": Grouped,
    "multiplier": Multiplier,
    "concat": Concat,
    "gated": Gated,
    "tied": Tied,
    "halves": Halves,
    "tokens": Tokens,
}


def network(family: str, seed: int = 0) -> es.Network:
    """A traced, randomised network of a family here or in `cases`."""
    if family in cases.FAMILIES:
        return cases.network(family, seed=seed)
    torch.manual_seed(seed)
    return es.trace(cases.randomise(FAMILIES[family](), seed), cases.images()[0])


def splittable(net: es.Network) -> list[str]:
    """The groups that can be split."""
    return [name for name, group in net.groups.items() if group.splittable]


def directions(net: es.Network, layers: str, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """A random direction for each of the "producers", "movers" or "consumers" of every group that can be split."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {
            layer: torch.randn(net.weight(layer).shape, generator=generator, dtype=torch.float64)
            for layer in getattr(net.groups[name], layers)
        }
        for name in splittable(net)
    }
