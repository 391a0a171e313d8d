"""The prices of one network under all budgets, kept up to date while its groups change width one at a time.

Only the layers that follow a group are priced again when it changes, so asking what a block would cost takes a few
look-ups, whatever the size of the network. A sum that ends too close to its limit for rounding to be ignored is added
up afresh.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from energysplit.allocation.budgets import Limit

_CLOSE = 1e-9  # of the limit: nearer than this, rounding could decide


class Touched:
    """Which layers of each limit follow each group, and which groups share a layer with it, itself included."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.by_limit: list[dict[str, tuple[str, ...]]] = []
        self.neighbours: defaultdict[str, set[str]] = defaultdict(set)
        for limit in limits:
            found: defaultdict[str, list[str]] = defaultdict(list)
            for layer, groups in limit.pricer.follows.items():
                for group in groups:
                    found[group].append(layer)
                    self.neighbours[group].update(groups)
            self.by_limit.append({group: tuple(layers) for group, layers in found.items()})


class Ledger:
    """Prices at some widths.

    Args:
        limits: the budgets.
        touched: of these limits.
        widths: of every group of the network.
    """

    def __init__(self, limits: Sequence[Limit], touched: Touched, widths: Mapping[str, int]) -> None:
        self.limits = limits
        self.widths = dict(widths)
        self._touched = touched.by_limit
        self._layers = [
            {layer: limit.pricer.layer_value(layer, self.widths) for layer in limit.pricer.follows} for limit in limits
        ]
        self.values = [limit.pricer.total(layers.values()) for limit, layers in zip(limits, self._layers, strict=True)]

    def inside(self) -> bool:
        """Whether every budget is kept."""
        return all(value <= limit.limit for value, limit in zip(self.values, self.limits, strict=True))

    def by_layer(self, place: int) -> Mapping[str, float]:
        """Layer -> its price under limit number `place`."""
        return self._layers[place]

    def layers(self, place: int, group: str, width: int) -> dict[str, float]:
        """The layers of limit number `place` that follow a group, priced with the group at another width."""
        pricer, widths = self.limits[place].pricer, self.widths
        present = widths[group]
        widths[group] = width
        try:
            return {layer: pricer.layer_value(layer, widths) for layer in self._touched[place].get(group, ())}
        finally:
            widths[group] = present

    def rows(self, place: int, group: str, width: int) -> dict[str, float]:
        """What the group's layers add to each row of limit number `place`: to the sum (""), or to a layer's maximum."""
        layers = self.layers(place, group, width)
        return layers if self.limits[place].pricer.combine == "max" else {"": math.fsum(layers.values())}

    def after(self, group: str, width: int) -> list[float]:
        """What the network would cost with the group at another width, by limit."""
        return [self._after(place, self.layers(place, group, width)) for place in range(len(self.limits))]

    def saved(self, group: str, width: int) -> float:
        """How much less the limits would be passed with the group at another width, each as a fraction of its scale.

        Of a maximum every layer above its limit counts: several may have to shrink before it falls.
        """
        total = 0.0
        for place, limit in enumerate(self.limits):
            if self.values[place] > limit.limit:
                changed, layers = self.layers(place, group, width), self._layers[place]
                above = limit.limit if limit.pricer.combine == "max" else 0.0
                less = math.fsum(max(layers[name], above) - max(new, above) for name, new in changed.items())
                total += max(less, 0.0) / limit.scale
        return total

    def set(self, group: str, width: int) -> None:
        """Change a group's width."""
        for place in range(len(self.limits)):
            changed = self.layers(place, group, width)
            self.values[place] = self._after(place, changed)
            self._layers[place].update(changed)
        self.widths[group] = width

    def _after(self, place: int, changed: Mapping[str, float]) -> float:
        limit, layers = self.limits[place], self._layers[place]
        if limit.pricer.combine == "max":
            new = max(changed.values(), default=0.0)
            if new >= self.values[place]:
                return new
            if all(layers[layer] < self.values[place] for layer in changed):
                return self.values[place]
        else:
            found = self.values[place] + math.fsum([*changed.values(), *(-layers[layer] for layer in changed)])
            if abs(found - limit.limit) > _CLOSE * limit.limit:
                return found
        return limit.pricer.total({**layers, **changed}.values())
