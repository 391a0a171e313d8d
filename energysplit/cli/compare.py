"""`energysplit compare`: runs side by side, from their journals, on one page of figures, tables and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli import run_folder
from energysplit.errors import RunError

if TYPE_CHECKING:
    from energysplit.output.comparison import ComparedRun


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.", metavar="RUN...")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the page; new, or an earlier comparison's.")
    ] = Path("comparison"),
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", metavar="NAME", help="Compare this cost; default: all that every run reports."),
    ] = None,
) -> None:
    """Compare runs: accuracy against each cost, as figures, tables and differences with intervals over seeds.

    Runs whose recipes differ in seed and name only are one method. Neither data nor training is needed.
    """
    from energysplit.output.comparison_content import summary
    from energysplit.output.comparison_doubts import compared
    from energysplit.output.comparison_files import check_folder, write_comparison

    check_folder(out)
    found = compared([_read(run) for run in runs], provider or ())
    path = write_comparison(out, found)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(summary(found))
    typer.echo(f"comparison: {path}")


def _read(run: Path) -> ComparedRun:
    """A run from its folder.

    Raises:
        RunError: there is no such folder, or it has no finished stage.
    """
    from energysplit.growth.journal import JOURNAL_FILE, read
    from energysplit.output.comparison import ComparedRun
    from energysplit.output.measured import read_measured
    from energysplit.recipe import completed

    if not run.is_dir():
        raise RunError(f"{run}: no such run folder; expected a folder that `energysplit grow` wrote")
    recipe = completed(run_folder.recipe(run))
    journal = run / JOURNAL_FILE
    if not journal.exists():
        raise RunError(f"{run}: no finished stage yet, so nothing to compare; run it with --resume first")
    records = tuple(read(journal))
    measured = read_measured(run)
    # A measurement of another stage's network says nothing about this one.
    if measured is not None and (not records or measured.weights_sha256 != records[-1].weights_sha256):
        measured = None
    return ComparedRun(str(run), recipe, records, measured)
