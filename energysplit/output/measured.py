"""What a run's exported model was measured to cost, beside what was predicted: `measured.json`, read as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from energysplit.errors import CheckpointError, first_complaint
from energysplit.output.atomic import write_text
from energysplit.output.numbers import percent, quantity, times
from energysplit.plain_data import read_json, sealed, unsealed
from energysplit.records import CostRecord

COVERAGE = 0.95
"""Asked of the interval of a median; fewer than six samples can't give it."""
MEASURED_FILE = "measured.json"

Amount = Annotated[float, Field(gt=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sample(_Record):
    """Median of samples, in the price's unit, and the interval that holds the true one with the chance `coverage`."""

    median: Amount
    low: Amount
    high: Amount
    samples: int = Field(ge=1)

    @property
    def coverage(self) -> float:
        """The chance, at least, that the interval holds the median: 0.95, or less with fewer than six samples.

        Example:
            >>> [Sample(median=2.0, low=1.0, high=3.0, samples=count).coverage for count in (1, 3, 5, 6)]
            [0.0, 0.75, 0.9375, 0.95]
        """
        return min(COVERAGE, 1 - 2 * 0.5**self.samples)


class Compared(_Record):
    """One price of the exported model, for one image.

    predicted: from the cost table. measured: for a latency the ratio to the reference network's time, just before and
    just after, times what that network took when the table was made (`reference_s`), so that the clock's drift cancels;
    for an energy as the meter read. None where nothing was read. ratio: measured over predicted. plain: as it was now,
    without the reference. warnings: what to doubt in the measurement.
    """

    predicted: CostRecord
    measured: Sample | None
    ratio: Amount | None
    plain: Sample | None
    reference_s: float | None
    machine: str
    runtime: str
    execution_provider: str
    threads: int
    precision: str
    warnings: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The comparison in one line."""
        unit = self.predicted.unit
        text = f"predicted {quantity(self.predicted.value, unit)}, "
        if self.measured is None:
            return f"{text}not measured: {'; '.join(self.warnings)}"
        low, high = (quantity(end, unit) for end in (self.measured.low, self.measured.high))
        few = "" if self.measured.coverage >= COVERAGE else f", coverage {percent(self.measured.coverage)}"
        text += f"measured {quantity(self.measured.median, unit)} ({low} to {high}{few})"
        return text if self.ratio is None else f"{text}, {times(self.ratio)} the prediction"


class MeasuredRun(_Record):
    """The comparisons of a run by the price's name, and why others were not measured.

    weights_sha256: of the last stage, whose network `model.onnx` is.
    """

    version: Literal[1] = 1
    weights_sha256: str
    prices: dict[str, Compared]
    not_measured: dict[str, str] = Field(default_factory=dict)


def write_measured(run_dir: Path, measured: MeasuredRun) -> Path:
    """The path of `measured.json`, written whole or not at all."""
    return write_text(run_dir / MEASURED_FILE, sealed(measured.model_dump(mode="json")))


def read_measured(run_dir: Path) -> MeasuredRun | None:
    """What was measured of a run; None if nothing was.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = run_dir / MEASURED_FILE
    try:
        return MeasuredRun.model_validate(unsealed(read_json(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({first_complaint(error)}); remove it, and --resume measures again"
        ) from error
