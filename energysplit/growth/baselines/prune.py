"""Which neurons stay: the most whose network is within the limits, the least important gone.

Candidates are priced as whole networks, by the recipe's own providers. Of neurons alike in importance the later go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from energysplit.growth.baselines.sizes import last_within, widest

Within = Callable[[Mapping[str, int]], bool]


def same_ratio(
    importance: Mapping[str, Tensor], widths: Mapping[str, int], within: Within
) -> dict[str, list[int]] | None:
    """Group -> the channels that stay, the same part of each group; None where one neuron in each is too much.

    Args:
        importance: by group that may lose neurons, shape (neurons,).
        widths: of all groups.
        within: whether a network of these widths is within the limits.
    """
    found = widest(widths, {name: widths[name] for name in importance}, within)
    if found is None:
        return None
    return {name: _most_important(values, found.widths[name]) for name, values in importance.items()}


def one_threshold(
    importance: Mapping[str, Tensor], widths: Mapping[str, int], within: Within
) -> dict[str, list[int]] | None:
    """Group -> the channels that stay, those above one threshold for all groups; None where that is too much.

    At least the most important neuron of each group stays. Arguments as in `same_ratio`.
    """
    candidates: list[tuple[float, int, int, str]] = []
    for place, (name, values) in enumerate(importance.items()):
        order = _order(values)
        # From the end: the least important first, and of equals the later.
        candidates += [(float(values[channel]), place, -channel, name) for channel in order[1:]]
    candidates.sort()

    def remaining(removed: int) -> dict[str, int]:
        left = dict(widths)
        for _, _, _, name in candidates[:removed]:
            left[name] -= 1
        return left

    count = len(candidates) + 1
    kept = last_within(count, lambda place: within(remaining(count - 1 - place)))
    if kept is None:
        return None
    left = remaining(count - 1 - kept)
    return {name: _most_important(values, left[name]) for name, values in importance.items()}


def _order(values: Tensor) -> list[int]:
    """Channels, the most important first, and of equals the earlier."""
    found: list[int] = torch.sort(values, descending=True, stable=True).indices.tolist()
    return found


def _most_important(values: Tensor, count: int) -> list[int]:
    """The channels of the largest importance, in their order in the network."""
    return sorted(_order(values)[:count])
