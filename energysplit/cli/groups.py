"""The table of split groups that `price` and `grow --dry-run` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from energysplit.cli.console import show, si, table
from energysplit.types import SplitGroup

if TYPE_CHECKING:
    from rich.console import Console


def show_groups(
    out: Console,
    groups: Mapping[str, SplitGroup],
    marginal: Mapping[str, Mapping[str, float | None]],
    units: Mapping[str, str],
) -> None:
    """Print groups with the layers that write them, channels and prices, then why some can't be split.

    Args:
        out: where to.
        groups: by name.
        marginal: provider name -> group -> price of one more neuron; None where it is not known.
        units: provider name -> unit.
    """
    rows = []
    for name, group in groups.items():
        # A frozen group's channels are not followed everywhere they go, so that neither is their price.
        found = {key: marginal[key][name] if group.splittable else None for key in units}
        prices = ["-" if price is None else si(price, units[key]) for key, price in found.items()]
        rows.append((name, "yes" if group.splittable else "no", len(group.producers), group.channels, *prices))
    columns = ("group", "split", "producers", "channels", *(f"+1, {provider}" for provider in units))
    show(out, "groups, and the price of one more neuron in each", table(columns, rows, words=2, wraps=0))
    reasons = [(name, group.reason) for name, group in groups.items() if not group.splittable]
    if reasons:
        show(out, "groups that can't be split, and why", table(("group", "reason"), reasons, words=2))
