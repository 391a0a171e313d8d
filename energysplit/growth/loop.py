"""Grows a network from a recipe: train, index, allocate, split, stage after stage, then export, measure and report.

Baselines go the same way; only what follows on a training is another network.

A stage is finished when its journal line is written. A run that is killed at any moment and resumed repeats at most
one epoch or one growth, with the same seeds, and ends with the same journal and weights (on one machine, on CPU).

Several processes train and index together; the main one alone decides, writes and shows, and the others wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from energysplit.errors import CheckFailed, InputError, RunError, refusals
from energysplit.growth import journal, stage
from energysplit.growth.evaluation import evaluated
from energysplit.growth.folder import RunFolder, TrainingState, check_folder
from energysplit.growth.following import Following, again, beginning, following
from energysplit.growth.measured import measure_run
from energysplit.growth.noted import DATA_FILE, DATA_KEY, hold
from energysplit.growth.notes import Notes
from energysplit.growth.setup import Setup, prepare
from energysplit.output.onnx_export import export_with_parity
from energysplit.output.parity import OnnxParity
from energysplit.output.report import write_report
from energysplit.output.tensorboard import FOLDER, Curves
from energysplit.progress import Progress, SilentProgress
from energysplit.recipe import Recipe, load, override
from energysplit.records import CostRecord, GrowthRecord, GrowthResult
from energysplit.train.processes import watched


def grow(
    recipe: Recipe | Path | str,
    *,
    run_dir: Path | str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    change: bool = False,
    progress: Progress | None = None,
) -> GrowthResult:
    """Grow a network as the recipe says; leaves a run folder with everything in it.

    Args:
        recipe: a `Recipe` or the path of one.
        run_dir: the run folder; `runs/<name>` by default.
        overrides: "key=value" settings over the recipe.
        resume: continue the run in the folder.
        change: continue it with a recipe that differs where finished stages don't depend on it (`CHANGEABLE` in
            `energysplit.recipe.changed`); the stages that follow are trained with it, and say so.
        progress: what work is reported to; silent by default.

    Raises:
        InputError: of the kind that fits: recipe, data, model, budget, run folder. Nothing was written.
        RunError: the disk is full, say, or the folder is gone; what was finished before is as it was.
        OSError: the recipe's own model or data could not read a file, or broke off; nothing was written.
        CheckFailed: a check of the run failed; stages before it are intact.
        ProcessLost: of several processes one ended; what it did is in the folder.
    """
    if not isinstance(recipe, Recipe):
        recipe = load(recipe, overrides)
    elif overrides:
        recipe = override(recipe, overrides)
    progress = progress or SilentProgress()
    path = Path(run_dir) if run_dir is not None else Path("runs") / recipe.name
    if change and not resume:
        raise InputError("--change is for a run that goes on; give --resume too")
    check_folder(path, recipe, resume, change)
    with watched(path):
        setup = prepare(recipe)
        with refusals(f"go on with --resume; everything up to the last finished epoch is in {path}"):
            return _grow(setup, path, resume, change, progress)


def _grow(setup: Setup, path: Path, resume: bool, change: bool, progress: Progress) -> GrowthResult:
    """`grow`, of a recipe that is ready to run into a folder that may be used."""
    recipe = setup.recipe
    team, main = setup.session.team, setup.session.is_main
    if not main:
        progress = SilentProgress()
    folder = RunFolder(path, setup.seed.module)
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        progress.line(f"warning: {text}")

    def begin() -> list[GrowthRecord]:
        """The stages finished before."""
        held.enter_context(folder.opened(recipe, resume, change))
        for text in setup.priced.warnings:
            warn(text)
        if setup.splits.files:
            root = str(recipe.data.root)
            hold(
                path / DATA_FILE,
                {"root": root, DATA_KEY: setup.splits.files},
                DATA_KEY,
                f"run folder {path} was started with other images than {root} holds now: other files, or other class "
                f"folders ({DATA_FILE}); put those back, or choose another folder with --run",
            )
        if setup.teacher is not None:
            setup.teacher.hold(path)
        if (sizes := setup.baseline.reference if setup.baseline else setup.sizes) is not None:
            sizes.hold(path)
        records, problems = folder.recover()
        for problem in problems:
            warn(f"{problem}; going on from {_place(len(records))}")
        if _finished(records) and folder.differs(recipe):
            raise RunError(
                f"the run in {path} is finished: no stage is left that a changed recipe would be for; run it in "
                "another folder with --run"
            )
        for text in folder.adopt(recipe, len(records)):
            progress.line(text)
        if resume and not records and not (path / "progress").exists():
            warn(f"nothing to resume in {path}; starting anew")
        return records

    with setup.session, ExitStack() as held:
        records = team.on_main(begin)
        state = None
        if not _finished(records):
            state = team.in_turn(lambda: _state(setup, folder, records, warn), first=main)
            _check_state(setup, path, state)
        with Curves(path / FOLDER if recipe.run.tensorboard and main else None, records) as curves:
            while state is not None:
                progress.stage(state.stage, recipe.growth.stages + 1, f"{sum(state.net.widths.values())} channels")
                record, state = _run_stage(setup, folder, state, progress, curves)
                records.append(record)

        def finish() -> GrowthResult:
            folder.check_place()
            try:
                parity = _export(folder, recipe, records, progress)
            except CheckFailed:
                # What was grown is worth reading all the same.
                write_report(path, recipe.resolved(), records, changes=folder.changes)
                raise
            if parity is not None and recipe.export.measure:
                for text in measure_run(path, records, setup.priced.providers, progress):
                    warn(text)
            report = write_report(path, recipe.resolved(), records, parity, folder.changes)
            return GrowthResult(path, tuple(records), parity.path if parity else None, report, tuple(warnings))

        return team.on_main(finish)


def _check_state(setup: Setup, path: Path, state: TrainingState) -> None:
    """Refuse to go on from different places.

    Raises:
        RunError: processes found different states.
    """
    other = setup.session.team.differing((state.stage, state.epoch, state.net.widths))
    if other:
        raise RunError(
            f"processes {sorted(other)} found another state of the run in {path} than the main process; the run folder "
            "must be on a file system that all machines share"
        )


def _finished(records: list[GrowthRecord]) -> bool:
    """Whether no training is left: all growths made, or growth ended by itself."""
    return bool(records) and records[-1].ends


def _place(stages: int) -> str:
    return f"stage {stages - 1}" if stages else "the beginning"


def _state(setup: Setup, folder: RunFolder, records: list[GrowthRecord], warn: Callable[[str], None]) -> TrainingState:
    """Where to go on: the training in progress, or what the last finished stage grew into, or the seed."""
    saved, problem = folder.load_progress(len(records))
    if problem:
        warn(f"{problem}; training of stage {len(records)} starts again")
    if saved is not None:
        return saved
    if not records:
        return beginning(setup)
    last = records[-1]
    net, optimiser, index = folder.load_stage(last.stage)
    state = again(setup, last, TrainingState(last.stage, 0, net, optimiser), index)
    if state is None:
        raise RunError(
            f"stage {last.stage} of {folder.path} has no growth to continue from; remove the folder and run again"
        )
    return state


def _run_stage(
    setup: Setup, folder: RunFolder, state: TrainingState, progress: Progress, curves: Curves
) -> tuple[GrowthRecord, TrainingState | None]:
    """Train and evaluate one stage and find what follows; its record is in the journal when this returns."""

    def save(state: TrainingState) -> None:
        team.on_main(lambda: write(state))

    def write(state: TrainingState) -> None:
        assert state.train is not None
        folder.check_place()
        curves.epoch(state.train, state.plateau)
        folder.save_progress(replace(state, notes=tuple(notes.texts), evaluation_batch=notes.evaluation_batch))

    team = setup.session.team
    changed = [text for change in folder.changes if change.stage == state.stage for text in change.texts]
    notes = Notes(lambda text: progress.line(f"stage {state.stage}: {text}"), list(state.notes), state.evaluation_batch)
    trained = stage.train(setup, state, progress, save, notes)
    setup.session.place(trained.net.module)
    start = time.perf_counter()
    net = trained.net
    validation, test = (evaluated(setup, net.module, part, notes) for part in ("validation", "test"))
    seconds = {"train": trained.seconds, "evaluate": time.perf_counter() - start}
    progress.line(
        f"stage {state.stage}: accuracy {validation.accuracy:.2%} on validation images, "
        f"{test.accuracy:.2%} on test images (not used)"
    )
    last = state.fresh or state.stage == setup.recipe.growth.stages
    comes = Following() if last else following(setup, trained, progress, notes)
    seconds |= comes.seconds

    def keep() -> GrowthRecord:
        assert trained.train is not None
        folder.check_place()
        record = GrowthRecord(
            stage=state.stage,
            widths=net.widths,
            prices={name: CostRecord.of(cost) for name, cost in setup.prices(net).items()},
            train=trained.train,
            validation=validation,
            test=test,
            growth=comes.growth,
            stopped=comes.stopped,
            **folder.save_stage(state.stage, net, trained.optimiser, comes.index),
            seconds=seconds,
            replacement=comes.replacement,
            notes=(*changed, *notes.texts),
            then_fresh=comes.fresh,
        )
        curves.stage(record)
        journal.append(folder.journal, record)
        return record

    record = team.on_main(keep)
    if comes.said:
        progress.line(f"stage {state.stage}: {comes.said}")
    if comes.fresh:
        progress.line(f"stage {state.stage}: the last training starts from random weights (growth.last_weights)")
    return record, comes.after


def _export(folder: RunFolder, recipe: Recipe, records: list[GrowthRecord], progress: Progress) -> OnnxParity | None:
    """The grown model as ONNX, compared with torch."""
    if not recipe.export.onnx:
        return None
    net, _, _ = folder.load_stage(records[-1].stage)
    with progress.task("export", 1) as task:
        parity = export_with_parity(net, folder.path / "model.onnx")
        task.advance(1)
    return parity
