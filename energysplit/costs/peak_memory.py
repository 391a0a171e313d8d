"""Memory that activations need: the largest set alive at any moment of a network's schedule.

Weights are not in it (on small devices they stay in flash; the provider "params" counts them), nor what a runtime adds
for scratch, alignment and fragmentation. Buffers are taken as never shared between an operation's input and output.
"""

from __future__ import annotations

from pathlib import Path

from energysplit.costs.energy import checked_precision
from energysplit.costs.registry import register_cost
from energysplit.costs.traffic import BYTES, traffic
from energysplit.hardware import HardwareProfile, load
from energysplit.types import Cost, LayerCase


@register_cost("peak_memory")
class PeakMemory:
    """Bytes of activations alive while an operation runs; a network's price is the largest of its operations.

    Args:
        profile: a hardware profile (name, path or `HardwareProfile`), for its precision only.
        precision: of the maps; the profile's own if not given, fp32 without a profile.

    Raises:
        InputError: a precision that does not exist.
    """

    unit = "B"
    combine = "max"
    every_operation = True

    def __init__(self, profile: str | Path | HardwareProfile | None = None, precision: str | None = None) -> None:
        self._element_bytes = BYTES[checked_precision(precision, None if profile is None else load(profile))]

    def price(self, case: LayerCase) -> Cost:
        """Bytes alive while `case` runs, counted.

        A case outside a schedule (`live` is 0) is priced as if it ran alone: its own inputs and outputs.
        """
        moved = traffic(case)
        elements = case.live or moved.inputs + moved.outputs
        return Cost.exact(elements * self._element_bytes, self.unit)
