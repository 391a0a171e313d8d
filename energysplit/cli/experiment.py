"""`energysplit experiment`: the runs of an experiment's file, started, resumed and compared on one page."""

from __future__ import annotations

import shlex
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli.arguments import AllowCode
from energysplit.cores import usable_cores
from energysplit.errors import InputError, refusals

if TYPE_CHECKING:
    from energysplit.experiment.plan import Plan
    from energysplit.experiment.results import Results
    from energysplit.experiment.runner import Outcome


class SizeName(StrEnum):
    """The sizes of an experiment, as the command line takes them."""

    small = "small"
    full = "full"


def experiment(
    file: Annotated[Path, typer.Argument(help="Experiment file (TOML).", metavar="FILE")],
    size: Annotated[SizeName, typer.Option("--size", help="What is run.")] = SizeName.small,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key in all recipes, e.g. data.root=images. Repeat."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", metavar="N", min=0, help="Run this seed; default: the file's. Repeat.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help="Run this method and those it follows; default: all. Repeat."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, help="Runs at a time; default: as the cores allow, 1 on a GPU."),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all experiments' runs.")] = Path(
        "runs"
    ),
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the results; default: that of the runs.")
    ] = None,
    allow_code: AllowCode = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every recipe and list the runs; write nothing.")
    ] = False,
) -> None:
    """Run a set of growths that answer one question, and compare them; what is finished is not run again."""
    from energysplit.experiment.plan import make_plan

    plan = make_plan(
        file,
        size.value,
        overrides=set_ or [],
        seeds=seed or [],
        methods=method or [],
        runs=runs,
        allow_code=allow_code,
    )
    if dry_run:
        _show_plan(plan)
        return
    words = ["energysplit", "experiment", str(file), "--size", size.value]
    options = [("--set", set_), ("--seed", seed), ("--method", method)]
    words += [word for option, values in options for value in values or [] for word in (option, str(value))]
    words += [] if jobs is None else ["--jobs", str(jobs)]
    words += [] if runs == Path("runs") else ["--runs", str(runs)]
    words += [] if out is None else ["--out", str(out)]
    words += ["--allow-code"] if allow_code else []
    _run(plan, jobs or default_jobs(plan), out or plan.folder, shlex.join(words))


def _run(plan: Plan, jobs: int, out: Path, command: str) -> None:
    """Run the plan and write its results.

    Raises:
        typer.Exit: it was interrupted, or a run failed.
    """
    from energysplit.experiment.runner import Runner
    from energysplit.experiment.signals import Ended
    from energysplit.output.comparison_files import check_folder
    from energysplit.output.place import check_writable

    check_folder(out / "comparison")
    check_writable(out, "name another folder with --out" if out != plan.folder else "choose other folders with --runs")
    typer.echo(f"{plan.experiment.title}: {len(plan.runs)} runs, {jobs} at a time, in {plan.folder}")
    try:
        with refusals(
            f"go on: {command}. Nothing runs any more, and everything up to the last finished epoch of each run is kept"
        ):
            outcome = Runner(plan, jobs, _say).run()
    except Ended as ended:
        interrupted = ended.number == signal.SIGINT
        typer.echo(
            f"{'interrupted' if interrupted else ended}: nothing runs any more, and everything up to the last finished "
            f"epoch of each run is kept; to continue: {command}",
            err=True,
        )
        raise typer.Exit(130 if interrupted else 128 + ended.number) from None
    for name, lines in outcome.failed.items():
        typer.echo(f"failed: {plan.run(name).title}: {lines[0]}", err=True)
        for line in lines[1:]:
            typer.echo(f"  {line}", err=True)
    for name, reason in outcome.skipped.items():
        typer.echo(f"skipped: {plan.run(name).title}: {reason}", err=True)
    if outcome.finished:
        _report(plan, outcome, out, command)
    if outcome.failed:
        typer.echo(f"to run what is missing: {command}", err=True)
        raise typer.Exit(1)


