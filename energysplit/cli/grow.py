"""`energysplit grow`: run a recipe, or show what it would do."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli.arguments import AllowCode

if TYPE_CHECKING:
    from rich.console import Console

    from energysplit.growth.planning import GrowthPlan
    from energysplit.records import GrowthResult


def grow(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).", metavar="RECIPE")],
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Run folder; default: runs/ and the recipe's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")] = False,
    change: Annotated[
        bool,
        typer.Option(
            "--change", help="With --resume: go on with other values of train, index, step and run, from here on."
        ),
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. train.epochs=5. Repeat.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print model, groups, prices and schedule; write nothing.")
    ] = False,
    allow_code: AllowCode = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the result only.")] = False,
    end_with_input: Annotated[
        bool, typer.Option("--end-with-input", hidden=True, help="End when standard input does; for who starts runs.")
    ] = False,
) -> None:
    """Grow a network as a recipe says: train, index, allocate, split, again and again."""
    from energysplit.cli.processes import follow_input, one_voice

    if end_with_input:
        follow_input()
    with one_voice():
        _grow(recipe, run, resume, change, set_ or [], dry_run, quiet, allow_code)


def _grow(
    recipe: Path,
    run: Path | None,
    resume: bool,
    change: bool,
    overrides: list[str],
    dry_run: bool,
    quiet: bool,
    allow_code: bool,
) -> None:
    """The command itself, in each process.

    Raises:
        typer.Exit: it was interrupted.
    """
    from energysplit.cli.processes import speaks
    from energysplit.cycles import uncollected

    # The recipe is checked before torch is imported: a typo is answered at once.
    from energysplit.recipe import load

    loaded = load(recipe, overrides, allow_code=allow_code)
    with uncollected():
        from energysplit import growth
        from energysplit.cli.console import console

        if dry_run:
            plan = growth.plan(loaded)
            if speaks():
                show_plan(plan, console())
            return
    from energysplit.cli.progress import progress

    folder = run or Path("runs") / loaded.name
    try:
        result = growth.grow(loaded, run_dir=folder, resume=resume, change=change, progress=progress(quiet))
    except KeyboardInterrupt:
        if not speaks():
            raise typer.Exit(130) from None
        words = ["energysplit", "grow", str(recipe), "--run", str(folder), "--resume"]
        words += ["--change"] if change else []
        words += [word for text in overrides for word in ("--set", text)]
        words += ["--allow-code"] if allow_code else []
        typer.echo(
            f"interrupted: everything up to the last finished epoch is in {folder}; to continue: {shlex.join(words)}",
            err=True,
        )
        raise typer.Exit(130) from None
    if speaks():
        show_result(result, console())


def show_result(result: GrowthResult, out: Console) -> None:
    """Print the stages of a finished growth and where its files are."""
    from energysplit.cli.console import show, si, table
    from energysplit.output.numbers import duration, percent

    providers = list(result.records[0].prices) if result.records else []
    rows = [
        (
            record.stage,
            *(si(record.prices[name].value, record.prices[name].unit) for name in providers),
            percent(record.validation.accuracy),
            "-" if record.test is None else percent(record.test.accuracy),
            duration(sum(record.seconds.values())),
        )
        for record in result.records
    ]
    show(out, "stages", table(("stage", *providers, "validation", "test", "time"), rows))
    for record in result.records:
        if record.stopped:
            out.print(f"stage {record.stage}: {record.stopped}", markup=False)
        for note in record.notes:
            out.print(f"stage {record.stage}: {note}", markup=False, soft_wrap=True)
    for line in _comparisons(result):
        out.print(line, markup=False, soft_wrap=True)
    for warning in result.warnings:
        out.print(f"warning: {warning}", markup=False)
    for name, path in (("run", result.run_dir), ("onnx", result.onnx), ("report", result.report)):
        if path is not None:
            out.print(f"{name}: {path}", markup=False, soft_wrap=True)


def _comparisons(result: GrowthResult) -> list[str]:
    """A line for each price of the exported model that was measured."""
    from energysplit.errors import CheckpointError
    from energysplit.output.measured import read_measured

    try:
        found = read_measured(result.run_dir)
    except CheckpointError as error:
        return [str(error)]
    current = found is not None and bool(result.records) and found.weights_sha256 == result.records[-1].weights_sha256
    return [f"{name}: {price.sentence}" for name, price in found.prices.items()] if found and current else []


def show_plan(plan: GrowthPlan, out: Console) -> None:
    """Print what a growth would do."""
    from energysplit.cli.baseline import show_baseline
    from energysplit.cli.console import cost, facts, show, si, table
    from energysplit.cli.groups import show_groups

    image = " x ".join(str(size) for size in plan.image_shape)
    show(out, "dry run: nothing is written", facts({"model": plan.model, "image": image, "device": plan.device}))
    show(out, "price of the seed", facts({name: cost(price) for name, price in plan.prices.items()}))
    units = {name: price.unit for name, price in plan.prices.items()}
    show_groups(out, plan.groups, plan.marginal, units)
    if plan.baseline is not None:
        show_baseline(plan.baseline, plan.train_images, out)
        _show_training(plan, out)
        _show_warnings(plan, out)
        return
    if (text := _multiples(plan)) != "1":
        out.print(f"widths of the first growth become multiples of {text}", markup=False, soft_wrap=True)
        out.print()
    if plan.sizes:
        out.print(f"each growth: {plan.sizes}", markup=False, soft_wrap=True)
        out.print()
    if plan.widths:
        rows = [(name, *widths) for name, widths in plan.widths.items()]
        stages = (f"stage {stage}" for stage in range(len(plan.stages)))
        show(out, "widths of the groups that grow", table(("group", *stages), rows))
    if plan.bounds:
        out.print(_bounds(plan), markup=False, soft_wrap=True)
        out.print()
    rows = [
        (budget["name"], budget["scope"], *(si(budget[key], budget["unit"]) for key in ("limit", "present")))
        for budget in plan.budgets
    ]
    show(out, "budgets of the first growth", table(("budget", "scope", "limit", "seed"), rows, words=2))
    limit_units = {budget["name"]: budget["unit"] for budget in plan.budgets}
    stage_rows = [
        (
            stage["stage"],
            stage["epochs"],
            f"{stage['images_train']:,}",
            *(
                si(stage["limits"][name], unit) if name in stage["limits"] else "-"
                for name, unit in limit_units.items()
            ),
        )
        for stage in plan.stages
    ]
    columns = ("stage", "epochs", "images trained", *limit_units)
    show(out, "schedule: what each stage trains, and its largest price", table(columns, stage_rows))
    _show_training(plan, out)
    wanted, costs = "splitting indices", "about 4/3 of"
    if plan.signed:
        wanted, costs = "splitting indices, of both ends of the spectrum", "about twice the"
    elif plan.fresh:
        wanted, costs = "gradients of fresh neurons", "up to four times the"
    out.print(
        f"each growth: {'1 sweep' if plan.index_sweeps == 1 else f'{plan.index_sweeps} sweeps'} over at most "
        f"{plan.index_images:,} of {plan.train_images:,} training images for the {wanted} (a sweep over an image costs "
        f"{costs} training on it)",
        markup=False,
        soft_wrap=True,
    )
    _show_warnings(plan, out)


def _show_training(plan: GrowthPlan, out: Console) -> None:
    """What trainings do beyond epochs of batches."""
    if plan.training:
        out.print(f"each training: {'; '.join(plan.training)}", markup=False, soft_wrap=True)
        out.print()


def _show_warnings(plan: GrowthPlan, out: Console) -> None:
    for warning in plan.warnings:
        out.print(f"warning: {warning}", markup=False)


def _multiples(plan: GrowthPlan) -> str:
    """The multiples of the groups that can be split, in words."""
    if not isinstance(plan.multiples, dict):
        return str(plan.multiples)
    found: dict[int, list[str]] = {}
    for name, group in plan.groups.items():
        if group.splittable:
            found.setdefault(plan.multiples.get(name, 1), []).append(name)
    if len(found) <= 1:
        return str(next(iter(found), 1))
    return "; ".join(f"{number} ({', '.join(names)})" for number, names in sorted(found.items()))


def _bounds(plan: GrowthPlan) -> str:
    """The groups that the recipe keeps from growing, or from growing far."""
    frozen = [name for name, bound in plan.bounds.items() if bound.frozen]
    bounded = [f"{name} {bound.max_channels}" for name, bound in plan.bounds.items() if not bound.frozen]
    said = [f"frozen: {', '.join(frozen)}"] if frozen else []
    said += [f"channels at most: {', '.join(bounded)}"] if bounded else []
    return f"groups bounded by the recipe: {'; '.join(said)}"
