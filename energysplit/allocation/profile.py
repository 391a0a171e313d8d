"""The price of a group over its width, the other groups held: exact at every width, asked for where it has to be.

Counted costs are straight lines over one width, measured ones have steps at multiples. A few neighbouring widths tell
which it is: of a straight line these are enough, of the others every width is priced, up to a number of points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from energysplit.allocation.ledger import Ledger

POINTS = 128
"""Widths of a group that are priced, about; where there are more, multiples of a power of 2, with lines between."""

Rows = dict[str, NDArray[np.float64]]
"""Row of a limit ("" for its sum, or a layer of a maximum) -> what the group's layers add to it, by width."""


def profile(ledger: Ledger, group: str, widths: Sequence[int], anchor: int = 0) -> list[Rows]:
    """By limit, what the group's layers add to its rows at these widths, rising, others as in the ledger.

    Args:
        ledger: prices of the network.
        group: its name.
        widths: of the group.
        anchor: place of a width that is priced itself in any case.
    """
    at = np.array(widths)
    places = _probes(len(at))
    found = _priced(ledger, group, at[places])
    if not all(_on_a_line(at[places], row) for rows in found for row in rows.values()):
        places = _points(at, anchor)
        found = _priced(ledger, group, at[places])
    return [{name: np.interp(at, at[places], row) for name, row in rows.items()} for rows in found]


def straight(ledger: Ledger, group: str, widths: Sequence[int]) -> bool:
    """Whether all of a group's prices are straight lines over its width, as far as a few neighbouring widths tell."""
    at = np.array(widths)[_probes(len(widths))]
    return all(_on_a_line(at, row) for rows in _priced(ledger, group, at) for row in rows.values())


def _priced(ledger: Ledger, group: str, widths: NDArray[np.int64]) -> list[Rows]:
    found = []
    for place in range(len(ledger.limits)):
        rows = [ledger.rows(place, group, int(width)) for width in widths]
        found.append({name: np.array([row[name] for row in rows]) for name in rows[0]})
    return found


def _probes(count: int) -> list[int]:
    """Neighbouring places at the beginning, in the middle and at the end."""
    middle = count // 2
    return sorted({place for place in (0, 1, middle, middle + 1, count - 1) if 0 <= place < count})


def _points(widths: NDArray[np.int64], anchor: int) -> list[int]:
    """All places, or those of multiples of a power of 2, the two ends, and the anchor with its neighbours."""
    count, step = len(widths), 1
    while count > POINTS * step:
        step *= 2
    wanted = {0, count - 1, *(place for place in (anchor - 1, anchor, anchor + 1) if 0 <= place < count)}
    return sorted(wanted | {place for place, width in enumerate(widths) if width % step == 0})


def _on_a_line(at: NDArray[np.int64], values: NDArray[np.float64]) -> bool:
    """Whether points lie on one straight line, to rounding."""
    line = values[0] + (values[-1] - values[0]) * (at - at[0]) / max(1, at[-1] - at[0])
    return bool(np.all(np.abs(line - values) <= 1e-9 * np.max(np.abs(values))))
