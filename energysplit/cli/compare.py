"""`energysplit compare`: runs side by side, from their journals, on one page of figures, tables and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    from energysplit.growth.compared import read_run
    from energysplit.output.comparison_content import summary
    from energysplit.output.comparison_doubts import compared
    from energysplit.output.comparison_files import check_folder, write_comparison
    from energysplit.output.place import check_writable
    from energysplit.recipe.saved import RECIPE_FILE
    from energysplit.records import JOURNAL_FILE

    files = (RECIPE_FILE, JOURNAL_FILE)

    # `runs/*` may hold more than runs: what is no run at all is left out, unless nothing else was given.
    kept = [run for run in runs if not run.is_dir() or any((run / file).exists() for file in files)] or runs
    for run in runs:
        if run not in kept:
            typer.echo(f"warning: {run} is left out: no run folder, it has neither {' nor '.join(files)}", err=True)
    check_folder(out)
    check_writable(out, "name another folder with --out")
    found = compared([read_run(run) for run in kept], provider or ())
    path = write_comparison(out, found)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(summary(found))
    typer.echo(f"comparison: {path}")
