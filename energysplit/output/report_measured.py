"""The part of a report that holds the exported model's predicted prices against measured ones."""

from __future__ import annotations

from energysplit.output.document import Block, Column, Facts, Paragraph, Section, Table
from energysplit.output.measured import COVERAGE, Compared, MeasuredRun, Sample
from energysplit.output.numbers import percent, provider_name, quantity, times
from energysplit.output.report_tables import NOTHING, origin

TITLE = "Predicted against measured"


def measured_section(measured: MeasuredRun | str) -> Section:
    """The comparison of a run, or the sentence why there is none."""
    if isinstance(measured, str):
        return Section(TITLE, (Paragraph(f"Not shown: {measured}."),))
    blocks: list[Block] = []
    if measured.prices:
        blocks += [_table(measured), Paragraph(_meaning(measured)), Facts(_settings(measured))]
    blocks += [
        Paragraph(f"{provider_name(name)} was not measured: {reason}.")
        for name, reason in measured.not_measured.items()
    ]
    return Section(TITLE, tuple(blocks))


def _table(measured: MeasuredRun) -> Table:
    origins = ", ".join(dict.fromkeys(origin(found.predicted) for found in measured.prices.values()))
    columns = (
        Column("Price of one image"),
        Column("Predicted", origins),
        Column("Interval of the prediction"),
        Column("Median", "measured"),
        Column("Interval of the median", "measured"),
        Column("Samples", "counted"),
        Column("Measured / predicted"),
        Column("Without the reference", "measured"),
    )
    return Table(columns, tuple(_row(name, found) for name, found in measured.prices.items()))


def _row(name: str, found: Compared) -> tuple[str, ...]:
    cost, unit = found.predicted, found.predicted.unit
    return (
        provider_name(name),
        quantity(cost.value, unit),
        f"{quantity(cost.low, unit)} to {quantity(cost.high, unit)}",
        *_cells(found.measured, unit),
        times(found.ratio) if found.ratio is not None else NOTHING,
        _cells(found.plain, unit)[0],
    )


def _cells(sample: Sample | None, unit: str) -> tuple[str, str, str]:
    """Median, interval and count."""
    if sample is None:
        return NOTHING, NOTHING, NOTHING
    interval = f"{quantity(sample.low, unit)} to {quantity(sample.high, unit)}"
    return quantity(sample.median, unit), interval, str(sample.samples)


def _meaning(measured: MeasuredRun) -> str:
    text = (
        "The exported model was measured on the machine whose cost table predicted its price, after the last stage. "
        "The prediction and its interval are the table's; the measured interval holds the median with 95 %"
    )
    few = [
        f"{provider_name(name)}'s, of {sample.samples} samples, with {percent(sample.coverage)}"
        for name, sample in ((name, found.measured) for name, found in measured.prices.items())
        if sample is not None and sample.coverage < COVERAGE
    ]
    text += f" ({'; '.join(few)})." if few else "."
    if any(found.reference_s is not None and found.predicted.unit == "s" for found in measured.prices.values()):
        text += (
            " A measured latency is the model's time divided by a reference network's, timed just before and just "
            "after it, times what that network took when the table was made: a clock that has changed since is no "
            "error of the prediction. The last column is the time as it was, without the reference."
        )
    return text


def _settings(measured: MeasuredRun) -> tuple[tuple[str, str], ...]:
    rows = []
    for name, found in measured.prices.items():
        threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
        where = f"{found.machine}, {found.runtime}, {found.execution_provider}, {threads}, {found.precision}"
        rows.append((f"{provider_name(name)}, where", where))
        rows += [(f"{provider_name(name)}, to doubt", text) for text in found.warnings]
    return tuple(rows)
