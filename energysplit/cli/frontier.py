"""`energysplit frontier`: what each budget buys, from a run's saved indices, as tables and figures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli import solving
from energysplit.cli.arguments import AllowCode
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
    allow_code: AllowCode = False,
) -> None:
    """Show the predicted gain against each budget, from the saved indices of a stage.

    Prints a table for each budget and draws figures/frontier-BUDGET.svg in the run folder.
    """
    if points < 2:
        raise InputError(f"--points {points}: a whole number of at least 2 expected")
    saved = solving.saved_stage(run, stage, allow_code)
    from energysplit.output.place import check_writable

    check_writable(run / "figures", "its figures are written into the run folder")
    from energysplit.allocation.frontier import frontier as frontiers
    from energysplit.cli.console import console
    from energysplit.cli.progress import progress
    from energysplit.output.numbers import duration, price_words

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
    found = frontiers(saved.net, asked.index, asked.budgets, points=points, progress=progress(), **asked.arguments)
    out.print()
    for each in found.values():
        show_frontier(each, out)
    if not any(each.most > 0 for each in found.values()):
        out.print("no figures: there is nothing to buy at any limit", markup=False)
        return
    for each, given in zip(found.values(), asked.budgets, strict=True):
        path = _draw(run, each, asked.bought_at(given), f"Stage {saved.number}: gain against {price_words(each.name)}")
        out.print(f"figure: {path}", markup=False, soft_wrap=True)
    out.print(f"solved in {duration(time.perf_counter() - start)}", markup=False)


def show_frontier(found: Frontier, out: Console) -> None:
    """Print a table with a row for each limit at which another choice is bought; the run's own limit is marked."""
    from energysplit.cli.console import si, table
    from energysplit.output.numbers import percent, plain, price_words, quantity, row_step

    most = found.points[-1].gain

    def row(number: int) -> tuple[object, ...]:
        point = found.points[number]
        step = row_step(point.shadow_price, point.limit, found.unit, most - point.gain)
        alone = [] if found.alone is None else [_share(found.alone[number], found)]
        return (
            si(point.limit, found.unit),
            si(point.price.value, found.unit),
            plain(point.gain, 4),
            _share(point, found),
            *alone,
            point.neurons,
            percent(point.gap),
            "-" if step is None else quantity(step, found.unit, decimals=0),
            "-" if step is None else plain(point.shadow_price * step),
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
        "a step of",
        "would buy",
        "",
    )
    others = "" if found.alone is None else ", the other budgets at their limits (alone: without them)"
    out.print(f"gain against {price_words(found.name)}{others}", style="bold", markup=False, soft_wrap=True)
    out.print(table(columns, map(row, rows_shown(found)), words=0))
    if note := _from_where_on(found):
        out.print(note, markup=False, soft_wrap=True)
    out.print()


def rows_shown(found: Frontier) -> list[int]:
    """The points that get a row: those whose choice is not that of the row above, and the budget's own limit."""
    points = found.points
    return [
        number
        for number, point in enumerate(points)
        if number == 0 or point.limit == found.limit or not _same(point, points[number - 1])
    ]


def _same(one: Point, other: Point) -> bool:
    """Whether two points are of one choice."""
    return (one.price.value, one.gain, one.allocation.chosen) == (
        other.price.value,
        other.gain,
        other.allocation.chosen,
    )


def _from_where_on(found: Frontier) -> str:
    """The limit after which nothing changes, and why; "" where the last limit still bought something new."""
    from energysplit.cli.console import si

    last = found.points[-1]
    first = next(point for point in found.points if _same(point, last))
    if first is last:
        return ""
    text = f"from {si(first.limit, found.unit)} on nothing changes"
    if found.alone is None or not found.alone[-1].gain > last.gain:
        return text
    end = next(point for point in found.alone if _same(point, found.alone[-1]))
    return f"{text}: the other budgets bind (alone: {_share(end, found)} at {si(end.limit, found.unit)})"


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
