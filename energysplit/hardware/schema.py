"""What a hardware profile may say: every number with its interval, its unit and where it comes from.

A profile describes one device: how networks are measured on it (execution provider, threads, precision), what a MAC
costs at each precision, and its memory, from the level nearest to the arithmetic to the farthest. What is not known
is left out; a provider that needs it says so (`HardwareProfile.require`). Nothing is 0 for want of a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from energysplit.errors import InputError
from energysplit.plain_data import NAME
from energysplit.types import ORIGINS

Precision = Literal["fp32", "fp16", "int16", "int8"]
SOURCES = (*ORIGINS, "read")
"""First words of a number's source: those of prices, and "read" from the system or a data sheet."""

_LIST = Field(strict=False)


class _Table(BaseModel):
    """A table of a profile: frozen, unknown keys refused, types not converted, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Number(_Table):
    """A number with its interval, its unit and where it comes from."""

    value: float = Field(ge=0, description="the number, in `unit`")
    low: float = Field(ge=0, description="lower end of its interval, in `unit`")
    high: float = Field(ge=0, description="upper end of its interval, in `unit`")
    unit: str = Field(min_length=1, description="SI unit of value, low and high")
    source: str = Field(min_length=1, description="where it comes from: 'measured: how', 'estimated: from what', ...")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"value {self.value:g} is outside its interval, low = {self.low:g} to high = {self.high:g}"
            )
        return self

    @model_validator(mode="after")
    def _origin(self) -> Self:
        words = self.source.replace(":", " ").split()
        if not words or words[0] not in SOURCES:
            raise ValueError(
                f"source is {self.source!r}, expected it to begin with one of {', '.join(SOURCES)}, such as "
                "'measured: median of 30 runs'"
            )
        return self


def _in(*units: str) -> Callable[[Number], Number]:
    def check(number: Number) -> Number:
        if number.unit not in units:
            raise ValueError(f"unit is {number.unit!r}, expected {' or '.join(map(repr, units))}")
        return number

    return check


def _positive(number: Number) -> Number:
    if number.low <= 0:
        raise ValueError(f"low is {number.low:g}, expected a number > 0 (it is divided by)")
    return number


Rate = Annotated[Number, AfterValidator(_in("MAC/s")), AfterValidator(_positive)]
Bandwidth = Annotated[Number, AfterValidator(_in("B/s")), AfterValidator(_positive)]
MacEnergy = Annotated[Number, AfterValidator(_in("J/MAC", "MAC-energy/MAC"))]
ByteEnergy = Annotated[Number, AfterValidator(_in("J/B", "MAC-energy/B"))]
Accesses = Annotated[Number, AfterValidator(_in("access/MAC"))]
Bytes = Annotated[Number, AfterValidator(_in("B")), AfterValidator(_positive)]
Seconds = Annotated[Number, AfterValidator(_in("s"))]
Joules = Annotated[Number, AfterValidator(_in("J"))]


class Arithmetic(_Table):
    """Multiply-accumulates at one precision."""

    peak: Rate | None = Field(default=None, description="most MACs a second that code reaches (threads as above)")
    energy: MacEnergy | None = Field(default=None, description="energy of one MAC, operands at hand")
    memory_included: bool = Field(
        default=False, description="whether `energy` includes the memory's, as one fitted to whole networks does"
    )


class Compute(_Table):
    """Multiply-accumulates by precision."""

    fp32: Arithmetic | None = Field(default=None, description="32-bit floating point")
    fp16: Arithmetic | None = Field(default=None, description="16-bit floating point")
    int16: Arithmetic | None = Field(default=None, description="16-bit fixed point")
    int8: Arithmetic | None = Field(default=None, description="8-bit integers")


class MemoryLevel(_Table):
    """One level of memory.

    With `accesses_per_mac` it is a store of operands: each MAC reads and writes it so often, and maps don't stay in
    it between layers. Without, it is a buffer that operands pass through and maps stay in where they fit.
    """

    name: str = Field(min_length=1, description="what the level is called")
    capacity: Bytes | None = Field(default=None, description="its size; left out where there is no bound")
    bandwidth: Bandwidth | None = Field(default=None, description="bytes a second that code reaches")
    energy: ByteEnergy | None = Field(default=None, description="energy of moving one byte from or to it")
    accesses_per_mac: Accesses | None = Field(default=None, description="elements a MAC reads and writes there")


class Measurement(_Table):
    """A published measurement of a whole network on this device."""

    network: str = Field(min_length=1, description="name of the network")
    macs: int = Field(ge=1, description="its multiply-accumulates, counted")
    energy: Joules = Field(description="energy of one inference")
    runtime: str = Field(min_length=1, description="what ran it: the software stack")
    round: str | None = Field(default=None, description="round of the benchmark it was published in")
    submitter: str | None = Field(default=None, description="who measured it")
    setup: str | None = Field(default=None, description="voltage, clock, core")


class HardwareProfile(_Table):
    """A device: how networks are measured on it, and what its arithmetic and its memory charge."""

    name: str = Field(pattern=NAME, max_length=200, description="name of the profile, the file's own")
    description: str = Field(min_length=1, description="what the device is, in a sentence")
    kind: Literal["cpu", "gpu", "microcontroller", "accelerator"] = Field(description="kind of device")
    technology: str | None = Field(default=None, description="process and voltage")
    processor: str | None = Field(default=None, description="model of the processor, as it names itself")
    cores: int | None = Field(default=None, ge=1, description="processor cores that may be used")
    execution_provider: str | None = Field(
        default=None, description="ONNX Runtime's name of what runs networks; left out where ONNX Runtime does not run"
    )
    threads: int = Field(default=1, ge=1, description="threads a network is measured with")
    precision: Precision = Field(default="fp32", description="precision of weights and maps")
    compute: Compute = Field(default_factory=Compute, description="multiply-accumulates by precision")
    memory: Annotated[tuple[MemoryLevel, ...], _LIST] = Field(
        default=(), description="levels of memory, the one nearest to the arithmetic first"
    )
    kernel_overhead: Seconds | None = Field(default=None, description="time a layer takes whatever its size")
    measured: Annotated[tuple[Measurement, ...], _LIST] = Field(
        default=(), description="published measurements of whole networks"
    )

    @model_validator(mode="after")
    def _levels_grow(self) -> Self:
        names = [level.name for level in self.memory]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"memory: two levels are called {name!r}; expected a name of its own for each")
        for level in self.memory[:-1]:
            if level.capacity is None and level.accesses_per_mac is None:
                raise ValueError(f"memory: {level.name!r} has no capacity; only the farthest level may be unbounded")
        sizes = [(level.name, level.capacity.value) for level in self.memory if level.capacity is not None]
        for (near, less), (far, more) in pairwise(sizes):
            if more <= less:
                raise ValueError(
                    f"memory: {far!r} ({more:g} B) is not larger than {near!r} ({less:g} B); expected the nearest, "
                    "smallest level first"
                )
        return self

    @model_validator(mode="after")
    def _one_energy_unit(self) -> Self:
        units = {number.unit.split("/")[0]: key for key, number in self.numbers().items() if key.endswith(".energy")}
        if len(units) > 1:
            said = ", ".join(f"{unit} ({key})" for unit, key in units.items())
            raise ValueError(f"energies are in different units: {said}; expected one unit in a profile")
        return self

    @property
    def energy_unit(self) -> str:
        """Unit of its energies: "J", or "MAC-energy" where they are known relative to one MAC only."""
        for key, number in self.numbers().items():
            if key.endswith(".energy"):
                return number.unit.split("/")[0]
        return "J"

    def numbers(self) -> dict[str, Number]:
        """Dotted key -> every number of the profile."""
        found: dict[str, Number] = {}
        _collect(self, "", found)
        return found

    def arithmetic(self, precision: str | None = None) -> Arithmetic:
        """MACs at a precision, its own if none is given; without numbers where the profile has none."""
        return getattr(self.compute, precision or self.precision, None) or Arithmetic()

    def require(self, purpose: str, needed: Mapping[str, Number | None]) -> None:
        """Refuses to go on without the numbers a purpose needs.

        Args:
            purpose: what they are needed for, "energy" or "roofline".
            needed: dotted key -> number, or None where the profile has none.

        Raises:
            InputError: one is missing; the message names all that are.
        """
        missing = [key for key, number in needed.items() if number is None]
        if missing:
            raise InputError(
                f"hardware profile {self.name!r} can't give {purpose}: missing {', '.join(missing)}; add each as a "
                "table {value, low, high, unit, source}, or choose another profile"
            )


def _collect(node: object, prefix: str, found: dict[str, Number]) -> None:
    if isinstance(node, Number):
        found[prefix] = node
    elif isinstance(node, BaseModel):
        for key in type(node).model_fields:
            _collect(getattr(node, key), f"{prefix}.{key}" if prefix else key, found)
    elif isinstance(node, tuple):
        for position, item in enumerate(node):
            _collect(item, f"{prefix}.{position}", found)
