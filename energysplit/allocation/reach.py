"""How far measured tables let groups grow: they don't extrapolate, so allocation stays inside them and says why.

What a table covers are ranges of channels in and out, so what is known of the widest network is known of all between
it and the present one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from energysplit.allocation.budgets import Limit
from energysplit.errors import NotMeasured

Stops = dict[str, tuple[int, ...]]
"""Group -> channels added after 0, 1, 2, ... blocks."""


def within_tables(widths: Mapping[str, int], ends: Stops, limits: Sequence[Limit]) -> tuple[Stops, dict[str, str]]:
    """The stops that every budget's provider can price, in any combination, and why groups end before theirs do.

    Groups are cut one by one. Only where several feed one layer (concatenation, or in and out) may all of them together
    still be outside; then all of that layer's are cut to the same number of blocks.
    """
    kept, reasons = dict(ends), {}
    layers = [
        (limit, layer, growing)
        for limit in limits
        for layer, groups in limit.pricer.follows.items()
        if (growing := tuple(group for group in groups if group in ends))
    ]

    def reach(limit: Limit, layer: str, names: Sequence[str]) -> None:
        """Cut these groups so that the layer is known with the others as they are."""

        def at(count: int) -> dict[str, int]:
            grown = {name: widths[name] + kept[name][min(count, len(kept[name]) - 1)] for name in names}
            return {**{group: widths[group] for group in limit.pricer.follows[layer]}, **grown}

        most = max(len(kept[name]) for name in names) - 1
        count, reason = _last_known(most, lambda count: limit.pricer.layer_value(layer, at(count)))
        for name in names:
            if reason and len(kept[name]) > count + 1:
                kept[name], reasons[name] = kept[name][: count + 1], reason

    for limit, layer, growing in layers:
        for name in growing:
            reach(limit, layer, [name])
    for limit, layer, growing in layers:
        if len(growing) > 1:
            reach(limit, layer, growing)
    return kept, reasons


def _last_known(most: int, price: Callable[[int], object]) -> tuple[int, str]:
    """The largest count up to `most` that can be priced, and why the next can't; "" if all can."""
    reason = ""

    def known(count: int) -> bool:
        nonlocal reason
        try:
            price(count)
        except NotMeasured as error:
            reason = str(error)
            return False
        return True

    if known(most):
        return most, ""
    inside, outside = 0, most
    while outside - inside > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if known(middle) else (inside, middle)
    known(outside)  # the nearest reason
    return inside, reason
