"""Cost tables: what a device was measured to charge for layer cases, with where the numbers come from.

A table is a folder: one `<cost>-<op>.csv` for each kind of operation, a row a measured case, and `provenance.toml`.
Everything is checked when it is read, because a wrong price shows up only much later, as a network that misses its
budget.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from energysplit.errors import InputError, nearest
from energysplit.plain_data import read_file, read_toml
from energysplit.recipe.explain import explain
from energysplit.types import Cost, LayerCase

CostName = Literal["latency", "energy"]
UNITS: dict[str, str] = {"latency": "s", "energy": "J"}
PROVENANCE = "provenance.toml"
_PAIRS = ("kernel", "stride", "padding", "dilation", "in_size", "out_size")
_FLAGS = ("bias", "batch_norm", "shared")
_LEFT_OUT = ("live",)  # of the network around it, not of the layer
_MEASURED = ("median", "low", "high", "samples", "unit")
_OPS = get_args(get_type_hints(LayerCase)["op"])
_DIGITS = 18
_DISAGREE = 1.5
"""Ratio of two medians of one case above which the table contradicts itself."""


@dataclass(frozen=True)
class TableRow:
    """A measured layer case: median of its samples and the interval of that median, in `unit` (s or J)."""

    case: LayerCase
    median: float
    low: float
    high: float
    samples: int
    unit: str


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FamilyError(_Section):
    """How well the table predicts networks of one family that it was not made from (relative errors, 0.03 = 3 %)."""

    model: str
    image: tuple[int, int, int]
    networks: int
    mean_error: float
    within_10: float


class Provenance(_Section):
    """Where a table comes from.

    machine: the processor. reference_s: median time of the reference network beside which everything was measured;
    seconds in the table are ratios to it times this. overhead, overhead_low, overhead_high: what a network pays once,
    fitted to whole networks. network_error: relative error of whole networks' predictions that 90 % of held-out ones
    stay below. networks: how many were measured. noise: of a network's samples, p25 to p75 over the median, in the
    median. step: widths that are multiples of it run by other kernels than the rest; for the predictor. multiple_of:
    the largest m such that widths between its multiples are not cheaper than the next one. warnings: what was to be
    doubted while it was measured. families: how well each is predicted.
    """

    version: Literal[1] = 1
    cost: CostName
    unit: str
    machine: str
    system: str
    runtime: str
    runtime_version: str
    execution_provider: str
    threads: PositiveInt
    precision: str
    date: str
    command: str
    meter: str | None = None
    clock_mhz: float | None = None
    reference_s: float | None = Field(default=None, gt=0)
    overhead: NonNegativeFloat = 0.0
    overhead_low: NonNegativeFloat = 0.0
    overhead_high: NonNegativeFloat = 0.0
    network_error: NonNegativeFloat | None = None
    networks: int = 0
    noise: NonNegativeFloat | None = None
    multiple_of: PositiveInt = 1
    step: PositiveInt | None = None
    warnings: tuple[str, ...] = ()
    families: tuple[FamilyError, ...] = ()

    @property
    def overhead_cost(self) -> Cost | None:
        """What a network pays once; None if nothing was found."""
        if self.overhead <= 0:
            return None
        said = "measured: fitted to whole networks"
        return Cost(self.overhead, self.unit, self.overhead_low, self.overhead_high, said)


@dataclass(frozen=True)
class CostTable:
    """A cost table in memory. folder: where it was read from; None for one that was just measured."""

    provenance: Provenance
    rows: tuple[TableRow, ...]
    folder: Path | None = None

    @classmethod
    def read(cls, folder: Path | str, cost: str = "latency") -> CostTable:
        """The table of one cost in a folder.

        Raises:
            InputError: no such folder or table, a damaged or incomplete file, missing columns, a wrong unit, a number
                that is no cost, or rows of one case that disagree; the message names file and line.
        """
        folder = Path(folder)
        if cost not in UNITS:
            raise InputError(f"cost {cost!r}: no such table; {nearest(cost, UNITS)}")
        files = sorted(folder.glob(f"{cost}-*.csv"))
        if not files:
            there = ", ".join(sorted(path.name for path in folder.glob("*"))) if folder.is_dir() else "no such folder"
            raise InputError(
                f"{folder}: holds no {cost} table ({there}); measure one with 'energysplit profile --for RECIPE --out "
                f"{folder}{' --energy' if cost == 'energy' else ''}', RECIPE being what is to be grown"
            )
        provenance = _provenance(folder / PROVENANCE, cost)
        rows = [row for path in files for row in _rows(path, provenance.unit)]
        _check_agreement(rows)
        return cls(provenance, tuple(row for row, _ in rows), folder)


def columns() -> list[str]:
    """Columns of a table's file: those of a layer case, then what was measured."""
    result: list[str] = []
    for field in fields(LayerCase):
        if field.name in _PAIRS:
            result += [f"{field.name}_h", f"{field.name}_w"]
        elif field.name not in _LEFT_OUT:
            result.append(field.name)
    return [*result, *_MEASURED]


