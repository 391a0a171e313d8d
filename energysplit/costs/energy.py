"""Energy of a layer case: interpolated in a measured table, or else MACs and bytes times a profile's energies.

The estimate follows Yang, Chen and Sze 2017 (arXiv 1611.05128): the energy of the MACs, plus for each level of memory
the bytes moved there times the energy of a byte. `moved_bytes` has the reuse assumed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from energysplit.costs.registry import WHERE_GIVEN, register_cost
from energysplit.costs.traffic import BYTES, Traffic, traffic
from energysplit.errors import InputError, NotMeasured, nearest
from energysplit.hardware import HardwareProfile, MemoryLevel, Number, load
from energysplit.types import WEIGHTED, Cost, LayerCase

if TYPE_CHECKING:
    from energysplit.costs.predictor import Predictor
    from energysplit.costs.table import Provenance


@register_cost("energy")
class Energy:
    """Energy of one image through a layer, operations without weights included.

    Args:
        profile: a hardware profile (name, path or `HardwareProfile`) to estimate from.
        tables: folder of a cost table with measured energies. With a profile too, the profile prices what the table
            does not cover, and the price's source says so.
        precision: of weights and maps; the profile's own if not given. Of a table alone it says what is expected.
        strict: whether a table of another machine, runtime or setting is an error instead of a warning.

    Unit: J; "MAC-energy" for a profile that knows energies relative to one MAC only.
    Error: of an estimate, the intervals of all the profile's numbers at their ends together; that of the reuse model is
    not in it. Of a table, its own; its overhead and its error over whole networks are this provider's.

    Raises:
        InputError: neither profile nor table given, a precision that does not exist, a table of another precision
            than the one given (without a profile), or numbers missing in the profile.
    """

    every_operation = True

    def __init__(
        self,
        profile: str | Path | HardwareProfile | None = None,
        tables: str | Path | None = None,
        precision: str | None = None,
        strict: bool = False,
    ) -> None:
        if profile is None and tables is None:
            raise InputError(
                "cost 'energy': give profile=NAME, a hardware profile to estimate from, or tables=FOLDER, of measured "
                f"energies ({WHERE_GIVEN})"
            )
        self._profile = None if profile is None else load(profile)
        self._predictor: Predictor | None = None
        self.unit = "J"
        self.overhead: Cost | None = None
        self.network_error: float | None = None
        self.multiple_of: int | None = None
        self.provenance: Provenance | None = None
        if precision is not None:
            checked_precision(precision, None)
        if tables is not None:
            self._read(tables, strict)
            self._check_table(tables, precision)
        if self._profile is not None:
            self._precision = checked_precision(precision, self._profile)
            self.unit = self._profile.energy_unit
            self._require(self._profile)
            if self._predictor is not None and self.unit != "J":
                raise InputError(
                    f"cost 'energy': the table is in J, profile {self._profile.name!r} in {self.unit}; leave one out"
                )

    def price(self, case: LayerCase) -> Cost:
        """Energy of `case`, interpolated where the table reaches, else estimated.

        Raises:
            NotMeasured: the table does not cover the case, and there is no profile.
        """
        if self._predictor is not None:
            try:
                return self._predictor.price(case)
            except NotMeasured:
                if self._profile is None:
                    raise
        assert self._profile is not None
        return self._estimate(case, self._profile)

    def _estimate(self, case: LayerCase, profile: HardwareProfile) -> Cost:
        moved = traffic(case)
        arithmetic = profile.arithmetic(self._precision)
        assert arithmetic.energy is not None
        ends = {part: moved.macs * getattr(arithmetic.energy, part) for part in ("value", "low", "high")}
        if not arithmetic.memory_included:
            groups = case.groups if case.op in WEIGHTED else 1
            for part in ends:
                bytes_by_level = moved_bytes(moved, profile.memory, BYTES[self._precision], groups, part)
                for level, size_bytes in zip(profile.memory, bytes_by_level, strict=True):
                    assert level.energy is not None
                    ends[part] += size_bytes * getattr(level.energy, part)
        said = "MACs times the energy" if arithmetic.memory_included else "MACs and bytes times the energies"
        source = f"estimated: {said} of profile {profile.name}, {self._precision}"
        return Cost(ends["value"], self.unit, ends["low"], ends["high"], source)

    def _read(self, tables: str | Path, strict: bool) -> None:
        from energysplit.costs.elsewhere import check_device
        from energysplit.costs.predictor import Predictor
        from energysplit.costs.table import CostTable

        table = CostTable.read(tables, "energy")
        check_device(tables, table.provenance, self._profile, strict)
        self._predictor = Predictor.of(table)
        said = self.provenance = table.provenance
        self.overhead, self.multiple_of = said.overhead_cost, said.multiple_of
        if self._profile is None:  # with a profile, part of a network may be estimated, with errors of its own
            self.network_error = said.network_error

    def _check_table(self, tables: str | Path, precision: str | None) -> None:
        """Refuses a precision that only a profile could give."""
        assert self.provenance is not None
        measured = self.provenance.precision
        if self._profile is None and precision is not None and precision != measured:
            raise InputError(
                f"cost 'energy': precision {precision!r} given, but {tables} was measured in {measured!r}; leave it "
                "out, or measure a table of that precision"
            )

    def _require(self, profile: HardwareProfile) -> None:
        arithmetic = profile.arithmetic(self._precision)
        needed: dict[str, Number | None] = {f"compute.{self._precision}.energy": arithmetic.energy}
        if not arithmetic.memory_included:
            for position, level in enumerate(profile.memory):
                needed[f"memory.{position}.energy ({level.name})"] = level.energy
            if not profile.memory:
                needed["memory.0.energy (or compute's memory_included = true)"] = None
        profile.require("energy", needed)


def moved_bytes(
    moved: Traffic, memory: tuple[MemoryLevel, ...], element_bytes: int, groups: int = 1, part: str = "value"
) -> list[float]:
    """Bytes read and written at each level of memory for one image through a layer.

    - A store of operands (a level with `accesses_per_mac`) serves each MAC that often. Maps don't stay in it.
    - At any other level the weights are read once: those of the whole network pass between two uses of a layer's, so
      no nearer level still has them. A map that is larger than the nearer buffers is read or written there; one that
      fits the last of them stays in it between layers and does not reach this level.
    - Where neither weights nor input map fit the nearer level, one of them is held piece by piece, and the other is
      read again for each piece, whichever way moves less. The outputs are complete after one pass, and are written
      once. A grouped convolution does this group by group.

    Halos of the pieces, partial sums and what filling a level costs there are left out, and so are zeros that some
    chips skip.

    Args:
        moved: MACs and elements.
        memory: levels, the nearest first.
        element_bytes: bytes of one element.
        groups: of a convolution.
        part: "value", "low" or "high": which end of `accesses_per_mac` is taken.
    """
    found: list[float] = []
    holds = math.inf  # what the nearer level can hold of weights or inputs; all of it where there is no nearer level
    keeps = 0.0  # largest map that stays in a nearer buffer
    for level in memory:
        if level.accesses_per_mac is not None:
            found.append(moved.macs * getattr(level.accesses_per_mac, part) * element_bytes)
        else:
            weights, inputs, outputs = (size * element_bytes for size in moved[1:])
            read = _tiled(weights, inputs, groups, holds)
            found.append(read - (inputs if inputs <= keeps else 0) + (outputs if outputs > keeps else 0))
        if level.capacity is not None:
            holds = level.capacity.value
            keeps = holds if level.accesses_per_mac is None else keeps
    return found


def checked_precision(precision: str | None, profile: HardwareProfile | None) -> str:
    """The precision given, else the profile's, else fp32.

    Raises:
        InputError: there is no such precision.
    """
    if precision is None:
        return profile.precision if profile is not None else "fp32"
    if precision not in BYTES:
        raise InputError(f"precision {precision!r}: expected one of {', '.join(BYTES)}; {nearest(precision, BYTES)}")
    return precision


def _tiled(weights: float, inputs: float, groups: int, holds: float) -> float:
    """Bytes of weights and inputs read where the level above holds `holds` bytes of one of them."""
    pieces_of_weights = max(1, math.ceil(weights / groups / holds))
    pieces_of_inputs = max(1, math.ceil(inputs / groups / holds))
    return min(weights + inputs * pieces_of_weights, inputs + weights * pieces_of_inputs)
