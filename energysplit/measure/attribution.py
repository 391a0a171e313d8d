"""Which unit of a network each node belongs to that a runtime ran.

Runtimes rename what they fuse. What stays is the name of a value: whoever builds a network for measuring calls the
values of unit 12 `u12.0`, `u12.1` and so on, and the runtime keeps such a name inside the node's own
(`u12.1_nchwc`, `InsertedPrecisionFreeCast_u12.1_nchwc`, `u12.0_token_37`). Nodes it puts in between (changes of layout
or type) have no such name: they belong to the unit of the node that ran before them, and to the first unit if none did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from energysplit.errors import InputError

_UNIT = re.compile(r"(?<![A-Za-z0-9])u(\d+)\.")


def units_of(nodes: Sequence[str]) -> list[int]:
    """The unit of each node, given in the order they ran.

    Raises:
        InputError: no node has the name of a unit's value.

    Example:
        >>> units_of(["ReorderInput", "u0.1_nchwc", "ReorderOutput_token_4", "InsertedPrecisionFreeCast_u1.0"])
        [0, 0, 0, 1]
    """
    named = [_UNIT.search(node) for node in nodes]
    first = next((int(match[1]) for match in named if match), None)
    if first is None:
        listed = ", ".join(nodes[:5]) or "nothing"
        raise InputError(f"no node has the name of a unit's value (u0.0, u12.1, ...); the profile names {listed}")
    units, unit = [], first
    for match in named:
        unit = int(match[1]) if match else unit
        units.append(unit)
    return units
