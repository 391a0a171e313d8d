"""Writes cost tables: `<cost>-<op>.csv` and the cost's section of `provenance.toml`, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import tomli_w

from energysplit.costs.table import PROVENANCE, CostTable, TableRow, cells, columns
from energysplit.errors import InputError
from energysplit.output.atomic import sync_folder, write_text
from energysplit.plain_data import read_toml

_WAITING = ".table."
"""How the folder of files that wait to be put in place begins."""


def write(table: CostTable, folder: Path | str) -> Path:
    """The folder, holding the table; tables of other costs in it stay.

    A kill leaves the old table, the new one, or files without provenance, which nobody reads; a full disk the old one.
    What a killed write left waiting is removed by the next: nobody else may write to the folder meanwhile.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_WAITING}*"):
        shutil.rmtree(left)
    cost, path = table.provenance.cost, folder / PROVENANCE
    by_op: dict[str, list[TableRow]] = defaultdict(list)
    for row in table.rows:
        by_op[row.case.op].append(row)
    sections = _sections(path) if path.exists() else {}
    others = {name: section for name, section in sections.items() if name != cost}
    new = {f"{cost}-{op}.csv": _csv(rows) for op, rows in by_op.items()}
    with tempfile.TemporaryDirectory(prefix=_WAITING, dir=folder) as name:
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
