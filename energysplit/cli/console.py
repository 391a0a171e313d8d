"""How the command line prints: prices with units, and tables that stay whole in 80 columns and in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from energysplit.output.numbers import quantity
from energysplit.types import Cost

PIPE_COLUMNS = 200
"""Columns of a table that goes to a file or a pipe: wide enough that no name is wrapped."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command line end quietly; rich itself would end with the exit code of a failed check.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError


def console() -> Console:
    """A console on stdout: colours on a terminal, plain text elsewhere."""
    return _Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False, soft_wrap=False)


def si(value: float, unit: str) -> str:
    """A quantity with an SI prefix, two decimals and its unit.

    Example:
        >>> si(568_740_352, "MAC"), si(0.0031, "J"), si(10, "param")
        ('568.74 M MACs', '3.10 mJ', '10 parameters')
    """
    return quantity(value, unit, decimals=2)


def cost(price: Cost) -> str:
    """A price, with its interval if it has one, and where it comes from.

    Example:
        >>> cost(Cost.exact(41_030_000, "MAC")), cost(Cost(0.002, "s", 0.0019, 0.0022, "measured"))
        ('41.03 M MACs, counted', '2.00 ms (1.90 ms to 2.20 ms), measured')
    """
    interval = "" if price.low == price.high else f" ({si(price.low, price.unit)} to {si(price.high, price.unit)})"
    return f"{si(price.value, price.unit)}{interval}, {price.source}"


def show(out: Console, title: str, table: Table) -> None:
    """Print a table under its title, with an empty line after it."""
    out.print(title, style="bold", markup=False, soft_wrap=True)
    out.print(table)
    out.print()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1, wraps: int | None = None) -> Table:
    """A table; the first `words` columns are words, the others numbers. Nothing is cut off.

    Where a terminal is too narrow, column `wraps` is wrapped, the last words if not given; all others stay whole.
    """
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        whole = number != (words - 1 if wraps is None else wraps)
        made.add_column(column, justify="left" if number < words else "right", overflow="fold", no_wrap=whole)
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def facts(values: Mapping[str, object]) -> Table:
    """A table of names and what they are."""
    return table(("", ""), values.items(), words=2)
