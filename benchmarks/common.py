"""What the benchmark scripts share: their options, the machine's name, and a trained seed network."""

from __future__ import annotations

import argparse
from pathlib import Path

from energysplit.growth import stage
from energysplit.growth.folder import TrainingState
from energysplit.growth.notes import Notes
from energysplit.growth.setup import Setup
from energysplit.output.environment import environment
from energysplit.progress import SilentProgress


def parser(description: str | None) -> argparse.ArgumentParser:
    """Recipe, `--set`, `--seeds` and `--out`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("recipe")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    made.add_argument("--seeds", type=int, default=2)
    made.add_argument("--out", type=Path, help="folder for the table")
    return made


def machine() -> str:
    """Machine and versions in one line."""
    found = environment()
    return f"{found['processor']}, torch {found['torch']}, Python {found['python']}"


def train(setup: Setup, state: TrainingState | None = None) -> TrainingState:
    """The state trained to the end of its stage; the seed if none is given."""
    return stage.train(
        setup, state or TrainingState(0, 0, setup.seed, {}), SilentProgress(), lambda _: None, Notes(print)
    )
