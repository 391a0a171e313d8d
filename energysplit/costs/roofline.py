"""Time of a layer case by the roofline: as fast as the arithmetic or the memory allows, whichever is slower.

A lower bound rather than a prediction: kernels rarely reach either roof. It says which layers memory limits, and
needs nothing but a device's peaks.
"""

from __future__ import annotations

from pathlib import Path

from energysplit.costs.energy import checked_precision
from energysplit.costs.registry import register_cost
from energysplit.costs.traffic import BYTES, traffic
from energysplit.hardware import HardwareProfile, MemoryLevel, Number, load
from energysplit.types import Cost, LayerCase


@register_cost("roofline")
class Roofline:
    """Time of one image through a layer, in seconds: the larger of compute time and memory time.

    Compute time: MACs over the peak. Memory time: weights, inputs and outputs once, over the bandwidth of the nearest
    level that holds all three together; the farthest level takes what fits nowhere. The profile's `kernel_overhead` is
    added to each operation. Stores of operands (levels with `accesses_per_mac`) are left out.

    Args:
        profile: a hardware profile (name, path or `HardwareProfile`) with peak and bandwidths.
        precision: of weights and maps; the profile's own if not given.

    Error: the intervals of the profile's numbers; that kernels stay under the roof is not in them.

    Raises:
        InputError: a precision that does not exist, or numbers missing in the profile.
    """

    unit = "s"
    every_operation = True

    def __init__(self, profile: str | Path | HardwareProfile, precision: str | None = None) -> None:
        self._profile = load(profile)
        self._precision = checked_precision(precision, self._profile)
        levels = list(enumerate(self._profile.memory))
        self._levels = [level for _, level in levels if level.accesses_per_mac is None]
        needed: dict[str, Number | None] = {
            f"compute.{self._precision}.peak": self._profile.arithmetic(self._precision).peak
        }
        for position, level in levels:
            if level.accesses_per_mac is None:
                needed[f"memory.{position}.bandwidth ({level.name})"] = level.bandwidth
        if not self._levels:
            needed["memory.0.bandwidth"] = None
        self._profile.require("a roofline", needed)

    def price(self, case: LayerCase) -> Cost:
        """Time of `case`, estimated."""
        moved = traffic(case)
        size_bytes = moved.elements * BYTES[self._precision]
        level = self._level(size_bytes)
        peak = self._profile.arithmetic(self._precision).peak
        overhead = self._profile.kernel_overhead
        assert peak is not None
        assert level.bandwidth is not None
        compute_s, memory_s = moved.macs / peak.value, size_bytes / level.bandwidth.value
        shortest_s = max(moved.macs / peak.high, size_bytes / level.bandwidth.high)
        longest_s = max(moved.macs / peak.low, size_bytes / level.bandwidth.low)
        limit = "the peak" if compute_s >= memory_s else f"the bandwidth of {level.name}"
        start_s, start_low_s, start_high_s = (overhead.value, overhead.low, overhead.high) if overhead else (0, 0, 0)
        return Cost(
            max(compute_s, memory_s) + start_s, self.unit, shortest_s + start_low_s, longest_s + start_high_s,
            f"estimated: roofline of profile {self._profile.name}, {self._precision}, limited by {limit}",
        )  # fmt: skip

    def _level(self, size_bytes: int) -> MemoryLevel:
        for level in self._levels:
            if level.capacity is None or size_bytes <= level.capacity.value:
                return level
        return self._levels[-1]
