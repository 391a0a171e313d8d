"""`energysplit allocate`: choose neurons again from a run's saved indices, without data and without training."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energysplit.cli import solving
from energysplit.cli.arguments import AllowCode, file_to_write
from energysplit.errors import InputError
from energysplit.kinds import FRESH

if TYPE_CHECKING:
    from rich.console import Console

    from energysplit.growth.solve_again import Question
    from energysplit.types import Allocation

BY_SLOPE = ", by the slope of the relaxation; whole neurons come in steps"


def allocate(
    run: solving.Run,
    stage: solving.Stage = None,
    budget: solving.Budgets = None,
    method: solving.Method = None,
    risk: solving.Risk = None,
    multiple_of: solving.Multiple = None,
    bound: solving.Bounds = None,
    mass: solving.Mass = None,
    profile: solving.Profile = None,
    tables: solving.Tables = None,
    strict: solving.Strict = False,
    allow_code: AllowCode = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the allocation to this file, as JSON.")
    ] = None,
) -> None:
    """Choose the neurons of a stage again, under other budgets, from its saved indices.

    Needs no data and trains nothing; the run is left as it is.
    """
    if out is not None:
        out = _checked_out(out, run)
    saved = solving.saved_stage(run, stage, allow_code)
    from energysplit.cli.console import console

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
    found = asked.solve()
    seconds = time.perf_counter() - start
    show_allocation(asked, found, seconds, console())
    if out is not None:
        _write(out, as_json(asked, found, seconds))
        typer.echo(f"allocation: {out}")


def _write(out: Path, found: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    from energysplit.output.atomic import write_text

    try:
        write_text(out, json.dumps(found, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"--out {out}: can't be written: {error.strerror}; choose another file") from error


def _checked_out(out: Path, run: Path) -> Path:
    """The file itself; nothing of the run is written over.

    Raises:
        InputError: it is inside the run, or no file that can be written.
    """
    file = file_to_write("--out", out)
    if run.resolve() in file.parents:
        raise InputError(f"--out {out}: is inside the run, which is left as it is; choose a file elsewhere")
    return file


def show_allocation(asked: Question, found: Allocation, seconds: float, out: Console) -> None:
    """Print prices against limits, the groups that grow, and what the solution is worth."""
    from energysplit.cli.console import facts, show, si, table
    from energysplit.costs import NetworkPricer
    from energysplit.growth.saved import added
    from energysplit.output.numbers import percent, plain, provider_name, signed, would_buy

    solving.show_heading(out, asked)
    net = asked.saved.net
    rows = []
    for (name, price), budget, seed in zip(found.price.items(), asked.budgets, asked.seed.values(), strict=True):
        present = NetworkPricer(net, budget.provider).price()
        prices = (seed.value if seed else None, present.value, price.value, found.limit[name], found.left[name])
        rows.append(
            (provider_name(name), budget.scope, *("-" if value is None else si(value, price.unit) for value in prices))
        )
    show(out, "budgets", table(("budget", "scope", "seed", "now", "after", "limit", "left"), rows, words=2))
    groups = [
        (
            name,
            *([kinds_in_words(found, name)] if found.kinds else []),
            width,
            width + added(found, name),
            len(found.split[name]),
        )
        for name, width in net.widths.items()
        if name in found.split
    ]
    if groups:
        split = "neurons" if asked.saved.recipe.index.method == FRESH else "neurons split"
        columns = ("group", *(["kinds"] if found.kinds else []), "width", "after", split)
        show(out, "groups that grow", table(columns, groups, words=2 if found.kinds else 1, wraps=0))
    change = asked.saved.loss_change(found.predicted_gain)
    worth = {"predicted gain": plain(found.predicted_gain, 4)}
    if change is not None:
        drawn = asked.saved.recipe.index.shrinkage != "none"
        by = ", indices shrunk" if drawn else ""
        worth["predicted loss change"] = f"{signed(change, 4)} at the recipe's step ({_step(asked)}){by}"
    worth["gap to the bound"] = "not asked" if math.isnan(found.gap) else percent(found.gap)
    for name, price in found.price.items():
        buys = would_buy(found.shadow_price[name], found.limit[name], price.unit, found.predicted_gain)
        worth[provider_name(name)] = f"{buys}{BY_SLOPE}" if found.shadow_price[name] > 0 else buys
    worth["solved in"] = f"{seconds:.2f} s by {found.method}"
    show(out, "what it is worth", facts(worth))
    out.print(found.status, markup=False, soft_wrap=True)


def kinds_in_words(found: Allocation, group: str) -> str:
    """How many splits of each kind a group makes."""
    from energysplit.output.numbers import counted_kinds

    return counted_kinds(found.kinds[group].values(), found.mass)


def as_json(asked: Question, found: Allocation, seconds: float) -> dict[str, Any]:
    """The allocation and what it answers, as plain JSON."""
    from energysplit.growth.saved import grown_widths

    saved, arguments = asked.saved, asked.arguments
    bounds = {
        pattern: {"max_channels": bound.max_channels, "frozen": bound.frozen}
        for pattern, bound in (arguments.get("bounds") or {}).items()
    }
    return {
        "run": str(saved.run),
        "stage": saved.number,
        "weights_sha256": saved.record.weights_sha256 if saved.record else None,
        "index_sha256": saved.record.index_sha256 if saved.record else None,
        "budgets": [
            {"name": name, "scope": budget.scope, "given": budget.limit}
            for name, budget in zip(found.limit, asked.budgets, strict=True)
        ],
        "method": found.method,
        "risk": arguments.get("risk", 0.0),
        "multiple_of": arguments.get("multiple_of", 1),
        "mass": found.mass,
        "bounds": bounds,
        "split": found.split,
        "kinds": found.kinds,
        "widths": grown_widths(saved.net.widths, found),
        "price": {name: asdict(cost) for name, cost in found.price.items()},
        "limit": found.limit,
        "left": found.left,
        "predicted_gain": found.predicted_gain,
        "predicted_loss_change": saved.loss_change(found.predicted_gain),
        "gap": _known(found.gap),
        "shadow_price": {name: _known(price) for name, price in found.shadow_price.items()},
        "status": found.status,
        "seconds": seconds,
    }


def _known(value: float) -> float | None:
    """NaN, which JSON has not, as null."""
    return None if math.isnan(value) else value


def _step(asked: Question) -> str:
    step = asked.saved.recipe.step
    return f"{step.policy}, {step.size:g}"
