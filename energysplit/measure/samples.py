"""Reads what a device measured: `results.csv` of `device_run`, checked row by row, as records of samples.

Times are kept beside the reference network's time of the same moment. The ratio of the two is what statistics are made
from, because clocks drift and ratios hold; seconds are the ratio times the reference's median.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from energysplit.errors import InputError, nearest
from energysplit.measure.plan import unpack
from energysplit.measure.summary import Summary
from energysplit.plain_data import read_file

COLUMNS = ("model", "kind", "round", "node", "op_type", "order", "value", "unit", "reference_s", "runs")
UNITS = {"network": "s", "node": "s", "energy": "J", "first": "s", "session": "s"}
HEADER = ("format", "machine", "cpu", "onnxruntime", "execution_provider", "threads", "rounds", "date", "attachment")
_DIGITS = 15


@dataclass(frozen=True)
class Samples:
    """Seconds, each with the reference network's seconds of the same moment, one a round."""

    values_s: tuple[float, ...]
    references_s: tuple[float, ...]

    @cached_property
    def ratios(self) -> tuple[float, ...]:
        """Each sample divided by its reference."""
        return tuple(float(ratio) for ratio in np.divide(self.values_s, self.references_s))

    @cached_property
    def ratio(self) -> Summary:
        """Statistics of the ratios, without unit."""
        return Summary.of(self.ratios)


@dataclass(frozen=True)
class NodeSamples:
    """One node of a network as the runtime ran it, the `order`-th; its times still hold the profiler's own."""

    node: str
    op_type: str
    order: int
    samples: Samples


@dataclass(frozen=True)
class ModelSamples:
    """Everything measured of one network.

    energy_j: joules of one run, one a window, empty where no meter answered. first_s: the first run after the session
    was made, which took session_s. error: why it did not run; all else is empty or None then.
    """

    name: str
    network: Samples = Samples((), ())
    nodes: tuple[NodeSamples, ...] = ()
    energy_j: tuple[float, ...] = ()
    first_s: float | None = None
    session_s: float | None = None
    error: str | None = None

    @property
    def energy(self) -> Summary | None:
        """Statistics of the joules of one run; None where nothing was measured."""
        return Summary.of(self.energy_j) if self.energy_j else None


@dataclass(frozen=True)
class Results:
    """A results file: what its header says of machine and settings, and the networks that ran, by name.

    failed: why each of the others did not run.
    """

    path: Path
    header: Mapping[str, str]
    models: Mapping[str, ModelSamples]
    failed: Mapping[str, str]

    @cached_property
    def attachment(self) -> str:
        """The text that was attached to the plan these results come from; "" if none was.

        Raises:
            InputError: it was cut or changed.
        """
        try:
            return unpack(self.header["attachment"])
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    @cached_property
    def reference(self) -> Summary:
        """Statistics of the reference network's seconds, over all rounds of all networks.

        Raises:
            InputError: no network ran.
        """
        times = [time for model in self.models.values() for time in model.network.references_s]
        if not times:
            raise InputError(
                f"{self.path}: no network ran: {'; '.join(self.failed.values()) or 'nothing measured yet'}"
            )
        return Summary.of(times)


def read_results(path: Path | str) -> Results:
    """The results in a file of `device_run`.

    Raises:
        InputError: the file can't be read, was cut, lacks header lines or columns, or a row has a wrong kind, unit or
            number; the message names file and line.
    """
    path = Path(path)
    try:
        text = read_file(path).decode()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); expected the results.csv of a device") from None
    *lines, torn = text.split("\n")
    if torn or not lines:
        lines.append(torn)
        raise InputError(f"{path}: line {len(lines)}: the file ends in the middle of a line; {_AGAIN}")
    header = _header(path, lines)
    first = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    try:
        columns, *rows = csv.reader(lines[first:]) if lines[first:] else [[]]
    except csv.Error as error:  # such as a field of more than 131,072 characters
        raise InputError(f"{path}: can't be read as CSV ({error}); {_AGAIN}") from None
    _check_columns(path, first + 1, columns)
    models: dict[str, _Rows] = {}
    # Each row is one line: the script writes no line breaks into its fields.
    for at, fields in enumerate(rows, start=first + 2):
        if len(fields) != len(columns):
            raise InputError(f"{path}: line {at}: {len(fields)} fields given, {len(columns)} expected; {_AGAIN}")
        row = dict(zip(columns, fields, strict=True))
        try:
            models.setdefault(row["model"], _Rows()).add(row)
        except InputError as error:
            raise InputError(f"{path}: line {at}: {error}") from None
    done = {name: _finished(path, name, rows) for name, rows in models.items()}
    failed = {name: model.error for name, model in done.items() if model.error is not None}
    return Results(path, header, {name: model for name, model in done.items() if name not in failed}, failed)


