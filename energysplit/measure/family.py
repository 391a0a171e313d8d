"""What a sweep measures: a network whose widths vary, and how far.

Most networks drawn have widths that are multiples of 8, as people choose them; the others have any widths, because
splitting makes any. The two are not mixed in one network: what a layer costs depends a little on its neighbours'
layout too, which a layer case does not know. Some networks are wide or narrow as a whole, others in places.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from energysplit.costs import NetworkPricer
from energysplit.graph import Network
from energysplit.measure.template import Template
from energysplit.types import CostProvider, LayerCase

ALIGNED = 8
_ALIGNED_SHARE = 0.6
COUNTED = ("macs", "params", "peak_memory")
_LARGEST_REACH = 16.0
"""How much wider than in the seed a group is measured at most."""


@dataclass(frozen=True)
class Family:
    """A network to measure at many widths.

    label: how tables and messages name it. low, high: smallest and largest width of each group that varies.
    """

    label: str
    template: Template
    low: Mapping[str, int]
    high: Mapping[str, int]

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        channels, height, width = self.template.net.example_input.shape[1:]
        return int(channels), int(height), int(width)

    @classmethod
    def scaled(cls, label: str, net: Network, low: float = 0.2, high: float = 1.0) -> Family:
        """A network at `low` to `high` times its own widths, groups that can't be split aside."""
        free = {name: group.channels for name, group in net.groups.items() if group.splittable}
        return cls(
            label,
            Template.of(net),
            {name: max(1, round(low * width)) for name, width in free.items()},
            {name: max(1, math.ceil(high * width)) for name, width in free.items()},
        )

    @classmethod
    def grown(cls, label: str, seed: Network, limits: Sequence[tuple[CostProvider, float]], stages: int) -> Family:
        """A seed and every width that growth can reach, one group at a time, inside budgets that can be counted.

        Args:
            label: how the table names it.
            seed: the network growth begins with.
            limits: cost providers and their largest prices; those that are measured say nothing before they are.
            stages: growths, in each of which a neuron is split in two at most.
        """
        pricers = [(NetworkPricer(seed, provider), limit) for provider, limit in limits]
        low = {name: group.channels for name, group in seed.groups.items() if group.splittable}

        def fits(name: str, width: int) -> bool:
            return all(pricer.value({name: width}) <= limit for pricer, limit in pricers)

        high = {}
        for name, width in low.items():
            inside, outside = width, math.ceil(width * min(2.0**stages, _LARGEST_REACH)) + 1
            while pricers and outside - inside > 1:
                middle = (inside + outside) // 2
                inside, outside = (middle, outside) if fits(name, middle) else (inside, middle)
            high[name] = inside if pricers else outside - 1
        return cls(label, Template.of(seed), low, high)

    def draw(self, generator: random.Random) -> dict[str, int]:
        """Random widths."""
        whole, spread = generator.random(), generator.choice((0.15, 1.0))
        aligned = generator.random() < _ALIGNED_SHARE
        widths = {}
        for name, low in self.low.items():
            high = self.high[name]
            place = min(1.0, max(0.0, whole + spread * (generator.random() - 0.5)))
            width = low + place * (high - low)
            if aligned:
                width = ALIGNED * max(1, round(width / ALIGNED))
            widths[name] = min(high, max(low, round(width)))
        return widths

    def corners(self) -> list[dict[str, int]]:
        """The narrowest and the widest network: between them everything is inside what was measured."""
        return [dict(self.low), dict(self.high)]

    def cases(self, widths: Mapping[str, int]) -> list[LayerCase]:
        """Cases of everything that runs, in order."""
        return list(self.template.net.operations(widths).values())
