"""After growth: the exported model measured on the machine whose table predicted its price, and both side by side.

Only where that is this machine, with the table's runtime: another machine's time would say nothing about the
prediction. What goes wrong here is a warning, because the run itself is finished.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from energysplit.costs import provider_name
from energysplit.costs.elsewhere import differences
from energysplit.costs.table import UNITS, Provenance
from energysplit.errors import CheckpointError, EnergysplitError
from energysplit.output.measured import Compared, MeasuredRun, Sample, read_measured, write_measured
from energysplit.progress import Progress
from energysplit.records import CostRecord, GrowthRecord
from energysplit.types import CostProvider

if TYPE_CHECKING:
    from energysplit.measure.meters import EnergyMeter
    from energysplit.measure.samples import ModelSamples, Results
    from energysplit.measure.summary import Summary

ROUNDS = 20
"""Rounds of the one network beside the reference; the median's interval then leaves out five samples at each end."""
RUNTIME = "onnxruntime"


def measure_run(
    run_dir: Path, records: Sequence[GrowthRecord], providers: Mapping[str, CostProvider], progress: Progress
) -> list[str]:
    """Warnings; `measured.json` in the run folder has what was measured.

    What the file holds already of this network is not measured again.

    Args:
        run_dir: a run folder with `model.onnx`, the network of the last record.
        records: the journal.
        providers: by the name their prices have in the journal; those without a measured table are left alone.
        progress: what work is reported to.
    """
    tables = {name: table for name, provider in providers.items() if (table := _table(provider)) is not None}
    if not tables:
        return []
    try:
        return _measure_run(run_dir, records[-1], tables, progress)
    except Exception as error:  # whatever it is, the run is finished and stays so
        return [f"model.onnx was not measured: {_said(error)}; --resume tries again"]


def _measure_run(run_dir: Path, last: GrowthRecord, tables: Mapping[str, Provenance], progress: Progress) -> list[str]:
    warnings = []
    try:
        before = read_measured(run_dir)
    except CheckpointError as error:
        before = None
        warnings.append(f"{_said(error)}; measured again")
    found = dict(before.prices) if before is not None and before.weights_sha256 == last.weights_sha256 else {}
    known = set(found)
    left_out: dict[str, str] = {}
    for name, table in tables.items():
        if name in known:
            continue
        predicted = last.prices[name]
        reason = _elsewhere(table)
        if not reason:
            try:
                found[name] = _compared(run_dir / "model.onnx", predicted, table, progress)
                progress.line(f"{name}: {found[name].sentence}")
                continue
            except Exception as error:  # the other prices can still be measured
                reason = f"{_said(error)}; --resume tries again"
        left_out[name] = reason
        warnings.append(f"{name} of model.onnx was not measured: {reason}")
    if set(found) != known:
        write_measured(run_dir, MeasuredRun(weights_sha256=last.weights_sha256, prices=found, not_measured=left_out))
    return warnings


def _elsewhere(table: Provenance) -> str:
    """Why a table's price can't be measured here: the machine or runtime it is of, beside this one; "" if it can."""
    found = differences(table, None)
    if table.runtime != RUNTIME:
        found.append(f"measured with {table.runtime} {table.runtime_version}, {RUNTIME} would measure here")
    return f"its table was {'; '.join(found)}" if found else ""


def _table(provider: CostProvider) -> Provenance | None:
    """Where the provider's table comes from; None if it has none, or none of time or energy."""
    found = getattr(provider, "provenance", None)
    return found if isinstance(found, Provenance) and provider_name(provider) in UNITS else None


def _compared(model: Path, predicted: CostRecord, table: Provenance, progress: Progress) -> Compared:
    """The prediction beside a measurement made now.

    Raises:
        EnergysplitError: the network does not run, or can't be measured as the table's were.
    """
    from energysplit.measure.meters import NoMeter, find_meter
    from energysplit.measure.statistics import warnings_of
    from energysplit.measure.summary import Summary

    settings = {key: getattr(table, key) for key in ("machine", "execution_provider", "threads", "precision")}
    settings |= {"predicted": predicted, "reference_s": table.reference_s}
    settings["runtime"] = f"{table.runtime} {table.runtime_version}"
    meter = find_meter(table.execution_provider) if table.cost == "energy" else None
    if isinstance(meter, NoMeter):
        nothing = f"no energy was measured: {meter.reason}"
        return Compared(measured=None, ratio=None, plain=None, warnings=(nothing,), **settings)
    results, samples = _samples(model, table, meter, progress)
    plain: Sample | None = _sample(Summary.of(samples.network.values_s))
    measured = plain
    if table.cost == "energy":
        measured = plain = None if samples.energy is None else _sample(samples.energy)
    elif table.reference_s is not None:
        measured = _sample(samples.network.ratio, table.reference_s)
    ratio = measured.median / predicted.value if measured is not None and predicted.value > 0 else None
    doubts = tuple(warning.text for warning in warnings_of(results))
    return Compared(measured=measured, ratio=ratio, plain=plain, warnings=doubts, **settings)


def _samples(
    model: Path, table: Provenance, meter: EnergyMeter | None, progress: Progress
) -> tuple[Results, ModelSamples]:
    """The model's samples, taken as the table's were: same provider, threads, precision and reference network."""
    from energysplit.measure.plan import PlanOptions, write_plan
    from energysplit.measure.precision import converted
    from energysplit.measure.reference import reference_model
    from energysplit.measure.runner import measure
    from energysplit.measure.samples import read_results

    options = PlanOptions(table.execution_provider, table.threads, rounds=ROUNDS)
    data = converted(model.read_bytes(), table.precision)  # type: ignore[arg-type]  # it refuses others by name
    with tempfile.TemporaryDirectory(prefix="energysplit_measured_") as folder:
        write_plan(folder, [("model", data)], reference_model(), options)
        done = measure(folder, progress, meter=meter)
        if done.failed:
            raise EnergysplitError(next(iter(done.failed.values())))
        results = read_results(done.results)
    return results, results.models["model"]


def _sample(summary: Summary, scale: float = 1.0) -> Sample:
    return Sample(
        median=summary.median * scale, low=summary.low * scale, high=summary.high * scale, samples=summary.count
    )


def _said(error: Exception) -> str:
    """An error on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, EnergysplitError) else f"{type(error).__name__}: {text}"
