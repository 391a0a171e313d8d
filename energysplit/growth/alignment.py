"""Which multiples a growth's widths become: what the recipe says, or what its budgets' tables found.

A kernel that works in blocks of channels charges the whole block, so the channels that fill it cost little or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from energysplit.graph import Network
from energysplit.types import CostProvider

Multiple = int | dict[str, int]


def multiples(
    setting: int | str | Mapping[str, int],
    providers: Iterable[CostProvider],
    net: Network,
    ceilings: Mapping[str, int] | None = None,
) -> Multiple:
    """What `allocate` takes as `multiple_of`.

    "auto" is the least common multiple of what the providers say (1 where none says anything); for a group that can't
    reach such a width in one growth, in which its neurons are taken to double at most, or inside its bound, the largest
    divisor of it that it can reach.

    Args:
        setting: `growth.multiple_of` of the recipe.
        providers: of the budgets; `multiple_of` is a number, or a number by kind of layer ("conv2d", "depthwise",
            "linear", ..., "default").
        net: the network to be grown.
        ceilings: group -> the most channels it may have.
    """
    if setting != "auto":
        return dict(setting) if isinstance(setting, Mapping) else int(setting)
    said = [found for provider in providers if (found := getattr(provider, "multiple_of", None))]
    most = {name: 2 * width for name, width in net.widths.items()}
    for name, ceiling in (ceilings or {}).items():
        # A group that may not grow at all has a multiple like any other, without effect.
        most[name] = min(most[name], ceiling) if ceiling > net.widths[name] else most[name]
    return {name: _reachable(_wanted(net, name, said), net.widths[name], most[name]) for name in net.groups}


def _wanted(net: Network, group: str, said: Iterable[Multiple]) -> int:
    cases = net.cases()
    kinds = {"depthwise" if cases[name].depthwise else cases[name].op
             for name in (*net.groups[group].producers, *net.groups[group].followers) if name in cases}  # fmt: skip
    found = [1]
    for one in said:
        if isinstance(one, Mapping):
            found += [one.get(kind, one.get("default", 1)) for kind in kinds]
        else:
            found.append(one)
    return math.lcm(*found)


def _reachable(multiple: int, width: int, most: int) -> int:
    """The largest divisor of `multiple` with a multiple of it between the width, not included, and `most`."""
    divisors = (divisor for divisor in range(multiple, 0, -1) if multiple % divisor == 0)
    return next(divisor for divisor in divisors if width + (-width % divisor or divisor) <= most)
