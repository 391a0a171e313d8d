"""A cost table from measured networks, and how well it predicts networks that it was not made from.

The error is found by cross-validation over whole networks: each fifth is predicted by a table of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from energysplit.costs.predictor import Predictor
from energysplit.costs.table import CostTable, FamilyError, Provenance, TableRow
from energysplit.errors import InputError
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.rows import NetworkRows, energy_rows, latency_rows
from energysplit.recipe.explain import explain

_FOLDS = 5
_COVERAGE = 0.9
_ENOUGH = 10  # networks below which nothing is held out


@dataclass(frozen=True)
class Prediction:
    """A network's measured cost and the sum of its operations' predicted costs, by rows without it."""

    network: MeasuredNetwork
    measured: float
    predicted: float


def table(
    measured: Sequence[NetworkRows], reference_s: float, provenance: Mapping[str, object], cost: str = "latency"
) -> CostTable:
    """The table of one cost, with the error of networks held out.

    Args:
        measured: networks, divided among their operations.
        reference_s: median time of the reference network.
        provenance: machine, runtime, date and so on; see `Provenance`.
        cost: "latency" or "energy".

    Raises:
        InputError: nothing was measured, or numbers that no table can hold.
    """

    def rows_of(part: Sequence[NetworkRows]) -> list[TableRow]:
        return latency_rows(part, reference_s) if cost == "latency" else energy_rows(part)

    def total(item: NetworkRows) -> float:
        return item.total.median * reference_s if cost == "latency" else float(item.energy_j or 0.0)

    used = [item for item in measured if cost == "latency" or item.energy_j is not None]
    if not used:
        raise InputError(f"nothing to make a {cost} table of: no network was measured")
    rows = rows_of(used)
    step = Predictor(rows).step
    held_out = cross_validate(used, rows_of, total, step)
    overhead, low, high = overhead_of(held_out)
    errors = {item.network.name: error for item, error in zip(held_out, _errors(held_out, overhead), strict=True)}
    said = {
        **provenance,
        "cost": cost,
        "unit": rows[0].unit,
        "reference_s": reference_s,
        "overhead": overhead,
        "overhead_low": low,
        "overhead_high": high,
        "network_error": float(np.quantile(np.abs(list(errors.values())), _COVERAGE)) if errors else None,
        "networks": len(used),
        "step": step,
        "families": _families(used, errors),
    }
    try:
        return CostTable(Provenance.model_validate(said), tuple(rows))
    except ValidationError as error:
        said_wrong = explain(error, Provenance, said, lambda _: f"the {cost} table")
        raise InputError(f"{said_wrong}; what was measured is damaged: measure it again") from None


def cross_validate(
    measured: Sequence[NetworkRows],
    rows_of: Callable[[Sequence[NetworkRows]], list[TableRow]],
    total: Callable[[NetworkRows], float],
    step: int | None = None,
) -> list[Prediction]:
    """Predictions of networks by the rows of the others; those outside what the others span are left out."""
    if len(measured) < _ENOUGH:
        return []
    result = []
    for fold in range(_FOLDS):
        others = [item for place, item in enumerate(measured) if place % _FOLDS != fold]
        predictor = Predictor(rows_of(others), step=step)
        for item in measured[fold::_FOLDS]:
            if all(predictor.covers(case) for case in item.network.cases):
                predicted = sum(predictor.price(case).value for case in item.network.cases)
                result.append(Prediction(item.network, total(item), predicted))
    return result


def overhead_of(predictions: Sequence[Prediction]) -> tuple[float, float, float]:
    """What a network costs beside its operations, with its 90 % interval: the median of what the predictions lack.

    None below 0: what is found to be less is no overhead but error.
    """
    lacking = [item.measured - item.predicted for item in predictions]
    if not lacking:
        return 0.0, 0.0, 0.0
    spread = 1.645 * 1.2533 * float(np.std(lacking)) / np.sqrt(len(lacking))  # of the median, if they are normal
    middle = float(np.median(lacking))
    return max(0.0, middle), max(0.0, middle - spread), max(0.0, middle + spread)


def _errors(predictions: Sequence[Prediction], overhead: float) -> list[float]:
    return [(item.predicted + overhead) / item.measured - 1 for item in predictions]


def _families(used: Sequence[NetworkRows], errors: Mapping[str, float]) -> list[FamilyError]:
    """The held-out error by family."""
    members: dict[tuple[str, tuple[int, int, int]], list[str]] = defaultdict(list)
    for item in used:
        members[item.network.family, item.network.image].append(item.network.name)
    result = []
    for (model, image), names in members.items():
        known = np.abs([errors[name] for name in names if name in errors])
        if len(known):
            mean, within = float(known.mean()), float((known <= 0.1).mean())
            result.append(FamilyError(model=model, image=image, networks=len(names), mean_error=mean, within_10=within))
    return result
