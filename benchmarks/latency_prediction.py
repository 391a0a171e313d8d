"""How well latencies of whole networks are predicted, on this machine, beside two usual ways, in one run.

A cost table is measured for the families (or taken from --tables). Then networks of random widths that the table has
not seen are measured, interleaved and beside the reference network, and predicted

- by this package: the table's interpolated operations and an overhead;
- by a sum of fused kernels, each a random forest on its features, as nn-Meter does (Zhang et al. 2021), trained on the
  very rows of the table;
- by MACs: in proportion, with one constant for all networks of the table and with one for each family.

    python benchmarks/latency_prediction.py --out benchmarks/results [--minutes 15] [--tables DIR]

Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from common import machine
from sklearn.ensemble import RandomForestRegressor

from energysplit.cli.progress import progress
from energysplit.costs import Latency, cost_provider
from energysplit.costs.predictor import kind_of
from energysplit.costs.table import CostTable, TableRow
from energysplit.measure import networks
from energysplit.measure.family import Family
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.plan import PlanOptions, write_plan
from energysplit.measure.profiling import write_tables
from energysplit.measure.reference import reference_model
from energysplit.measure.runner import measure
from energysplit.measure.samples import Results, read_results
from energysplit.measure.statistics import noise
from energysplit.measure.sweep import Sweep, SweepOptions
from energysplit.measure.wanted import family_of_model
from energysplit.types import LayerCase

FAMILIES = ("mobilenet_v1", "mobilenet_v2", "torchvision:resnet18", "vgg", "torchvision:mobilenet_v3_small")
IMAGE = (3, 96, 96)
NAME = "latency_prediction"

Predict = Callable[[MeasuredNetwork], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--minutes", type=float, default=15.0, help="of measuring the table, all families together")
    parser.add_argument("--tables", type=Path, help="folder of the table; measured there if it is not yet")
    parser.add_argument("--networks", type=int, default=20, help="of each family, unseen, with each kind of widths")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    families = [family_of_model(name, IMAGE) for name in options.families]
    folder = options.tables or Path(tempfile.mkdtemp()) / "table"
    start = time.monotonic()
    if not (folder / "provenance.toml").exists():
        sweep = Sweep(families, folder, SweepOptions(options.minutes, target=0.0), progress=progress())
        sweep.run()
        write_tables(folder, sweep.results, sweep.networks, command=f"benchmarks/{NAME}.py", precision="fp32")
    seconds = time.monotonic() - start
    tests = {kind: measured(families, folder, kind, options) for kind in ("multiples of 8", "any width")}
    table = CostTable.read(folder)
    predictors = {
        "energysplit": ours(folder),
        "sum of kernels (random forests)": forests(table.rows, table.provenance.reference_s or 1.0),
        "MACs, one constant": by_macs(folder, each=False),
        "MACs, a constant a family": by_macs(folder, each=True),
    }
    text = report(tests, predictors, table, seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(text)


def measured(
    families: Sequence[Family], folder: Path, kind: str, options: argparse.Namespace
) -> list[tuple[MeasuredNetwork, float, float]]:
    """Networks of random widths, their median times in times of the reference, and the spread of these."""
    step = 8 if kind.startswith("multiples") else 1
    notes: list[MeasuredNetwork] = []
    models: list[tuple[str, bytes]] = []
    for place in range(options.networks):  # families take turns, so that all meet the same moments
        for number, family in enumerate(families):
            generator = random.Random(f"{options.seed}/{kind}/{family.label}/{place}")
            widths = {
                name: min(high, max(family.low[name], step * max(1, round(generator.uniform(0.2, 1.0) * high / step))))
                for name, high in family.high.items()
            }
            name = f"t{number}_{place:02d}"
            models.append((name, family.template.at(widths)))
            notes.append(MeasuredNetwork.of(name, family.label, family.image, family.cases(widths)))
    where = folder.parent / f"{NAME}-{kind.replace(' ', '_')}-{options.seed}"
    write_plan(where, models, reference_model(), PlanOptions(), networks.written(notes))
    results: Results = read_results(measure(where, progress()).results)
    print(f"{kind}: noise {noise(results):.1%}", flush=True)
    ratios = {note.name: results.models[note.name].network.ratio for note in notes}
    return [(note, ratios[note.name].median, ratios[note.name].spread) for note in notes]


def ours(folder: Path) -> Predict:
    """The provider, in times of the reference."""
    provider: Latency = cost_provider("latency", tables=folder)  # type: ignore[assignment]
    reference_s = provider.provenance.reference_s or 1.0
    once = provider.overhead.value if provider.overhead is not None else 0.0
    return lambda network: (once + sum(provider.price(case).value for case in network.cases)) / reference_s


def forests(rows: Sequence[TableRow], reference_s: float) -> Predict:
    """A random forest a kind of kernel on sizes, channels, MACs and weights; a network is the sum of its kernels."""
    kinds: dict[object, list[TableRow]] = defaultdict(list)
    for row in rows:
        kinds[kind_of(row.case)].append(row)
    found = {}
    for kind, members in kinds.items():
        forest = RandomForestRegressor(100, random_state=0, n_jobs=1)
        found[kind] = forest.fit([features(row.case) for row in members], [row.median / reference_s for row in members])

    def predict(network: MeasuredNetwork) -> float:
        groups: dict[object, list[list[float]]] = defaultdict(list)
        for case in network.cases:
            groups[kind_of(case)].append(features(case))
        return float(sum(found[kind].predict(cases).sum() for kind, cases in groups.items()))

    return predict


def features(case: LayerCase) -> list[float]:
    weights = case.out_channels * (case.in_channels // case.groups) * case.kernel[0] * case.kernel[1]
    return [
        *map(float, (case.in_size[0], case.stride[0], case.in_channels, case.out_channels, weights)),
        float(weights * case.out_size[0] * case.out_size[1]),
    ]


def macs_of(network: MeasuredNetwork) -> float:
    provider = cost_provider("macs")
    weighted = ("conv1d", "conv2d", "linear", "other")
    return sum(provider.price(case).value for case in network.cases if case.op in weighted)


def by_macs(folder: Path, each: bool) -> Predict:
    """Times in proportion to MACs, the constant that fits the table's own networks best (relative errors)."""
    from energysplit.measure.sweep import earlier

    results, known = earlier(folder / "measurement")
    pairs: dict[str, list[float]] = defaultdict(list)
    for part in results:
        for name, model in part.models.items():
            pairs[known[name].family if each else ""].append(model.network.ratio.median / macs_of(known[name]))
    constant = {family: float(np.median(found)) for family, found in pairs.items()}
    return lambda network: constant[network.family if each else ""] * macs_of(network)


