"""`energysplit frontier`: what each budget buys, from a run's saved indices, as tables and figures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli import solving
from energysplit.errors import InputError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from energysplit.allocation.frontier import Frontier, Point


def frontier(
    run: solving.Run,
    stage: solving.Stage = None,
    budget: solving.Budgets = None,
    points: Annotated[int, typer.Option("--points", metavar="N", help="Limits of each budget, at least 2.")] = 12,
    method: solving.Method = None,
    risk: solving.Risk = None,
    multiple_of: solving.Multiple = None,
    bound: solving.Bounds = None,
    mass: solving.Mass = None,
    profile: solving.Profile = None,
    tables: solving.Tables = None,
    strict: solving.Strict = False,
) -> None:
    """Show the predicted gain against each budget, from the saved indices of a stage.

    Prints a table for each budget and draws figures/frontier-BUDGET.svg in the run folder.
    """
    if points < 2:
        raise InputError(f"--points {points}: a whole number of at least 2 expected")
    saved = solving.saved_stage(run, stage)
    from energysplit.allocation.frontier import frontier as frontiers
    from energysplit.cli.console import console
    from energysplit.cli.progress import progress
    from energysplit.output.numbers import duration

    start = time.perf_counter()
    asked = solving.question(
        saved,
        budget=budget,
        method=method,
        risk=risk,
        multiple_of=multiple_of,
        bound=bound,
        mass=mass,
        profile=profile,
        tables=tables,
        strict=strict,
    )
    out = console()
    solving.show_heading(out, asked)
    found = frontiers(saved.net, saved.index, asked.budgets, points=points, progress=progress(), **asked.arguments)
    out.print()
    for each in found.values():
        show_frontier(each, out)
    if not any(each.most > 0 for each in found.values()):
        out.print("no figures: there is nothing to buy at any limit", markup=False)
        return
    for each, given in zip(found.values(), asked.budgets, strict=True):
        path = _draw(run, each, asked.bought_at(given), f"What {each.name} buys at stage {saved.number}")
        out.print(f"figure: {path}", markup=False, soft_wrap=True)
    out.print(f"solved in {duration(time.perf_counter() - start)}", markup=False)


def show_frontier(found: Frontier, out: Console) -> None:
    """Print a table with a row for each limit; the run's own is marked."""
    from energysplit.cli.console import show, si, table
    from energysplit.output.numbers import increment, percent, plain, quantity

    step = increment(found.limit)

    def row(number: int, point: Point) -> tuple[object, ...]:
        alone = [] if found.alone is None else [_share(found.alone[number], found)]
        return (
            si(point.limit, found.unit),
            si(point.price.value, found.unit),
            plain(point.gain, 4),
            _share(point, found),
            *alone,
            point.neurons,
            percent(point.gap),
            plain(point.shadow_price * step) if point.shadow_price else "-",
            "<- the limit" if point.limit == found.limit else "",
        )

    columns = (
        "limit",
        "price",
        "gain",
        "of all",
        *([] if found.alone is None else ["alone"]),
        "neurons",
        "gap",
        f"{quantity(step, found.unit, decimals=0)} more buy",
        "",
    )
    others = "" if found.alone is None else ", the other budgets at their limits (alone: without them)"
    show(
        out,
        f"what {found.name} buys{others}",
        table(columns, (row(number, point) for number, point in enumerate(found.points)), words=0),
    )


def _share(point: Point, found: Frontier) -> str:
    """A point's part of all there is to gain."""
    from energysplit.output.numbers import percent

    return percent(point.gain / found.most, 1) if found.most > 0 else "-"


def _draw(run: Path, found: Frontier, chosen: tuple[float, float] | None, title: str) -> Path:
    """Write a figure into the run folder.

    Raises:
        RunError: the folder can't be written.
    """
    from energysplit.output.atomic import write_text
    from energysplit.output.figure_style import to_svg
    from energysplit.output.frontier_plot import frontier_figure, frontier_file

    path = run / "figures" / frontier_file(found.name)
    try:
        path.parent.mkdir(exist_ok=True)
        return write_text(path, to_svg(frontier_figure(found, chosen, title)))
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror}; the tables above are complete") from error
