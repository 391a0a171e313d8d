"""Writes cost tables: `<cost>-<op>.csv` and the cost's section of `provenance.toml`, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

import tomli_w

from energysplit.costs.table import PROVENANCE, CostTable, TableRow, cells, columns
from energysplit.output.atomic import sync_folder, write_text


def write(table: CostTable, folder: Path | str) -> Path:
    """The folder, holding the table; tables of other costs in it stay.

    A kill leaves the old table, the new one, or files without provenance, which nobody reads; a full disk the old one.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cost, path = table.provenance.cost, folder / PROVENANCE
    by_op: dict[str, list[TableRow]] = defaultdict(list)
    for row in table.rows:
        by_op[row.case.op].append(row)
    sections = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    others = {name: section for name, section in sections.items() if name != cost}
    new = {f"{cost}-{op}.csv": _csv(rows) for op, rows in by_op.items()}
    with tempfile.TemporaryDirectory(prefix=".table.", dir=folder) as name:
        waiting = Path(name)
        for file, text in new.items():
            write_text(waiting / file, text)
        said = {**others, cost: table.provenance.model_dump(exclude_none=True)}
        write_text(waiting / PROVENANCE, tomli_w.dumps(said))
        # All that needs space is on the disk. Rows without provenance are no table: none is read until all are there.
        if cost in sections:
            write_text(path, tomli_w.dumps(others))
        for file in new:
            os.replace(waiting / file, folder / file)
        for old in folder.glob(f"{cost}-*.csv"):
            if old.name not in new:
                old.unlink()
        sync_folder(folder)
        os.replace(waiting / PROVENANCE, path)
    sync_folder(folder)
    return folder


def _csv(rows: list[TableRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(map(cells, rows), key=lambda line: _order(list(line.values()))))
    return text.getvalue()


def _order(texts: list[str]) -> tuple[int, ...]:
    """Sorted by what stands in the columns, numbers as numbers."""
    return tuple(int(text) if text.isdecimal() else -1 for text in texts)
