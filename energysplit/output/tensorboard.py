"""Curves of a run for TensorBoard: training by epoch, accuracy and prices by stage.

Two folders, because they count different things: `epochs` (over the whole run) and `stages`. A run that is killed does
its last epoch or stage again; points are on disk before what they are of is saved, and the first point of a process
hides all later ones of the processes before it (purge_step), so that none is missing and none is there twice.

    tensorboard --logdir RUN/tensorboard
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from energysplit.errors import MissingExtra
from energysplit.output.atomic import naming
from energysplit.records import GrowthRecord, TrainRecord
from energysplit.train.plateau import Plateau

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
        self._files: dict[str, _EventFile] = {}

    def __enter__(self) -> Curves:
        """The curves themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

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
        if part not in self._files:
            self._files[part] = _EventFile(self._folder / part, step)
        self._files[part].add(values, step)


class _EventFile:
    """A new file of points in a folder.

    The package's own writer has a thread of its own, in which an error of the disk ends with a traceback.

    Args:
        folder: made if it is not there.
        first: the first step to come; points from there on in earlier files are hidden.
    """

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # Files are read in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        self._file = self._path.open("xb")
        self._records = RecordWriter(self._file)
        for event in (
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            Event(wall_time=time.time(), step=first, session_log=SessionLog(status=SessionLog.START)),
        ):
            self._records.write(event.SerializeToString())

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a point of each tag at a step; they are on disk when this returns."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        with naming(self._path):
            self._records.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # of points that were not written, which was raised before
            self._file.close()
