"""`energysplit export`: write the ONNX model of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from energysplit.cli.arguments import AllowCode


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write; default: model.onnx in the run folder.")
    ] = None,
    allow_code: AllowCode = False,
) -> None:
    """Export the last stage's network to ONNX, and compare it in ONNX Runtime."""
    from energysplit.cli.arguments import file_to_write
    from energysplit.cli.run_folder import check_code, last_stage, load_stage

    stage = last_stage(run)
    if not allow_code:
        check_code(run)
    path = out or run / "model.onnx"
    file = file_to_write("--out", path, default=out is None)
    from energysplit.output.onnx_export import export_with_parity

    parity = export_with_parity(load_stage(run, stage), file)
    typer.echo(
        f"{path}: stage {stage.name}; ONNX Runtime differs from torch by at most {parity.absolute:.2g} "
        f"({parity.relative:.2g} of the largest output) on {parity.images} random images"
    )