def cells(row: TableRow) -> dict[str, str]:
    """Column -> text of one row."""
    result: dict[str, str] = {}
    for field in fields(LayerCase):
        value = getattr(row.case, field.name)
        if field.name in _PAIRS:
            result |= {f"{field.name}_h": str(value[0]), f"{field.name}_w": str(value[1])}
        elif field.name not in _LEFT_OUT:
            result[field.name] = str(int(value)) if field.name in _FLAGS else "" if value is None else str(value)
    numbers = {name: f"{getattr(row, name):.6g}" for name in ("median", "low", "high")}
    return result | numbers | {"samples": str(row.samples), "unit": row.unit}


def _rows(path: Path, unit: str) -> Iterator[tuple[TableRow, str]]:
    """Rows of one file, each with where it stands."""
    try:
        reader = csv.DictReader(io.StringIO(read_file(path).decode(), newline=""))
        missing = [name for name in columns() if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns())}; measure it again"
            )
        for number, cells_ in enumerate(reader, start=2):
            where = f"{path}, line {number}"
            yield _row(cells_, where, unit), where
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} can't be read as a cost table: {error}") from error


def _row(text: Mapping[str, str | None], where: str, unit: str) -> TableRow:
    found: dict[str, Any] = {}
    for field in fields(LayerCase):
        name = field.name
        if name in _LEFT_OUT:
            continue
        if name in _PAIRS:
            found[name] = (_whole(text, f"{name}_h", where), _whole(text, f"{name}_w", where))
        elif name == "op":
            found[name] = text[name]
            if text[name] not in _OPS:
                raise InputError(f"{where}: op is {text[name]!r}; {nearest(str(text[name]), _OPS)}")
        elif name == "activation":
            found[name] = text[name] or None
        elif name in _FLAGS:
            found[name] = bool(_whole(text, name, where))
        else:
            found[name] = _whole(text, name, where)
    for name in ("groups", "stride", "dilation"):
        if not all(found[name] if name in _PAIRS else (found[name],)):
            raise InputError(f"{where}: {name} is 0, which no layer has; remove the row")
    if text["unit"] != unit:
        raise InputError(f"{where}: unit is {text['unit']!r}, {unit!r} expected (SI; convert the numbers)")
    median, low, high = (_number(text, name, where) for name in ("median", "low", "high"))
    if not low <= median <= high:
        raise InputError(f"{where}: median {median:g} is outside its interval, {low:g} to {high:g}")
    return TableRow(LayerCase(**found), median, low, high, _whole(text, "samples", where), unit)


def _whole(text: Mapping[str, str | None], name: str, where: str) -> int:
    value = text[name]
    if value is None or not value.isdecimal() or len(value) > _DIGITS:
        raise InputError(
            f"{where}: {name} is {value!r}, a whole number of at least 0 expected, {_DIGITS} digits at most"
        )
    return int(value)


def _number(text: Mapping[str, str | None], name: str, where: str) -> float:
    try:
        value = float(text[name] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: {name} is {text[name]!r}, a finite number of at least 0 expected; remove the row")
    return value


def _check_agreement(rows: list[tuple[TableRow, str]]) -> None:
    """Refuse two rows of one case whose intervals do not meet and whose medians are far apart."""
    seen: dict[LayerCase, list[tuple[TableRow, str]]] = defaultdict(list)
    for row, where in rows:
        for other, there in seen[row.case]:
            apart = row.low > other.high or other.low > row.high
            if apart and max(row.median, other.median) > _DISAGREE * min(row.median, other.median):
                raise InputError(
                    f"{where}: the case was measured as {row.median:g} {row.unit} here and as {other.median:g} in "
                    f"{there}; one case, one price: remove the wrong row or measure again"
                )
        seen[row.case].append((row, where))


def _provenance(path: Path, cost: str) -> Provenance:
    try:
        found = read_toml(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error}); a table without its provenance is of no use") from error
    except ValueError as error:
        raise InputError(f"{path}: no valid TOML: {error}") from error
    section = found.get(cost)
    if not isinstance(section, dict):
        raise InputError(
            f"{path}: no section [{cost}]; {nearest(cost, found)}. Where its writing was cut short, "
            "'energysplit profile' writes it again from what it has measured"
        )
    try:
        provenance = Provenance.model_validate(section)
    except ValidationError as error:
        raise InputError(explain(error, Provenance, section, lambda _: f"{path}, [{cost}]")) from None
    if provenance.cost != cost:
        raise InputError(f"{path}: {cost}.cost is {provenance.cost!r}, {cost!r} expected; was the section renamed?")
    if not provenance.overhead_low <= provenance.overhead <= provenance.overhead_high:
        raise InputError(
            f"{path}: {cost}.overhead is {provenance.overhead:g}, outside its interval, {provenance.overhead_low:g} "
            f"to {provenance.overhead_high:g}"
        )
    if provenance.unit != UNITS[cost]:
        raise InputError(f"{path}: {cost}.unit is {provenance.unit!r}, {UNITS[cost]!r} expected (SI)")
    return provenance
