"""Cost tables made up for tests: prices follow a formula, nothing here was measured."""

from __future__ import annotations

import itertools
from importlib import metadata
from pathlib import Path

from energysplit.costs.table import UNITS, CostTable, Provenance, TableRow
from energysplit.hardware.detect import machine
from energysplit.measure import table_files
from energysplit.types import LayerCase, Priceable

SECONDS = {"latency": 1e-6, "energy": 1e-9}


def made_up(case: LayerCase, cost: str = "latency") -> float:
    """The formula: what a case moves and computes, times a millionth of a second (a billionth of a joule)."""
    positions = case.out_size[0] * case.out_size[1]
    work = 1 + 1e-3 * positions * (case.in_channels + case.out_channels * (1 + case.in_channels / case.groups))
    return SECONDS[cost] * work


def write_table(
    folder: Path, net: Priceable, widths: tuple[int, ...] = (3, 4, 6, 8, 12, 16, 24, 32), cost: str = "latency", **said
) -> CostTable:
    """A table of this machine for everything that runs in a network, at these widths of its groups.

    Args:
        folder: where to.
        net: the network.
        widths: of all groups that can be split.
        cost: "latency" or "energy".
        **said: entries of the provenance that differ.
    """
    free = [name for name, group in net.groups.items() if group.splittable]
    found: dict[LayerCase, TableRow] = {}
    for choice in itertools.product(widths, repeat=len(free)):
        for case in net.operations(dict(zip(free, choice, strict=True))).values():
            case = LayerCase(**{**vars(case), "live": 0})
            value = made_up(case, cost)
            found[case] = TableRow(case, value, 0.95 * value, 1.05 * value, 20, UNITS[cost])
    provenance = Provenance(
        **{
            "cost": cost,
            "unit": UNITS[cost],
            "machine": machine().processor,
            "system": "made up",
            "runtime": "onnxruntime",
            "runtime_version": metadata.version("onnxruntime"),
            "execution_provider": "CPUExecutionProvider",
            "threads": 1,
            "precision": "fp32",
            "date": "2026-01-01",
            "command": "made up",
            "reference_s": 1e-3,
            "overhead": 2e-6 if cost == "latency" else 0.0,
            "overhead_low": 1e-6 if cost == "latency" else 0.0,
            "overhead_high": 3e-6 if cost == "latency" else 0.0,
            "network_error": 0.04,
        }
        | said
    )
    table_files.write(CostTable(provenance, tuple(found.values())), folder)
    return CostTable.read(folder, cost)
