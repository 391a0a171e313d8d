"""A chain of convolutions as a pure price list: what allocation needs of a network, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch

from energysplit.types import LayerCase, SplitGroup, SplitIndex


@dataclass(frozen=True)
class Chain:
    """Convolutions with batch norm, a depthwise follower where asked for, and a linear classifier."""

    channels: tuple[int, ...]
    depthwise: bool
    classes: int = 10

    @property
    def groups(self) -> dict[str, SplitGroup]:
        """One group a convolution; the classifier's can't be split."""
        names = [f"conv{i}" for i in range(len(self.channels))]
        groups = {
            name: SplitGroup(name, width, (name,), (f"{name}.dw",) if self.depthwise else (), (after,))
            for name, width, after in zip(names, self.channels, [*names[1:], "fc"], strict=True)
        }
        return groups | {"fc": SplitGroup("fc", self.classes, ("fc",), (), (), False, "the classes")}

    @property
    def widths(self) -> dict[str, int]:
        """Channels by group."""
        return {name: group.channels for name, group in self.groups.items()}

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        """The layers at the present widths or at others."""
        widths = {**self.widths, **(widths or {})}
        cases, before, size = {}, 3, 16
        for place in range(len(self.channels)):
            name, kernel = f"conv{place}", 3 if place == 0 or not self.depthwise else 1
            width, out = widths[name], max(1, size // (2 if place % 2 else 1))
            cases[name] = LayerCase(
                "conv2d", before, width, (kernel,) * 2, in_size=(size,) * 2, out_size=(out,) * 2, batch_norm=True
            )
            if self.depthwise:
                cases[f"{name}.dw"] = LayerCase(
                    "conv2d", width, width, (3, 3), groups=width, in_size=(out,) * 2, out_size=(out,) * 2, bias=True
                )
            before, size = width, out
        cases["fc"] = LayerCase("linear", before * size * size, widths["fc"], bias=True)
        return cases

    def operations(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        """The same: nothing without weights is in it."""
        return self.cases(widths)

    def follows(self, operations: bool = False) -> dict[str, tuple[str, ...]]:
        """The groups that each layer reads and writes."""
        found, before = {}, ()
        for place in range(len(self.channels)):
            name = f"conv{place}"
            found[name] = (*before, name)
            if self.depthwise:
                found[f"{name}.dw"] = (name,)
            before = (name,)
        return {**found, "fc": (*before, "fc")}

    def case(self, name: str, widths: Mapping[str, int], operations: bool = False) -> LayerCase:
        """One of them."""
        return self.cases(widths)[name]


@pytest.fixture(scope="session")
def chain() -> Callable[..., Chain]:
    """Makes a chain of widths."""

    def make(channels: Sequence[int], depthwise: bool = False) -> Chain:
        return Chain(tuple(channels), depthwise)

    return make


@pytest.fixture(scope="session")
def indices() -> Callable[..., dict[str, SplitIndex]]:
    """Makes random indices for a network: about two thirds below zero, sizes differing by group."""

    def make(net: Chain, seed: int, values: Mapping[str, Sequence[float]] | None = None) -> dict[str, SplitIndex]:
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for name, width in net.widths.items():
            if values is not None:
                if name not in values:
                    continue
                value = torch.tensor(values[name], dtype=torch.float64)
            else:
                size = 10 ** (2 * torch.rand(1, generator=generator, dtype=torch.float64) - 2)
                value = size * (torch.rand(width, generator=generator, dtype=torch.float64) ** 3 * 1.2 - 0.9)
            found[name] = SplitIndex(value, {}, None, torch.zeros(len(value)), 1, "made up")
        return found

    return make
