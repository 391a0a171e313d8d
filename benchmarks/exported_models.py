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
from pathlib import Path

import numpy as np
from common import machine
from timing import ratio

from energysplit.growth.compared import read_run
from energysplit.measure.plan import PlanOptions, write_plan
from energysplit.measure.reference import reference_model
from energysplit.measure.runner import measure
from energysplit.measure.samples import read_results
from energysplit.measure.summary import Summary


def main() -> None:
    """Measure, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=60, help="samples of each model")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    parser.add_argument("--out", type=Path, help="folder for the table")
    options = parser.parse_args()
    seconds = relative_seconds(options.runs, options.rounds, options.threads)
    rows = [row(run, seconds[n], seconds[0]) for n, run in enumerate(options.runs)]
    lines = [
        "# Exported models, side by side",
        "",
        f"`python benchmarks/exported_models.py RUN... --rounds {options.rounds}`. Measured on {machine()}, "
        f"ONNX Runtime with {options.threads} thread(s); medians of {options.rounds} samples in turns, with 95 % "
        "intervals.",
        "",
        "| run | widths | MACs | latency, µs | beside the first | test accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    print("\n".join(lines))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "exported_models.md").write_text("\n".join(lines) + "\n")


def relative_seconds(runs: list[Path], rounds: int, threads: int) -> list[np.ndarray]:
    """Seconds of every run's model in every round, each by its reference's speed then: [runs][rounds]."""
    names = [f"model{n}" for n in range(len(runs))]
    models = [(name, (run / "model.onnx").read_bytes()) for name, run in zip(names, runs, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        write_plan(folder, models, reference_model(), PlanOptions(threads=threads, rounds=rounds, batch=len(models)))
        done = measure(folder)
        if done.failed:
            raise SystemExit("; ".join(f"{runs[names.index(name)]}: {why}" for name, why in done.failed.items()))
        found = read_results(done.results)
    usual = found.reference.median
    return [usual * np.array(found.models[name].network.ratios) for name in names]


def row(run: Path, seconds: np.ndarray, first: np.ndarray) -> str:
    """A run's row of the table."""
    last = read_run(run).records[-1]
    time = Summary.of(list(1e6 * seconds))
    accuracy = f"{100 * last.test.accuracy:.1f} %" if last.test else "-"
    return (
        f"| {run.name} | {', '.join(map(str, last.widths.values()))} | {last.prices['macs'].value / 1e3:,.0f} k "
        f"| {time.median:.1f} ({time.low:.1f}-{time.high:.1f}) | {ratio(list(seconds), list(first))} | {accuracy} |"
    )


if __name__ == "__main__":
    main()
