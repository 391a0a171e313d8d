"""`energysplit report`: write the report of a run again, from its journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from energysplit.errors import RunError


def report(run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")]) -> None:
    """Write report.html, report.md and the figures of a run again."""
    recipe = _recipe(run)
    from energysplit.growth import journal
    from energysplit.output.onnx_export import read_parity
    from energysplit.output.report import write_report

    records = journal.read(run / "journal.jsonl")
    if not records:
        raise RunError(f"{run / 'journal.jsonl'}: no finished stage yet; run `energysplit grow` with --resume first")
    onnx = run / "model.onnx"
    path = write_report(run, recipe, records, read_parity(onnx) if onnx.is_file() else None)
    typer.echo(f"report: {path}")


def _recipe(run: Path) -> dict[str, Any]:
    """The resolved recipe a run folder holds."""
    file = run / "recipe.json"
    try:
        recipe = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{file} can't be read: {error.strerror}; expected a run folder that `energysplit grow` wrote"
        ) from None
    except ValueError as error:
        raise RunError(f"{file} is damaged: it is no JSON ({error}); run the recipe again in a new folder") from None
    if not isinstance(recipe, dict):
        raise RunError(f"{file} is damaged: expected a table of recipe keys; run the recipe again in a new folder")
    return recipe
