"""Writes cost tables: `<cost>-<op>.csv` and the cost's section of `provenance.toml`, whole or not at all."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import tomli_w

from energysplit.costs.table import PROVENANCE, CostTable, TableRow, cells, columns
from energysplit.errors import InputError
from energysplit.output.atomic import write_text
from energysplit.plain_data import read_toml


def write(table: CostTable, folder: Path | str) -> Path:
    """The folder, holding the table; tables of other costs in it stay."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cost = table.provenance.cost
    by_op: dict[str, list[TableRow]] = defaultdict(list)
    for row in table.rows:
        by_op[row.case.op].append(row)
    for op, rows in by_op.items():
        write_text(folder / f"{cost}-{op}.csv", _csv(rows))
    for old in folder.glob(f"{cost}-*.csv"):
        if old.stem.removeprefix(f"{cost}-") not in by_op:
            old.unlink()
    path = folder / PROVENANCE
    sections = _sections(path) if path.exists() else {}
    sections[cost] = table.provenance.model_dump(exclude_none=True)
    write_text(path, tomli_w.dumps(sections))
    return folder


def _sections(path: Path) -> dict[str, Any]:
    """The provenance that is there already, of this cost and others.

    Raises:
        InputError: it can't be read.
    """
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error}); move it away, or write the table elsewhere") from None


def _csv(rows: list[TableRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(map(cells, rows), key=lambda line: _order(list(line.values()))))
    return text.getvalue()


def _order(texts: list[str]) -> tuple[int, ...]:
    """Sorted by what stands in the columns, numbers as numbers."""
    return tuple(int(text) if text.isdecimal() else -1 for text in texts)
