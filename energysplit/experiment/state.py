"""How far a run has come, from its folder's plain text, so that listing an experiment needs no torch.

Whether what lies there is whole is not judged here: a run that goes on checks every file, and repeats what is damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from energysplit.errors import RunError
from energysplit.output.sizes import REFERENCE_FILE, sizes_digest
from energysplit.plain_data import read_file, read_json
from energysplit.recipe import Recipe, changes
from energysplit.recipe.changed import on_the_way
from energysplit.recipe.saved import RECIPE_FILE, read_recipe
from energysplit.records import JOURNAL_FILE

REPORT_FILE = "report.html"
MODEL_FILE = "model.onnx"


class _Train(BaseModel):
    epochs: int


class _Test(BaseModel):
    accuracy: float


class _Price(BaseModel):
    value: float


class _Line(BaseModel):
    """Of a journal's line what counts here; what else it holds is not read."""

    train: _Train
    test: _Test | None = None
    growth: object = None
    replacement: object = None
    then_fresh: bool = False
    seconds: dict[str, float]
    widths: dict[str, int] = {}
    prices: dict[str, _Price] = {}


@dataclass(frozen=True)
class RunState:
    """A run as it stands.

    begun: whether a training, or a stage, is kept there. stages, epochs, seconds: finished ones. test: accuracy of the
    last finished stage, 0 to 1. finished: whether nothing is left to do; not where the run whose sizes it takes has
    other ones by now, which `energysplit grow` refuses by name.
    """

    begun: bool = False
    stages: int = 0
    epochs: int = 0
    seconds: float = 0.0
    test: float | None = None
    finished: bool = False


def state_of(folder: Path, recipe: Recipe) -> RunState:
    """The state of a run with this recipe; nothing has begun where there is no folder."""
    lines = list(_lines(folder / JOURNAL_FILE))
    if not lines:
        return RunState(begun=(folder / "progress").is_dir())
    last = lines[-1]
    ended = last.growth is None and last.replacement is None and not last.then_fresh
    written = (folder / REPORT_FILE).is_file() and (not recipe.export.onnx or (folder / MODEL_FILE).is_file())
    return RunState(
        begun=True,
        stages=len(lines),
        epochs=sum(line.train.epochs for line in lines),
        seconds=sum(value for line in lines for value in line.seconds.values()),
        test=last.test.accuracy if last.test else None,
        finished=ended and written and _same_sizes(folder, recipe),
    )


def seed_trained(folder: Path) -> bool:
    """Whether stage 0 of the run is in its journal."""
    return next(iter(_lines(folder / JOURNAL_FILE)), None) is not None


def check_run(title: str, folder: Path, recipe: Recipe) -> None:
    """Nothing, if a run may be started or resumed in its folder.

    Raises:
        RunError: it holds a run of another recipe, or other files; the message names the run and the keys.
    """
    if not folder.is_dir() or all(entry.name.startswith(".") for entry in folder.iterdir()):
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{title}: {folder} is a file; expected a run folder. Choose other folders with --runs")
        return
    file = folder / RECIPE_FILE
    try:
        old, before = read_recipe(folder)
    except FileNotFoundError:
        raise RunError(f"{title}: {folder} holds other files and no run; choose other folders with --runs") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{title}: {file} can't be read ({error}); choose other folders with --runs") from None
    if on_the_way(before):
        raise RunError(
            f"{title}: its run in {folder} went on with another recipe than it began with (--change), so it is no run "
            "of this method; choose other folders with --runs, or remove the folder"
        )
    if changed := changes(recipe, old) if isinstance(old, Mapping) else ["everything"]:
        raise RunError(
            f"{title}: its run in {folder} was started with another recipe: {', '.join(changed)} "
            f"differ{'s' if len(changed) == 1 else ''}; put the old value back, choose other folders with --runs, or "
            "remove the folder"
        )


def _same_sizes(folder: Path, recipe: Recipe) -> bool:
    """Whether the run whose sizes this one takes, if there is one, still has those it began with."""
    other = recipe.baseline.sizes_of if recipe.baseline is not None else recipe.growth.sizes_of
    if other is None:
        return True
    try:
        noted = read_json(folder / REFERENCE_FILE)["sizes_sha256"]
        lines = _lines(Path(other).expanduser() / JOURNAL_FILE)
        found = [(line.widths, {key: price.value for key, price in line.prices.items()}) for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(noted == sizes_digest(found))


def _lines(journal: Path) -> list[_Line]:
    """The whole lines of a journal, up to the first that can't be read."""
    try:
        *lines, _ = read_file(journal).split(b"\n")
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        try:
            found.append(_Line.model_validate_json(line))
        except ValidationError:
            break
    return found
