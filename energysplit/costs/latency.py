"""Latency of a layer case, from a table measured on the device with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from energysplit.costs.elsewhere import check_device
from energysplit.costs.predictor import Predictor
from energysplit.costs.registry import WHERE_GIVEN, register_cost
from energysplit.costs.table import CostTable, Provenance
from energysplit.errors import InputError
from energysplit.hardware import HardwareProfile, load
from energysplit.types import Cost, LayerCase

TABLES = Path("cost_tables")


@register_cost("latency")
class Latency:
    """Seconds of one image through a layer, with what the runtime fuses to it, operations without weights included.

    A network is the sum of its operations and an overhead fitted to whole networks.

    Args:
        profile: the hardware profile (name, path or `HardwareProfile`) of the device the table is for; without one,
            the table is expected to be of this machine.
        tables: folder of the cost table; `cost_tables/` and the profile's name if not given.
        strict: whether a table of another machine, runtime or setting is an error instead of a warning.

    Error: of a case, what 90 % of held-out rows stayed below; of a network (`network_error`), what 90 % of held-out
    networks stayed below.

    Raises:
        InputError: neither profile nor table given, a table that can't be used, or, if `strict`, one that was measured
            elsewhere.
    """

    unit = "s"
    every_operation = True

    def __init__(
        self,
        profile: str | Path | HardwareProfile | None = None,
        tables: str | Path | None = None,
        strict: bool = False,
    ) -> None:
        if profile is None and tables is None:
            raise InputError(
                "cost 'latency': give tables=FOLDER, which 'energysplit profile' wrote, or profile=NAME, for which "
                f"cost_tables/NAME is taken ({WHERE_GIVEN})"
            )
        device = None if profile is None else load(profile)
        folder = Path(tables) if tables is not None else TABLES / device.name  # type: ignore[union-attr]
        table = CostTable.read(folder, "latency")
        self.provenance: Provenance = table.provenance
        check_device(folder, table.provenance, device, strict)
        self.multiple_of = table.provenance.multiple_of
        self.overhead = table.provenance.overhead_cost
        self.network_error = table.provenance.network_error
        self._predictor = Predictor.of(table)

    def price(self, case: LayerCase) -> Cost:
        """Latency of `case`, interpolated between measured ones.

        Raises:
            NotMeasured: nothing like it was measured; the message says which command measures it.
        """
        return self._predictor.price(case)