def report(
    tests: dict[str, list[tuple[MeasuredNetwork, float, float]]],
    predictors: dict[str, Predict],
    table: CostTable,
    seconds: float,
) -> str:
    said = table.provenance
    lines = [
        "# Latency of whole networks, predicted and measured",
        "",
        f"Machine: {machine()}. {said.runtime} {said.runtime_version}, {said.execution_provider}, "
        f"{said.threads} thread. Table: {said.networks} networks, {len(table.rows):,} rows, measured in "
        f"{seconds / 60:.0f} minutes. Images of {IMAGE[1]}x{IMAGE[2]}. Widths at random, 0.2 to 1 times the model's "
        "own, none of them in the table.",
        "",
    ]
    for kind, rows in tests.items():
        names = list(dict.fromkeys(network.family for network, _, _ in rows))
        spread = float(np.median([spread for _, _, spread in rows]))
        lines += [
            f"## {kind.capitalize()}",
            "",
            f"{len(rows)} networks; spread of a network's samples, p25 to p75: {spread:.1%} of the median.",
            "",
            "| prediction | " + " | ".join(names) + " | all | within 10 % | worst | bias |",
            "| --- |" + " --- |" * (len(names) + 4),
        ]
        for label, predict in predictors.items():
            errors: dict[str, list[float]] = defaultdict(list)
            refused = 0
            for network, ratio, _ in rows:
                try:
                    value = predict(network)
                except ValueError as error:
                    refused += 1
                    print(f"{network.family}: {error}")
                    continue
                errors[network.family].append(value / ratio - 1)
            every = np.array([error for found in errors.values() for error in found])
            cells = [f"{np.mean(np.abs(errors[name])):.1%}" if errors[name] else "-" for name in names]
            lines.append(
                f"| {label}{f' ({refused} refused)' if refused else ''} | {' | '.join(cells)} | "
                f"{np.mean(np.abs(every)):.1%} | {np.mean(np.abs(every) <= 0.1):.0%} | {np.abs(every).max():.1%} | "
                f"{every.mean():+.1%} |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
