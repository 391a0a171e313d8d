"""Measures networks of given families until a table predicts new ones well enough, or time is up.

Every group of networks is predicted before it counts: those predictions are the estimate of the error, and the next
widths are taken where the table is least sure. What is measured is kept at once, group by group, so that an
interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from energysplit.costs.predictor import Predictor
from energysplit.errors import InputError
from energysplit.measure import networks
from energysplit.measure.family import Family
from energysplit.measure.kit import read_attachment
from energysplit.measure.meters import EnergyMeter
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.plan import RESULTS_FILE, PlanOptions, remove_models, write_plan
from energysplit.measure.precision import Precision, converted
from energysplit.measure.reference import reference_model
from energysplit.measure.rows import NetworkRows, divided, latency_rows
from energysplit.measure.runner import measure
from energysplit.measure.samples import Results, read_results
from energysplit.progress import Progress, SilentProgress

FOLDER = "measurement"
_FIRST = 12  # networks of a family at random widths before it is asked where to look
_LEAST = 24  # networks of a family at least
_MOST = 240
_CANDIDATES = 32
_RECENT = 10  # latest networks of a family that estimate the error


@dataclass(frozen=True)
class SweepOptions:
    """When to stop and how to measure.

    minutes: of measuring, exports not counted. target: mean relative error of new networks at which a family is done.
    """

    minutes: float = 8.0
    target: float = 0.02
    precision: Precision = "fp32"
    seed: int = 0
    plan: PlanOptions = field(default_factory=PlanOptions)


class Sweep:
    """A sweep over families.

    Args:
        families: what to measure.
        out: folder of the table; samples go to its folder "measurement".
        options: when to stop and how to measure.
        meter: fills energies too.
        progress: where to show how far it is.

    Raises:
        InputError: the folder holds the measurement of something else.
    """

    def __init__(
        self,
        families: Sequence[Family],
        out: Path,
        options: SweepOptions,
        meter: EnergyMeter | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.families = {family.label: family for family in families}
        self.folder = out / FOLDER
        self.options = options
        self.meter = meter
        self.progress = progress or SilentProgress()
        self.results, self.networks = earlier(self.folder)
        self._check_same()
        self.measured: list[NetworkRows] = []
        self._step: int | None = None
        self._step_of = 4
        self.errors: dict[str, list[float]] = {label: [] for label in self.families}
        self._fitted: tuple[int, Predictor] | None = None
        for place, part in enumerate(self.results):  # the latest alone estimate the error
            self._learn(part, predict=place >= len(self.results) - _RECENT)

    def run(self) -> None:
        """Measure until every family is done or time is up; each family is measured once in any case.

        Raises:
            InputError: a network can't be measured.
        """
        try:
            self._run()
        finally:
            for folder in self.folder.glob("[0-9]*"):  # a kill may have left some in a group that is done
                remove_models(folder)

    def _run(self) -> None:
        start = time.monotonic()
        if self.results:
            self.progress.line(f"going on: {len(self.measured)} networks were measured already")
        for number in self._open_groups():
            family = self._next()
            left_s = self.options.minutes * 60 - (time.monotonic() - start)
            if family is None:
                self.progress.line(f"done: {self.state()}")
                break
            if left_s <= 0 and self._count(family.label):
                self.progress.line(f"time is up ({_counted(self.options.minutes, 'minute')}): {self.state()}")
                break
            self._measure(family, number)
            left_s = max(0.0, self.options.minutes * 60 - (time.monotonic() - start))
            left = _counted(round(left_s / 60, 1), "minute") if left_s >= 59.5 else _counted(round(left_s), "second")
            self.progress.line(f"{len(self.measured)} networks, {self.state()}; at most {left} left")

    def state(self) -> str:
        """The estimated error of each family, in words."""
        return ", ".join(
            f"{label}: error {error:.1%}"
            if (error := self.error(label)) is not None
            else f"{label}: error not known yet"
            for label in self.families
        )

    def error(self, label: str) -> float | None:
        """Mean relative error of the family's latest networks, predicted before they were measured."""
        latest = self.errors[label][-_RECENT:]
        return float(np.mean(np.abs(latest))) if len(latest) >= _RECENT // 2 else None

    def _open_groups(self) -> Iterator[int]:
        """Numbers of groups that are not done, without end."""
        done = {part.path.parent.name for part in self.results}
        return (number for number in count() if f"{number:03d}" not in done)

    def _count(self, label: str) -> int:
        return sum(item.network.family == label for item in self.measured)

    def _next(self) -> Family | None:
        """Of the families that are not done, the one measured least."""

        def done(label: str) -> bool:
            error, networks = self.error(label), self._count(label)
            return networks >= _MOST or (networks >= _LEAST and error is not None and error <= self.options.target)

        open_ = [label for label in self.families if not done(label)]
        return self.families[min(open_, key=self._count)] if open_ else None

    def _measure(self, family: Family, number: int) -> None:
        folder = self.folder / f"{number:03d}"
        named = {f"n{number:03d}_{place}": widths for place, widths in enumerate(self._widths(family, number))}
        notes = [
            MeasuredNetwork.of(name, family.label, family.image, family.cases(widths)) for name, widths in named.items()
        ]
        models = ((name, model_bytes(family, widths, self.options.precision)) for name, widths in named.items())
        text = networks.written(notes, precision=self.options.precision)
        _forget_others(folder / RESULTS_FILE, text)
        write_plan(folder, models, reference_model(), self.options.plan, text)
        try:
            path = measure(folder, meter=self.meter).results
        finally:
            remove_models(folder)
        part = read_results(path)
        if part.failed:
            path.unlink()  # what failed would count as done, and never be tried again
            raise InputError(f"{family.label}: ONNX Runtime can't run it: {next(iter(part.failed.values()))}")
        self.results.append(part)
        self.networks |= {note.name: note for note in notes}
        self._learn(part)

    def _widths(self, family: Family, number: int) -> list[dict[str, int]]:
        """Widths of the next networks: corners, then random ones, then half of them where the table is least sure."""
        generator = random.Random(f"{self.options.seed}/{number}")
        size = self.options.plan.batch
        before = self._count(family.label)
        if before == 0:
            return [*family.corners(), *(family.draw(generator) for _ in range(size - 2))]
        random_ones = [family.draw(generator) for _ in range(size)]
        if before < _FIRST:
            return random_ones
        predictor = self._predictor()
        drawn = [family.draw(generator) for _ in range(_CANDIDATES)]
        drawn.sort(key=lambda widths: _doubt(predictor, family, widths), reverse=True)
        return [*random_ones[: size - size // 2], *drawn[: size // 2]]

    def _learn(self, part: Results, predict: bool = True) -> None:
        """Predict new networks by what was known before, then know them too; those chosen for doubt don't count."""
        new = divided([part], self.networks)
        if self.measured and predict:
            predictor = self._predictor()
            for item in new[: len(new) - len(new) // 2]:
                cases = item.network.cases
                if all(predictor.covers(case) for case in cases):
                    predicted = sum(predictor.price(case).value for case in cases)
                    self.errors[item.network.family].append(predicted / item.total.median - 1)
        self.measured += new

    def _predictor(self) -> Predictor:
        """Of what was measured so far. The step is found anew each time that twice as much is known."""
        if self._fitted is not None and self._fitted[0] == len(self.measured):
            return self._fitted[1]
        rows = latency_rows(self.measured, 1.0)
        if len(self.measured) >= 2 * self._step_of:
            self._step, self._step_of = None, len(self.measured)
        predictor = Predictor(rows, step=self._step)
        self._step = predictor.step
        self._fitted = len(self.measured), predictor
        return predictor

    def _check_same(self) -> None:
        plan = self.options.plan
        settings = {"execution_provider": plan.execution_provider, "threads": str(plan.threads)}
        for part in self.results:
            _, said = networks.read(part.attachment, str(part.path))
            found = {**part.header, "precision": str(said.get("precision", self.options.precision))}
            for key, value in (*settings.items(), ("precision", self.options.precision)):
                if found.get(key) != value:
                    raise InputError(
                        f"{self.folder} was measured with {key} = {found.get(key)!r}, {value!r} is asked for; one "
                        "table, one setting: give another --out"
                    )
        wanted = {(family.label, family.image) for family in self.families.values()}
        for network in self.networks.values():
            if (network.family, network.image) not in wanted:
                size = "x".join(map(str, network.image))
                raise InputError(
                    f"{self.folder} holds networks of {network.family} at {size}, which this command does not measure; "
                    "give the same families to go on, another --out, or remove that folder"
                )


def earlier(folder: Path) -> tuple[list[Results], dict[str, MeasuredNetwork]]:
    """Results of the groups measured so far, and their networks.

    A group that is not whole is left out: a kill cut it short, and the script that measures goes on with it.
    """
    done: list[Results] = []
    known: dict[str, MeasuredNetwork] = {}
    for path in sorted(folder.glob(f"[0-9]*/{RESULTS_FILE}")):
        try:
            results = read_results(path)
            names, _ = networks.read(results.attachment, str(path))
        except InputError:
            continue
        if set(names) <= set(results.models):
            done.append(results)
            known |= names
    return done, known


def _forget_others(results: Path, text: str) -> None:
    """Remove results that were begun with other networks of the same names: an earlier sweep went another way."""
    try:
        same = not results.exists() or read_attachment(results) == text
    except InputError:
        same = False
    if not same:
        results.unlink()


def model_bytes(family: Family, widths: Mapping[str, int], precision: Precision) -> bytes:
    """The network at these widths as the device will run it."""
    if precision == "fp32":
        return family.template.at(widths)
    return converted(family.template.at(widths, filled=False), precision)


def _counted(number: float, unit: str) -> str:
    """A number of minutes or seconds, one of them without an s."""
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def _doubt(predictor: Predictor, family: Family, widths: Mapping[str, int]) -> float:
    """The relative standard error of a network's price, if those of its operations are independent."""
    total, variance = 0.0, 0.0
    for case in MeasuredNetwork.of("", family.label, family.image, family.cases(widths)).cases:
        if not predictor.covers(case):
            return math.inf
        price = predictor.price(case).value
        total, variance = total + price, variance + (price * min(1.0, predictor.spread(case))) ** 2
    return math.sqrt(variance) / total if total else 0.0
