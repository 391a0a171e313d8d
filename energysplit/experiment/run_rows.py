"""Every run and stage of a comparison, one row each: as CSV, and as a table."""

from __future__ import annotations

import csv
import io

from energysplit.output.comparison import Comparison, CostName
from energysplit.output.comparison_compute import TRAINING_COMPUTE
from energysplit.output.document import Column, Table
from energysplit.output.numbers import duration, percent, plain
from energysplit.output.report_tables import NOTHING, UNUSED, short


def results_csv(comparison: Comparison) -> str:
    """A row for each run and stage; prices in the unit that the head names, accuracies from 0 to 1."""
    names = _prices(comparison)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "method",
            "seed",
            "stage",
            *(f"{'measured_' if name.measured else ''}{name.provider}_{comparison.costs[name]}" for name in names),
            "validation_accuracy",
            "test_accuracy",
            "epochs_so_far",
            "training_macs_so_far",
            "train_s",
            "index_s",
            "total_s",
        ]
    )
    for method in comparison.methods:
        for run in method.runs:
            for record in run.records:
                writer.writerow(
                    [
                        method.label,
                        run.seed,
                        record.stage,
                        *(_bare(run.cost(name, record.stage)) for name in names),
                        _bare(record.validation.accuracy),
                        _bare(record.test.accuracy if record.test else None),
                        run.epochs_to(record.stage),
                        _bare(run.compute_to(record.stage)),
                        _bare(record.seconds.get("train")),
                        _bare(record.seconds.get("index")),
                        _bare(sum(record.seconds.values())),
                    ]
                )
    return text.getvalue()


def _bare(value: float | None) -> str:
    """A number that reads back equal; empty where there is none."""
    return "" if value is None else repr(int(value) if float(value).is_integer() else value)


def run_table(comparison: Comparison) -> Table:
    """The same, as people read it."""
    columns = (
        Column("Method"),
        Column("Seed"),
        Column("Stage"),
        *(Column(name.title) for name in _prices(comparison)),
        Column("Validation accuracy", "measured"),
        Column("Test accuracy", f"measured, {UNUSED}"),
        Column("Epochs so far", "counted"),
        Column("Training compute so far", "counted, MACs"),
        Column("Time of training", "measured"),
        Column("Time of indexing", "measured"),
    )
    rows = []
    for method in comparison.methods:
        for run in method.runs:
            for record in run.records:
                costs = [(name, comparison.costs[name], run.cost(name, record.stage)) for name in _prices(comparison)]
                compute = run.compute_to(record.stage)
                rows.append(
                    (
                        method.label,
                        str(run.seed),
                        str(record.stage),
                        *(
                            NOTHING if value is None else short(value, unit, name.provider)
                            for name, unit, value in costs
                        ),
                        percent(record.validation.accuracy),
                        percent(record.test.accuracy) if record.test else NOTHING,
                        str(run.epochs_to(record.stage)),
                        NOTHING if compute is None else plain(compute, 3),
                        _time(record.seconds.get("train")),
                        _time(record.seconds.get("index")),
                    )
                )
    return Table(columns, tuple(rows))


def _prices(comparison: Comparison) -> list[CostName]:
    """The costs of networks; that of training has a column of its own, also where not all runs know it."""
    return [name for name in comparison.costs if name != CostName(TRAINING_COMPUTE)]


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


COMPUTE = (
    "Training compute is counted: three times the network's MACs for each image of each epoch, and four times for each "
    "image of a sweep for splitting indices (six where splits may be signed). Of a baseline's stage that starts from "
    "random weights it is its own; a search before the last training (growth.last_weights) counts. "
    "A run that began with another's stage 0 has that one's epochs and seconds too."
)
