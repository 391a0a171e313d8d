"""Curves of a run for TensorBoard: training by epoch, accuracy and prices by stage.

Two folders, because they count different things: `epochs` (over the whole run) and `stages`. A run that is killed does
its last epoch or stage again; points are on disk before what they are of is saved, and the first point of a process
hides all later ones of the processes before it (purge_step), so that none is missing and none is there twice.

    tensorboard --logdir RUN/tensorboard
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from energysplit.errors import MissingExtra
from energysplit.train.plateau import Plateau
from energysplit.types import GrowthRecord, TrainRecord

FOLDER = "tensorboard"


def check_installed() -> None:
    """Silent if the package is there; it is not imported.

    Raises:
        MissingExtra: it is not.
    """
    if find_spec("tensorboard") is None:
        raise MissingExtra(
            "run.tensorboard = true needs the package tensorboard: pip install 'energysplit[track]', or leave the "
            "key out"
        )


class Curves:
    """Writes the curves of a run, or nothing.

    Args:
        folder: to write to; None writes nothing.
        records: the stages finished before.
    """

    def __init__(self, folder: Path | None, records: Sequence[GrowthRecord] = ()) -> None:
        self._folder = folder
        self._before = sum(record.train.epochs for record in records)
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> Curves:
        """The curves themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def epoch(self, train: TrainRecord, plateau: Plateau) -> None:
        """Add the last epoch of a training, and its validation loss where the training looks at that."""
        values = {"train/loss": train.loss, "train/accuracy": train.accuracy}
        if plateau.loss is not None:
            values["validation/loss"] = plateau.loss
        self._add("epochs", self._before + train.epochs, values)

    def stage(self, record: GrowthRecord) -> None:
        """Add a finished stage: evaluations, prices (in the providers' units), channels and epochs trained."""
        self._before += record.train.epochs
        values = {
            "validation/loss": record.validation.loss,
            "validation/accuracy": record.validation.accuracy,
            "train/epochs": float(self._before),
            "channels": float(sum(record.widths.values())),
        }
        if record.test is not None:
            values |= {"test/loss": record.test.loss, "test/accuracy": record.test.accuracy}
        for name, price in record.prices.items():
            values[f"price/{name}_{price.unit}"] = price.value
        self._add("stages", record.stage, values)

    def _add(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Add points at a step; they are on disk when this returns."""
        if self._folder is None:
            return
        if part not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[part] = SummaryWriter(str(self._folder / part), purge_step=step)
        for name, value in values.items():
            self._writers[part].add_scalar(name, value, step)
        self._writers[part].flush()
