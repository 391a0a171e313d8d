"""Large networks: the gap that is promised, within a time that only a much worse algorithm would need."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from energysplit.allocation import allocate
from energysplit.graph.network import Count, Layer
from energysplit.types import Budget, LayerCase, SplitGroup


class Deep:
    """A chain of pointwise convolutions, each layer's case made when it is asked for, as in a traced network."""

    def __init__(self, depth: int, channels: int) -> None:
        self.layers: dict[str, Layer] = {}
        self.groups: dict[str, SplitGroup] = {}
        before = Count(3)
        for place in range(depth):
            name, after, side = f"conv{place}", Count(0, ((f"conv{place}", 1),)), 32 >> (4 * place // depth)
            inputs = channels if place else 3
            case = LayerCase("conv2d", inputs, channels, in_size=(side, side), out_size=(side, side), batch_norm=True)
            self.layers[name] = Layer(case, before, after, before * side**2 + after * side**2, (name,))
            self.groups[name] = SplitGroup(name, channels, (name,), (), (f"conv{place + 1}",))
            before = after

    @property
    def widths(self) -> dict[str, int]:
        return {name: group.channels for name, group in self.groups.items()}

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        return {name: layer.at({**self.widths, **(widths or {})}) for name, layer in self.layers.items()}

    def operations(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        return {name: layer.at({**self.widths, **(widths or {})}, live=True) for name, layer in self.layers.items()}

    def follows(self, operations: bool = False) -> dict[str, tuple[str, ...]]:
        return {name: layer.follows(operations) for name, layer in self.layers.items()}

    def case(self, name: str, widths: Mapping[str, int], operations: bool = False) -> LayerCase:
        return self.layers[name].at(widths, live=operations)


def test_hundreds_of_groups_and_three_budgets(indices: Callable) -> None:
    net = Deep(300, 60)
    budgets = [Budget("macs", "1.5x"), Budget("params", "1.4x"), Budget("peak_memory", "1.5x")]
    index = indices(net, 0)
    start = time.process_time()
    found = allocate(net, index, budgets)
    seconds = time.process_time() - start
    assert found.gap < 0.001
    assert all(found.price[name].value <= found.limit[name] for name in found.limit)
    assert sum(slope > 0 for slope in found.shadow_price.values()) >= 2, "more than one budget binds"
    greedy = allocate(net, index, budgets, method="greedy")
    assert found.predicted_gain >= greedy.predicted_gain
    assert seconds < 60, "some 2 s where nothing else runs"
