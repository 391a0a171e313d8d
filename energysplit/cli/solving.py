"""The options of the commands that solve a saved stage again, and what they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli import run_folder

if TYPE_CHECKING:
    from rich.console import Console

    from energysplit.growth.saved import SavedStage
    from energysplit.growth.solve_again import Question

Run = Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")]
Stage = Annotated[
    int | None, typer.Option("--stage", metavar="N", help="Stage; default: the last that has splitting indices.")
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="PROVIDER=LIMIT[:SCOPE]",
        help="In place of the recipe's budgets: latency=6ms, macs=1.5x, params=1M:network. Repeat. An amount is a "
        "limit of the network; a factor multiplies the stage's price, with :network the seed's.",
    ),
]
Method = Annotated[str | None, typer.Option("--method", metavar="M", help="milp, lp, greedy, top_k, random, cheapest.")]
Risk = Annotated[
    float | None,
    typer.Option("--risk", metavar="K", help="Buy only neurons that gain at K standard errors to the bad side."),
]
Multiple = Annotated[
    str | None, typer.Option("--multiple-of", metavar="N", help="Widths that grow become multiples of N; or auto.")
]
Bounds = Annotated[
    list[str] | None,
    typer.Option(
        "--bound", metavar="PATTERN=N|frozen", help="Most channels of the groups that match, or none more. Repeat."
    ),
]
Mass = Annotated[
    float | None,
    typer.Option("--mass", metavar="C", help="Total size of the copies' shares; above 1 for signed splits."),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME|FILE", help="Hardware profile; default: that of the run."),
]
Tables = Annotated[
    str | None,
    typer.Option("--tables", metavar="DIR", help="Folder of the cost table; default: that of the run or profile."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a cost table of another machine or runtime.")]


def saved_stage(run: Path, number: int | None, allow_code: bool) -> SavedStage:
    """The stage a command is about, after what can be refused without torch."""
    run_folder.check_grown(run)
    if not allow_code:
        run_folder.check_code(run)
    resolved = run_folder.recipe(run)
    from energysplit.recipe import from_dict
    from energysplit.recipe.changes import completed
    from energysplit.recipe.saved import RECIPE_FILE

    recipe = from_dict(completed(resolved), source=str(run / RECIPE_FILE))
    from energysplit.growth.saved import load_saved

    return load_saved(run, recipe, number)


def question(
    saved: SavedStage,
    *,
    budget: Sequence[str] | None,
    method: str | None,
    risk: float | None,
    multiple_of: str | None,
    bound: Sequence[str] | None,
    mass: float | None,
    profile: str | None,
    tables: str | None,
    strict: bool,
) -> Question:
    """What the options ask of a stage."""
    from energysplit.cli.arguments import given_bounds, given_budgets, given_multiple
    from energysplit.growth.solve_again import ask_again
    from energysplit.recipe import HardwareRecipe

    growth = {
        "method": method,
        "risk": risk,
        "multiple_of": None if multiple_of is None else given_multiple(multiple_of),
    }
    return ask_again(
        saved,
        budgets=given_budgets(budget),
        hardware=HardwareRecipe(profile=profile, tables=tables, strict=strict),
        growth={key: value for key, value in growth.items() if value is not None},
        mass=mass,
        bounds=given_bounds(bound),
    )


def _drawn(saved: SavedStage) -> str:
    return ", drawn towards their groups' means" if saved.recipe.index.shrinkage == "group" else ""


def show_heading(out: Console, asked: Question) -> None:
    """Say which stage is solved again, and what its indices are."""
    saved = asked.saved
    found = list(saved.index.values())
    images = f"{found[0].images:,} {'held-out ' if found[0].held_out else ''}images" if found else "no images"
    neurons = sum(len(each.value) for each in found)
    for text in asked.warnings:
        out.print(f"warning: {text}", markup=False, soft_wrap=True)
    out.print(
        f"run {saved.run}, stage {saved.number}: splitting indices of {neurons} neurons in {len(found)} groups, from "
        f"{images}{_drawn(saved)}",
        style="bold",
        markup=False,
        soft_wrap=True,
    )
    out.print()
