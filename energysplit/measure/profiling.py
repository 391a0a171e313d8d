"""From results to a folder of cost tables: what `energysplit profile` leaves behind."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from energysplit.costs.table import CostTable
from energysplit.errors import InputError, first_complaint
from energysplit.measure import networks
from energysplit.measure.alignment import multiple_of
from energysplit.measure.build import table
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.rows import divided
from energysplit.measure.samples import Results, read_results
from energysplit.measure.statistics import MeasurementWarning, noise, warnings_of
from energysplit.measure.summary import Summary
from energysplit.measure.table_files import write
from energysplit.output.atomic import write_text
from energysplit.plain_data import NAME

ALIGNMENT_FILE = "alignment.csv"


def write_tables(
    out: Path,
    results: Sequence[Results],
    known: Mapping[str, MeasuredNetwork],
    *,
    command: str,
    precision: str,
    widths: Mapping[int, Summary] | None = None,
    meter: str | None = None,
) -> dict[str, CostTable]:
    """Cost -> table written to a folder: latency, and energy where a meter answered.

    Args:
        out: the folder.
        results: of all groups of networks.
        known: the networks, by name.
        command: what was called; goes into the provenance.
        precision: of weights and maps.
        widths: width -> time, as `alignment.measure_widths` found them.
        meter: name of the energy meter.

    Raises:
        InputError: no network ran, or results are of different machines or settings.
    """
    if not any(part.models for part in results):
        raise InputError("no network was measured, so there is no table; give it more --minutes")
    _check_one_machine(results)
    try:
        measured = divided(results, known)
    except InputError as error:
        raise InputError(f"{results[0].path}: {error}") from None
    reference_s = median(part.reference.median for part in results)
    header = results[0].header
    said: dict[str, object] = {
        "machine": header["cpu"] or header["machine"],
        "system": header.get("system", ""),
        "runtime": "onnxruntime",
        "runtime_version": header["onnxruntime"],
        "execution_provider": header["execution_provider"],
        "threads": int(header["threads"]),
        "precision": precision,
        "date": header["date"],
        "command": command,
        "noise": float(np.median([noise(part) for part in results])),
        "multiple_of": 1 if not widths else multiple_of({width: time.median for width, time in widths.items()}),
        "warnings": doubts(results),
    }
    clock = header.get("clock_mhz", "")
    if clock.replace(".", "", 1).isdecimal() and math.isfinite(float(clock)):
        said["clock_mhz"] = float(clock)
    tables = {"latency": table(measured, reference_s, said)}
    if any(item.energy_j is not None for item in measured):
        tables["energy"] = table(measured, reference_s, {**said, "meter": meter}, "energy")
    out.mkdir(parents=True, exist_ok=True)
    if widths:
        write_text(out / ALIGNMENT_FILE, _alignment(widths, reference_s))
    for found in tables.values():
        write(found, out)
    return tables


def imported(path: Path) -> tuple[Results, dict[str, MeasuredNetwork], dict[int, Summary], dict[str, str]]:
    """Results of a kit, the networks they are of, times by width, and what the kit was for: precision and device.

    Raises:
        InputError: the file is not what a kit's script writes, or nothing in it ran.
    """
    results = read_results(path)
    known, more = networks.read(results.attachment, str(path))
    if not results.models:
        raise InputError(f"{path}: no network ran: {next(iter(results.failed.values()), 'nothing was measured yet')}")
    try:
        said = _Said.model_validate(more)
    except ValidationError as error:
        raise InputError(f"{path}: its note's {first_complaint(error)}") from None
    widths = {said.widths[name]: model.network.ratio for name, model in results.models.items() if name in said.widths}
    return results, known, widths, said.model_dump(include={"precision", "device"}, exclude_none=True)


class _Said(BaseModel):
    """What a kit's note says besides its networks. The device's name becomes that of a folder."""

    widths: dict[str, PositiveInt] = {}
    precision: str | None = None
    device: Annotated[str, Field(pattern=NAME, max_length=200)] | None = None


def doubts(results: Sequence[Results]) -> list[str]:
    """What to doubt in the results, a sentence for each kind, that of the worst group of networks."""
    worst: dict[str, MeasurementWarning] = {}
    for part in results:
        for warning in warnings_of(part):
            if warning.kind not in worst or warning.worst > worst[warning.kind].worst:
                worst[warning.kind] = warning
    return [warning.text for warning in worst.values()]


def _check_one_machine(results: Sequence[Results]) -> None:
    first = results[0]
    for part in results[1:]:
        for key in ("cpu", "machine", "onnxruntime", "execution_provider", "threads"):
            if part.header.get(key) != first.header.get(key):
                raise InputError(
                    f"{part.path} was measured with {key} = {part.header.get(key)!r}, {first.path} with "
                    f"{first.header.get(key)!r}; one table, one machine: measure into another --out"
                )


def _alignment(widths: Mapping[int, Summary], reference_s: float) -> str:
    """The times by width, in seconds, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("width", "median", "low", "high", "samples", "unit"))
    for width, time in sorted(widths.items()):
        seconds = (f"{ratio * reference_s:.6g}" for ratio in (time.median, time.low, time.high))
        writer.writerow((width, *seconds, time.count, "s"))
    return text.getvalue()