def _report(plan: Plan, outcome: Outcome, out: Path, command: str) -> None:
    from energysplit.experiment.results import collect, write_results

    results = collect(plan, outcome, command)
    files = write_results(out, results)
    show_answers(results)
    for path in files:
        typer.echo(f"{path.parent.name if path.suffix == '.html' else path.stem}: {path}")


def show_answers(results: Results) -> None:
    """Print what to doubt, and each claim with its answer."""
    for warning in results.comparison.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for answer in results.answers:
        typer.echo(f"{answer.verdict}: {answer.said}")
        typer.echo(f"  {answer.why}")


def _say(text: str) -> None:
    typer.echo(text)


def default_jobs(plan: Plan) -> int:
    """Runs at a time: one on a GPU, else as many as the cores allow with the threads of the greediest run."""
    devices = {run.recipe.run.device for run in plan.runs}
    if any(device.startswith("cuda") for device in devices) or ("auto" in devices and _cuda()):
        return 1
    return max(1, (usable_cores() or 1) // max(run.recipe.run.threads or 1 for run in plan.runs))


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _show_plan(plan: Plan) -> None:
    """Print what would be run and what it lacks; a run of another recipe is an error here too."""
    from energysplit.cli.console import console, show, table
    from energysplit.experiment.load import expected
    from energysplit.experiment.state import check_run, state_of

    out = console()
    out.print(f"{plan.experiment.title}: {plan.experiment.question}", markup=False, soft_wrap=True)
    out.print(f"size {plan.size}: {expected(plan.experiment, plan.size)}", markup=False, soft_wrap=True)
    out.print()
    rows = []
    left = 0
    for number, run in enumerate(plan.runs, start=1):
        check_run(run.title, run.folder, run.recipe)
        state, leader = state_of(run.folder, run.recipe), plan.leader(run)
        shared = 0 if leader is run else run.recipe.train.epochs_at(0)
        left += 0 if state.finished else max(0, run.epochs - max(state.epochs, shared))
        done = "finished" if state.finished else f"{state.stages} stages" if state.stages else "begun" * state.begun
        rows.append(
            (
                number,
                run.title,
                run.recipe.growth.stages + 1,
                run.epochs,
                leader.name if leader is not run else "",
                ", ".join(run.needs),
                done,
            )
        )
    columns = ("", "run", "stages", "epochs", "stage 0 of", "follows", "done")
    show(out, "runs, in this order; nothing is written", table(columns, rows, words=2))
    total = sum(run.epochs for run in plan.runs)
    out.print(
        f"{len(plan.runs)} runs of {total} epochs together at most; {plan.saved_epochs} of them are saved by sharing "
        f"stage 0; {left} are left to train",
        markup=False,
        soft_wrap=True,
    )
    out.print(f"run folders, recipes and logs: {plan.folder}", markup=False, soft_wrap=True)
    for what, methods in _missing(plan).items():
        every = len(methods) == len({run.method for run in plan.runs})
        typer.echo(f"warning: {what} ({'all runs' if every else 'runs of: ' + ', '.join(methods)})", err=True)


def _missing(plan: Plan) -> dict[str, list[str]]:
    """What runs would end at as things are: no folder of images, cost tables or GPU; and these runs' methods."""
    from energysplit.experiment.state import state_of
    from energysplit.growth.priced import priced

    found: dict[str, list[str]] = {}
    for run in plan.runs:
        if state_of(run.folder, run.recipe).finished:
            continue
        data, device = run.recipe.data, run.recipe.run.device
        lacks = []
        if data.root is not None and not data.download and not Path(data.root).expanduser().is_dir():
            lacks.append(f"data.root = {data.root!r}: no such folder; name it with --set data.root=FOLDER")
        if device.startswith("cuda") and not _cuda():
            lacks.append(f"run.device = {device!r}: torch sees no CUDA device")
        try:
            priced(run.recipe)
        except InputError as error:
            lacks.append(str(error))
        for what in lacks:
            found.setdefault(what, [])
            found[what] += [run.method] * (run.method not in found[what])
    return found
