"""What the exported models of several runs take on this machine, measured side by side.

    python benchmarks/exported_models.py RUN... [--rounds 60] [--out benchmarks/results]

Each run folder has a `model.onnx`. All of them take turns in one process of ONNX Runtime, as `energysplit profile`
measures, each sample beside one of a small reference network, so that what slows the machine slows both. A ratio is
that of medians to the first run's model; samples of one round are drawn together for its interval. Accuracies are those
that the journals have, on test images, which choose nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from timing import ratio, write

from energysplit.growth.compared import read_run
from energysplit.measure.plan import PlanOptions, write_plan
from energysplit.measure.reference import reference_model
from energysplit.measure.runner import measure
from energysplit.measure.samples import read_results
from energysplit.measure.summary import Summary
from energysplit.records import GrowthRecord

LEAST = 6
"""Rounds below which no interval of a median has 95 %."""


def main() -> None:
    """Measure, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=60, help="samples of each model")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    parser.add_argument("--out", type=Path, help="folder for the table and the samples")
    options = parser.parse_args()
    if options.rounds < LEAST:
        raise SystemExit(f"--rounds {options.rounds}: expected at least {LEAST}, of which a 95 % interval can be told")
    records = [last_record(run) for run in options.runs]
    seconds, header = relative_seconds(options.runs, options.rounds, options.threads)
    rows = [
        row(run.name, record, found, seconds[0])
        for run, record, found in zip(options.runs, records, seconds, strict=True)
    ]
    lines = [
        "# Exported models, side by side",
        "",
        f"`python benchmarks/exported_models.py RUN... --rounds {options.rounds} --threads {options.threads}`. "
        f"Measured on {header['cpu'] or header['machine']}, ONNX Runtime {header['onnxruntime']}, {options.threads} "
        f"thread(s); medians of {options.rounds} samples in turns, with 95 % intervals.",
        "",
        "| run | widths | MACs | latency, µs | beside the first | test accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    samples = [{"run": run.name, "seconds": list(each)} for run, each in zip(options.runs, seconds, strict=True)]
    write(options, "exported_models", lines, samples)


def last_record(run: Path) -> GrowthRecord:
    """Of a finished run that was exported; the script ends where it was not."""
    found = read_run(run)
    if not found.finished or not (run / "model.onnx").exists():
        raise SystemExit(f"{run}: not finished or not exported; give runs that ended with export.onnx = true")
    return found.records[-1]


def relative_seconds(runs: list[Path], rounds: int, threads: int) -> tuple[list[np.ndarray], Mapping[str, str]]:
    """Seconds of every run's model in every round, [runs][rounds], and what the results say of the machine.

    A sample is taken beside one of the reference network, whose speed then, beside its usual one, is taken out.
    """
    names = [f"model{n}" for n in range(len(runs))]
    models = [(name, (run / "model.onnx").read_bytes()) for name, run in zip(names, runs, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        write_plan(folder, models, reference_model(), PlanOptions(threads=threads, rounds=rounds, batch=len(models)))
        done = measure(folder)
        if done.failed:
            raise SystemExit("; ".join(f"{runs[names.index(name)]}: {why}" for name, why in done.failed.items()))
        found = read_results(done.results)
    usual = found.reference.median
    return [usual * np.array(found.models[name].network.ratios) for name in names], found.header


def row(name: str, record: GrowthRecord, seconds: np.ndarray, first: np.ndarray) -> str:
    """A run's row of the table."""
    time = Summary.of(list(1e6 * seconds))
    macs = f"{record.prices['macs'].value / 1e3:,.0f} k" if "macs" in record.prices else "-"
    accuracy = f"{100 * record.test.accuracy:.1f} %" if record.test else "-"
    return (
        f"| {name} | {', '.join(map(str, record.widths.values()))} | {macs} "
        f"| {time.median:.1f} ({time.low:.1f}-{time.high:.1f}) | {ratio(list(seconds), list(first))} | {accuracy} |"
    )


if __name__ == "__main__":
    main()