_AGAIN = "measuring was stopped or the copy is not whole: run device_run.py again, or copy the file again"


@dataclass
class _Rows:
    """Rows of one network as they are read: seconds and reference by round, and by (round, order, node, operator)."""

    network: dict[int, tuple[float, float]] = field(default_factory=dict)
    nodes: dict[tuple[int, str, str], dict[int, tuple[float, float]]] = field(default_factory=dict)
    energy: list[float] = field(default_factory=list)
    single: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    def add(self, row: Mapping[str, str]) -> None:
        kind = row["kind"]
        if self.error is not None or "session" in self.single:
            raise InputError(f"network {row['model']!r} goes on after its end; was it measured twice? Remove one")
        if kind == "error":
            self.error = row["node"] or "no reason given"
            return
        if kind not in UNITS:
            raise InputError(f"kind {kind!r}: {nearest(kind, [*UNITS, 'error'])}")
        if row["unit"] != UNITS[kind]:
            raise InputError(f"unit {row['unit']!r} given, {UNITS[kind]!r} expected for kind {kind!r}")
        value = _positive(row, "value")
        _whole(row, "runs", 1)
        if kind in ("first", "session"):
            self.single[kind] = value
        elif kind == "energy":
            self.energy.append(value)
        else:
            turn, pair = _whole(row, "round", 0), (value, _positive(row, "reference_s"))
            key = (_whole(row, "order", 0), row["node"], row["op_type"]) if kind == "node" else None
            kept = self.network if key is None else self.nodes.setdefault(key, {})
            if turn in kept:
                raise InputError(f"round {turn} of network {row['model']!r} is there twice; remove one")
            kept[turn] = pair


def _finished(path: Path, name: str, rows: _Rows) -> ModelSamples:
    if rows.error is not None:
        return ModelSamples(name, error=rows.error)
    where = f"{path}: network {name!r}"
    if "session" not in rows.single or "first" not in rows.single or not rows.network:
        raise InputError(f"{where} has no end; {_AGAIN}")
    rounds = sorted(rows.network)
    if [key[0] for key in sorted(rows.nodes)] != list(range(len(rows.nodes))):
        raise InputError(f"{where}: nodes are missing or there twice; {_AGAIN}")
    for (_, node, _), kept in rows.nodes.items():
        if sorted(kept) != rounds:
            raise InputError(f"{where}: node {node!r} has {len(kept)} rounds, the network {len(rounds)}; {_AGAIN}")
    nodes = tuple(
        NodeSamples(node, op_type, order, _samples(rows.nodes[order, node, op_type], rounds))
        for order, node, op_type in sorted(rows.nodes)
    )
    first_s, session_s = rows.single["first"], rows.single["session"]
    return ModelSamples(name, _samples(rows.network, rounds), nodes, tuple(rows.energy), first_s, session_s)


def _samples(pairs: Mapping[int, tuple[float, float]], rounds: list[int]) -> Samples:
    return Samples(tuple(pairs[turn][0] for turn in rounds), tuple(pairs[turn][1] for turn in rounds))


def _header(path: Path, lines: list[str]) -> dict[str, str]:
    header = {}
    for line in lines:
        if not line.startswith("#"):
            break
        key, _, value = line[1:].strip().partition("=")
        header[key] = value
    missing = [key for key in HEADER if key not in header]
    if missing:
        raise InputError(
            f"{path}: no line '# {missing[0]}=...' before the columns; expected the results.csv of a device"
        )
    if header["format"] != "1":
        raise InputError(f"{path}: format {header['format']!r} given, '1' expected; make a new kit and measure again")
    try:
        _whole(header, "threads", 1)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return header


def _check_columns(path: Path, line: int, columns: list[str]) -> None:
    for name in COLUMNS:
        if name not in columns:
            raise InputError(f"{path}: line {line}: column {name!r} is missing; expected {','.join(COLUMNS)}")
    for name in columns:
        if name not in COLUMNS or columns.count(name) > 1:
            raise InputError(
                f"{path}: line {line}: column {name!r} is unknown or there twice; {nearest(name, COLUMNS)}"
            )


def _positive(row: Mapping[str, str], key: str) -> float:
    try:
        value = float(row[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{key} {row[key]!r} given, a finite number above 0 expected")
    return value


def _whole(row: Mapping[str, str], key: str, least: int) -> int:
    text = row[key]
    if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS) or int(text) < least:
        raise InputError(f"{key} {text!r} given, a whole number of at least {least} expected")
    return int(text)
