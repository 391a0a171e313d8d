"""Writes a run's report: `report.html`, `report.md` and the figures, from its recipe and its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from energysplit.errors import CheckpointError, InputError
from energysplit.output.atomic import atomic_folder, write_bytes, write_text
from energysplit.output.environment import ENVIRONMENT_FILE, read_environment
from energysplit.output.environment import environment as this_environment
from energysplit.output.measured import MeasuredRun, read_measured
from energysplit.output.parity import OnnxParity
from energysplit.recipe.changed import RecipeChange
from energysplit.records import JOURNAL_FILE, GrowthRecord


def write_report(
    run_dir: Path | str,
    recipe: Mapping[str, Any],
    records: Sequence[GrowthRecord],
    parity: OnnxParity | None = None,
    changes: Sequence[RecipeChange] = (),
) -> Path:
    """The path of `report.html`.

    Args:
        run_dir: existing folder; `report.html`, `report.md` and `figures/` in it are replaced, each atomically;
            figures of frontiers are kept.
        recipe: the resolved recipe.
        records: the journal, stages in order.
        parity: of the exported model; None if there is none.
        changes: of the recipe, while the run went on.

    What the exported model was measured to cost is read from `measured.json` in the folder, where there is one of this
    run's last stage. Versions and machine are those the run kept (`environment.json`); without them the report states
    those it is written with, and says so.

    Returns:
        `run_dir / "report.html"`.

    Raises:
        InputError: the journal has no line, or its stages do not have the same prices.
    """
    # Matplotlib comes with these: not before there is something to draw.
    from energysplit.output.figure_style import to_png, to_svg
    from energysplit.output.frontier_plot import FRONTIER_FILES
    from energysplit.output.plots import growth_picture
    from energysplit.output.report_content import report_document
    from energysplit.output.report_html import to_html
    from energysplit.output.report_markdown import to_markdown

    run_dir = Path(run_dir)
    if not records:
        raise InputError(f"{run_dir}: the journal has no stage to report; let one stage end first")
    environment, title = read_environment(run_dir), "Versions and machine of the run"
    if environment is None:
        damaged = f" ({ENVIRONMENT_FILE} can't be read)" if (run_dir / ENVIRONMENT_FILE).exists() else ""
        environment, title = this_environment(), f"Versions and machine this report was written with{damaged}"
    names = list(records[0].prices)
    odd = [record.stage for record in records if not names or record.prices.keys() != records[0].prices.keys()]
    if odd:
        raise InputError(f"{run_dir / JOURNAL_FILE}: stage {odd[0]} has other prices than stage 0, or none")
    document = report_document(recipe, records, parity, environment, title, _measured(run_dir, records[-1]), changes)
    with atomic_folder(run_dir / "figures") as figures:
        for picture in document.pictures():
            write_text(figures / f"{picture.name}.svg", to_svg(picture.figure))
        # `energysplit frontier` drew these; each says which stage it is of.
        for kept in (run_dir / "figures").glob(FRONTIER_FILES):
            write_bytes(figures / kept.name, kept.read_bytes())
        picture_of_growth = growth_picture(records, names[0])
        write_text(figures / "growth.svg", to_svg(picture_of_growth))
        write_bytes(figures / "growth.png", to_png(picture_of_growth))
    write_text(run_dir / "report.md", to_markdown(document))
    return write_text(run_dir / "report.html", to_html(document))


def _measured(run_dir: Path, last: GrowthRecord) -> MeasuredRun | str | None:
    """What was measured of the last stage's network; a sentence where the file is damaged, None where nothing was."""
    try:
        found = read_measured(run_dir)
    except CheckpointError as error:
        return str(error)
    return found if found is not None and found.weights_sha256 == last.weights_sha256 else None
