"""`energysplit report`: write the report of a run again, from its journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from energysplit.cli import run_folder
from energysplit.errors import RunError


def report(run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")]) -> None:
    """Write report.html, report.md and the figures of a run again."""
    recipe = run_folder.recipe(run)
    from energysplit.growth import journal
    from energysplit.output.onnx_export import read_parity
    from energysplit.output.place import check_writable
    from energysplit.output.report import write_report
    from energysplit.recipe.saved import saved_changes
    from energysplit.records import JOURNAL_FILE

    check_writable(run, "the report is written into the run folder")
    records = journal.read(run / JOURNAL_FILE)
    if not records:
        raise RunError(f"{run / JOURNAL_FILE}: no finished stage yet; run `energysplit grow` with --resume first")
    onnx = run / "model.onnx"
    parity = read_parity(onnx) if onnx.is_file() else None
    path = write_report(run, recipe, records, parity, saved_changes(run))
    typer.echo(f"report: {path}")
