"""Finds what a run folder holds, for the commands that read one."""

from __future__ import annotations

from pathlib import Path

from energysplit.errors import RunError


def last_stage(run: Path) -> Path:
    """The folder of the last stage that holds a checkpoint.

    Raises:
        RunError: there is no such folder, or it holds no finished stage.
    """
    if not run.is_dir():
        raise RunError(f"{run}: no such run folder; expected a folder that `energysplit grow` wrote")
    stages = {
        int(path.parent.name): path.parent for path in run.glob("stages/*/network.json") if path.parent.name.isdecimal()
    }
    if not stages:
        raise RunError(f"{run}: no finished stage in {run / 'stages'}; expected a folder that `energysplit grow` wrote")
    return stages[max(stages)]
