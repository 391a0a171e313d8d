"""The table of split groups that `price` and `grow --dry-run` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from energysplit.cli.console import si, table
from energysplit.types import SplitGroup

if TYPE_CHECKING:
    from rich.table import Table


def groups_table(
    groups: Mapping[str, SplitGroup], marginal: Mapping[str, Mapping[str, float]], units: Mapping[str, str]
) -> Table:
    """Groups with their channels, the price of one more neuron, and why some can't be split.

    Args:
        groups: by name.
        marginal: provider name -> group -> price of one more neuron.
        units: provider name -> unit.
    """
    rows = []
    for name, group in groups.items():
        prices = [si(marginal[provider][name], unit) for provider, unit in units.items()]
        rows.append((name, "yes" if group.splittable else f"no: {group.reason}", group.channels, *prices))
    columns = ("group", "can be split", "channels", *(f"+1, {provider}" for provider in units))
    return table(columns, rows, words=2)
