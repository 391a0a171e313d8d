"""A run folder read for a comparison: its recipe, its journal, and what its exported model was measured to cost."""

from __future__ import annotations

from pathlib import Path

from energysplit.errors import RunError
from energysplit.growth.journal import read
from energysplit.growth.noted import DATA_FILE, DATA_KEY, noted
from energysplit.output.comparison import ComparedRun
from energysplit.output.measured import read_measured
from energysplit.recipe import completed
from energysplit.recipe.changed import on_the_way
from energysplit.recipe.saved import saved_changes, saved_recipe
from energysplit.records import JOURNAL_FILE


def read_run(run: Path) -> ComparedRun:
    """A run from its folder, finished or not.

    Raises:
        RunError: there is no such folder, or it has no finished stage.
        CheckpointError: its journal or what was measured is damaged.
    """
    if not run.is_dir():
        raise RunError(f"{run}: no such run folder; expected a folder that `energysplit grow` wrote")
    recipe = completed(saved_recipe(run))
    journal = run / JOURNAL_FILE
    if not journal.exists():
        raise RunError(f"{run}: no finished stage yet, so nothing to compare; run it with --resume first")
    records = tuple(read(journal))
    measured = read_measured(run)
    # A measurement of another stage's network says nothing about this one.
    if measured is not None and (not records or measured.weights_sha256 != records[-1].weights_sha256):
        measured = None
    files = noted(run / DATA_FILE, DATA_KEY) if (run / DATA_FILE).exists() else ""
    return ComparedRun(str(run), recipe, records, measured, on_the_way(saved_changes(run)), files)
