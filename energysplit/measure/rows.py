"""Rows of a cost table from what was measured: each network's time, or energy, divided among its operations.

The runtime's own profile says how a network's time is divided; the plain runs say how much there is (see `profiler`).
Energy can't be read node by node: it is divided like the time, so its rows hold as far as power is the same
throughout a network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from energysplit.costs.table import TableRow
from energysplit.errors import InputError
from energysplit.measure.attribution import units_of
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.profiler import ProfilerCost
from energysplit.measure.samples import ModelSamples, Results
from energysplit.measure.summary import Summary
from energysplit.types import LayerCase


@dataclass(frozen=True)
class NetworkRows:
    """A measured network, divided.

    ratios: shape (operations, rounds), times of the reference network; all operations of a round add up to the network.
    total: of the whole network, in times of the reference. energy_j: median joules of one run, None where no meter was.
    windows_j: joules of one run, one a window of the meter; where left out, `energy_j` counts as the only one.
    """

    network: MeasuredNetwork
    ratios: np.ndarray
    total: Summary
    energy_j: float | None = None
    windows_j: tuple[float, ...] = ()


def divided(results: Sequence[Results], networks: Mapping[str, MeasuredNetwork]) -> list[NetworkRows]:
    """The networks that ran, each divided among its operations."""
    models = [model for part in results for model in part.models.values() if model.name in networks]
    if not models:
        return []
    cost = ProfilerCost.of(models)
    return [_divided(model, networks[model.name], cost) for model in models]


def latency_rows(measured: Sequence[NetworkRows], reference_s: float) -> list[TableRow]:
    """A row for each layer case, in seconds: samples of all networks that hold it."""
    samples: dict[LayerCase, list[float]] = defaultdict(list)
    for item in measured:
        for case, ratios in zip(item.network.cases, item.ratios, strict=True):
            samples[case].extend(ratios * reference_s)
    return [_row(case, found, "s") for case, found in samples.items()]


def energy_rows(measured: Sequence[NetworkRows]) -> list[TableRow]:
    """A row for each layer case, in joules, of the networks whose energy was measured.

    A sample is one window's joules times the operation's median share of the network's time, so that interval and count
    are those of the joules. That the shares spread too, and that energy is divided like time, is not in the interval.
    """
    samples: dict[LayerCase, list[float]] = defaultdict(list)
    for item in measured:
        if item.energy_j is not None:
            shares = np.median(item.ratios / item.ratios.sum(axis=0), axis=1)
            for case, share in zip(item.network.cases, shares, strict=True):
                samples[case].extend(float(share) * joules for joules in item.windows_j or (item.energy_j,))
    return [_row(case, found, "J") for case, found in samples.items()]


def _divided(model: ModelSamples, network: MeasuredNetwork, cost: ProfilerCost) -> NetworkRows:
    units = units_of([node.node for node in model.nodes])
    if max(units) >= len(network.cases):
        raise InputError(
            f"network {model.name!r}: unit {max(units)} was measured, but it has {len(network.cases)}; "
            "are these the results of another kit?"
        )
    ratios = np.zeros((len(network.cases), len(model.network.values_s)))
    for unit, samples in zip(units, cost.shares(model), strict=True):
        ratios[unit] += np.array(samples.ratios)
    energy = median(model.energy_j) if model.energy_j else None
    return NetworkRows(network, ratios, model.network.ratio, energy, model.energy_j)


def _row(case: LayerCase, samples: list[float], unit: str) -> TableRow:
    summary = Summary.of(samples)
    return TableRow(case, summary.median, summary.low, summary.high, summary.count, unit)
