"""Small networks of every kind of graph, smooth, in float64, each with a head of five classes.

Each shows one thing a tangent has to follow; images are 3 x 8 x 8 as in `cases`.
"""

from __future__ import annotations

import cases
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import energysplit as es


def conv(c_in: int, c_out: int, kernel: int = 3, **options: int) -> nn.Sequential:
    """A convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, **options), nn.BatchNorm2d(c_out))


class Headed(nn.Module):
    """A body, then the mean over positions and a classifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Residual(Headed):
    """A trunk of two blocks: three producers in one group; nonlinearities on the trunk and in the blocks."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.act = conv(3, 4), nn.SiLU()
        self.a, self.b = conv(4, 3), conv(3, 4)
        self.c, self.d = conv(4, 3, 1), conv(3, 4, 1)

    def body(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = self.act(x + self.b(self.act(self.a(x))))
        return x - self.d(self.act(self.c(x)))


class Bottleneck(Headed):
    """Inverted residuals, as in MobileNetV2: a linear trunk."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = nn.Sequential(conv(3, 3), nn.SiLU())
        self.first = self.block(3, 3, 5)
        self.second = self.block(3, 3, 4)
        self.last = nn.Sequential(conv(3, 6, 1), nn.SiLU())

    @staticmethod
    def block(c_in: int, c_out: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            *(conv(c_in, hidden, 1), nn.SiLU(), conv(hidden, hidden, groups=hidden), nn.SiLU(), conv(hidden, c_out, 1))
        )

    def body(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        return self.last(x + self.second(x))


class Dense(Headed):
    """Concatenation: layers read the channels of all layers before, after a batch norm and an activation."""

    def __init__(self) -> None:
        super().__init__(9)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm1, self.a = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1)
        self.norm2, self.b = nn.BatchNorm2d(7), nn.Conv2d(7, 2, 1)

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.a(F.silu(self.norm1(x)))], 1)
        return torch.cat([x, self.b(F.silu(self.norm2(x)))], 1)


class Branches(Headed):
    """Inception: branches of convolutions and max pooling, side by side; positions averaged and resized."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem = nn.Sequential(conv(3, 4), nn.GELU())
        self.a, self.b, self.c = conv(4, 2, 1), conv(4, 3), conv(4, 2, 1)
        self.pool, self.out = nn.MaxPool2d(3, 1, 1), nn.Sequential(conv(11, 4), nn.GELU())

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        small = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
        parts = [F.gelu(self.a(x)), F.gelu(self.b(small)), F.gelu(self.c(self.pool(x))), F.max_pool2d(x, 3, 1, 1)]
        return self.out(torch.cat(parts, 1))


class SqueezeExcite(Headed):
    """A gate made of the channels it multiplies."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem = nn.Sequential(conv(3, 5), nn.SiLU(), conv(5, 5, groups=5), nn.SiLU())
        self.squeeze, self.excite = nn.Conv2d(5, 3, 1), nn.Conv2d(3, 5, 1)
        self.out = nn.Sequential(conv(5, 4, 1), nn.SiLU())

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        return self.out(x * torch.sigmoid(gate))


