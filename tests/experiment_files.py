"""A tiny experiment on the digits, and runs started inside the test's own process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from energysplit import growth
from energysplit.errors import EnergysplitError
from energysplit.experiment.plan import Plan, Run, make_plan
from energysplit.experiment.processes import Process
from energysplit.experiment.recipe_file import write_recipe
from energysplit.output.atomic import write_text
from energysplit.recipe import load

from growth_runs import tiny  # isort: skip

TINY = """
title = "Tiny"
question = "Does it run?"
recipe = "tiny.toml"
seeds = [0, 1]
providers = ["macs"]

[size.small]
expect = "seconds"

[[method]]
name = "grown"

[[method]]
name = "Top k (vanilla)"
[method.set]
"growth.method" = "top_k"

[[claim]]
better = "grown"
than = "Top k (vanilla)"
"""


def experiment_file(folder: Path, text: str = TINY) -> Path:
    """The file of an experiment, with its base recipe beside it: one growth, one epoch a stage."""
    folder.mkdir(exist_ok=True)
    write_recipe(folder / "tiny.toml", tiny(train={"epochs": 1}, growth={"stages": 1}))
    path = folder / "tiny-growth.toml"
    path.write_text(text)
    return path


def tiny_plan(folder: Path, text: str = TINY, **arguments: object) -> Plan:
    """The plan of the experiment in a folder, with its runs there too."""
    return make_plan(experiment_file(folder, text), runs=folder / "runs", **arguments)  # type: ignore[arg-type]


class Done:
    """A run that ended before anybody asked."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def stop(self, how: signal.Signals) -> None:
        pass


def grown_here(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[Run], bool] = lambda run: False
) -> Callable[[Run, Path, Path, bool], Process]:
    """Starts a run in this process, from the recipe's file; figures are left out. A run that fails leaves nothing."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))

    def start(run: Run, recipe: Path, log: Path, resume: bool) -> Process:
        if fails(run):
            log.write_text("first line\n\nerror: made to fail\n")
            return Done(1)
        try:
            growth.grow(load(recipe), run_dir=run.folder, resume=resume)
        except EnergysplitError as error:
            log.write_text(f"{error}\n")
            return Done(1)
        return Done(0)

    return start
