"""The dry run of a baseline: its chain of sizes and epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from energysplit.cli.console import show, si, table

if TYPE_CHECKING:
    from rich.console import Console

    from energysplit.growth.baselines.plan import BaselinePlan


def show_baseline(plan: BaselinePlan, train_images: int, out: Console) -> None:
    """Print what a baseline does in place of growing."""
    out.print(plan.said, markup=False, soft_wrap=True)
    out.print()
    rows = []
    for stage in plan.stages:
        cells: list[object] = [
            stage.stage,
            stage.epochs,
            f"{stage.epochs * train_images:,}",
            f"{stage.learning_rate:g}",
        ]
        cells.append("learnt" if stage.widths is None else sum(stage.widths.values()))
        for name, unit in plan.units.items():
            cells.append("learnt" if stage.prices is None else si(stage.prices[name], unit))
            cells.append(si(stage.limits[name], unit) if name in stage.limits else "-")
        rows.append(cells)
    prices = [column for name in plan.units for column in (name, f"{name} at most")]
    columns = ("stage", "epochs", "images trained", "rate", "channels", *prices)
    show(out, "stages: what each trains, and its network", table(columns, rows))
    known = [stage for stage in plan.stages if stage.widths is not None]
    names = list(known[0].widths or ())
    widths = [(name, *((stage.widths or {})[name] for stage in known)) for name in names]
    show(out, "widths, as far as they are known", table(("group", *(f"stage {s.stage}" for s in known)), widths))