class Grouped(Headed):
    """Grouped convolutions: a neuron has a row in every group."""

    def __init__(self) -> None:
        super().__init__(4)
        self.layers = nn.Sequential(
            *(conv(3, 6), nn.SiLU(), conv(6, 8, groups=2), nn.SiLU(), conv(8, 4, groups=2), nn.SiLU())
        )

    def body(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Bilinear(Headed):
    """A product of which both factors move, and a square."""

    def __init__(self) -> None:
        super().__init__(4)
        self.a, self.b, self.out = conv(3, 4), conv(3, 4), conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        x = self.a(x) * torch.sigmoid(self.b(x))
        x = self.out(0.5 * x + 0.1)
        return x * x


class Chunked(nn.Module):
    """A gated linear unit whose halves come from one layer, over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down, self.head = (
            nn.Linear(24, 4),
            nn.Linear(4, 10),
            nn.Linear(5, 4),
            nn.Linear(4, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.permute(0, 2, 1, 3).reshape(x.shape[0], 8, 24))
        a, b = self.up(torch.tanh(x)).chunk(2, -1)
        return self.head((x + self.down(a * F.silu(b))).mean(1))


class Shared(Headed):
    """One layer called twice, reading its own channels."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.again = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return torch.tanh(self.again(torch.tanh(self.again(x))))


class Multiplied(Headed):
    """A depthwise convolution with two filters for each channel, and a shuffle of positions into channels."""

    def __init__(self) -> None:
        super().__init__(3)
        self.stem, self.filters = nn.Sequential(conv(3, 4), nn.SiLU()), nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.up, self.out = nn.Conv2d(8, 12, 1), nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")

    def body(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.up(torch.tanh(self.filters(self.stem(x)))), 2)
        return F.silu(self.out(F.silu(x)))


class Flattened(nn.Module):
    """Max pooling and a flatten: a channel is a run of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.pool, self.b, self.head = conv(3, 4), nn.MaxPool2d(4), nn.Linear(16, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.b(self.pool(F.softplus(self.a(x))).flatten(1))))


class ConvNext(Headed):
    """Channels last, layer norm, layer scale: the hidden units can be split, the trunk can't."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.depthwise, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.LayerNorm(4)
        self.up, self.down, self.gamma = nn.Linear(4, 6), nn.Linear(6, 4), nn.Parameter(torch.rand(4, 1, 1))

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.gamma * self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)


class LayerScaled(Headed):
    """Layer scale on channels that can be split, in NHWC, and a sum with a constant and a broadcast tensor."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.up, self.down = nn.Conv2d(3, 4, 3), nn.Linear(4, 6), nn.Linear(6, 4)
        self.gamma, self.scale = nn.Parameter(torch.rand(6)), nn.Parameter(torch.rand(4, 1, 1))

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.gelu(self.up(x.permute(0, 2, 3, 1)) * self.gamma) / 2
        x = x + self.down(y).permute(0, 3, 1, 2) * self.scale
        return torch.tanh(1 - (x + x.mean((2, 3), keepdim=True)))


class Moments(nn.Module):
    """Rows of the image as moments: folded into the batch, and a convolution along them."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.along, self.head = nn.Conv1d(3, 4, 3, padding=1), nn.Conv1d(4, 5, 3), nn.Linear(5, 5)
        self.pool = nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = x.permute(0, 2, 1, 3).reshape(-1, 3, 8)
        x = self.pool(torch.sigmoid(self.each(x))).mean(2)
        x = x.view(batch, -1, x.shape[1]).transpose(1, 2)
        return self.head(F.mish(self.along(x)).mean(-1))


class Functional(nn.Module):
    """Layers as functions of parameters, with options; one weight used by two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.third, self.last = nn.Conv2d(4, 4, 3, stride=2), nn.Linear(4, 5)
        self.third.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.conv2d(x, self.first.weight, self.first.bias, stride=2, padding=1))
        x = torch.tanh(self.third(F.pad(torch.tanh(self.second(F.pad(x, (1, 1, 1, 1)))), (1, 1, 1, 1))))
        return F.linear(x.mean((2, 3)), self.last.weight, bias=self.last.bias)


KINDS: dict[str, type[nn.Module]] = {
    "residual": Residual,
    "bottleneck": Bottleneck,
    "dense": Dense,
    "branches": Branches,
    "squeeze-excite": SqueezeExcite,
    "grouped": Grouped,
    "bilinear": Bilinear,
    "chunked": Chunked,
    "shared": Shared,
    "multiplied": Multiplied,
    "flattened": Flattened,
    "convnext": ConvNext,
    "layer-scaled": LayerScaled,
    "moments": Moments,
    "functional": Functional,
}


def network(kind: str, seed: int = 0) -> es.Network:
    """A traced, randomised network of a kind."""
    torch.manual_seed(seed)
    return es.trace(cases.randomise(KINDS[kind](), seed), cases.images()[0])
