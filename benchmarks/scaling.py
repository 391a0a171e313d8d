"""How an index sweep grows with width, depth, image size and batch, beside a training step of the same network.

    python benchmarks/scaling.py [--statistics batch] [--repeats 7] [--out benchmarks/results]
    python benchmarks/scaling.py --device cuda --width 64 --depth 8 --size 64 --batch 128 --repeats 30

From a small network one thing is multiplied by 1, 2, 4, 8, the others stay. Networks: `mobilenet`, depthwise 3x3 and
pointwise convolutions, and `plain`, 3x3 convolutions; all layers have the same width and, behind a first convolution of
stride 2, the same resolution, so that work is proportional to depth, image area and batch. A sweep is one batch
captured and S v of all neurons; a training step is forward, backward and SGD.

Seconds and bytes at the peak are fitted by factor^exponent: least squares in log-log, with the standard error that the
points' distances from the line give. The exponent of sweep / step says whether the sweep grows faster than
backpropagation: it does where that is above 0. Small layers have fixed costs, so exponents of seconds are below those
of the operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from index_sweep import randomised, training_step
from timing import begin, command, conditions, interleaved, milliseconds, peak_bytes, ratio, timing_parser, write
from torch import nn

import energysplit as es
from energysplit.models import build
from energysplit.models.mobilenet_v1 import MobileNetV1
from energysplit.splitting.operator import SplittingOperator

NETWORKS = ("mobilenet", "plain")
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """Channels of every layer, blocks behind the first convolution, height and width of the images, images."""

    width: int
    depth: int
    size: int
    batch: int


@dataclass(frozen=True)
class Fit:
    """Exponent of a power law and its standard error."""

    exponent: float
    stderr: float

    @classmethod
    def of(cls, factors: Sequence[float], values: np.ndarray) -> Fit:
        """Least squares in log-log; of three points or more."""
        x, y = np.log(factors), np.log(values)
        x, y = x - x.mean(), y - y.mean()
        slope = (x @ y) / (x @ x)
        rest = y - slope * x
        return cls(float(slope), float(np.sqrt((rest @ rest) / (len(x) - 2) / (x @ x))))

    def __str__(self) -> str:
        return f"{round(self.exponent, 2) + 0.0:.2f} ± {self.stderr:.2f}"  # + 0.0: no "-0.00"


def main() -> None:
    """Measure every network along every dimension and write the fits and the points."""
    parser = timing_parser(__doc__, repeats=5)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8], help="three or more")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--curvature", default="exact", choices=("exact", "producer"))
    parser.add_argument("--statistics", default="running", choices=("running", "batch"))
    options = parser.parse_args()
    if len(options.factors) < 3:
        parser.error(f"--factors {options.factors}: a fit and its error need three or more")
    device = begin(options)
    start = Case(options.width, options.depth, options.size, options.batch)

    fits, points, samples = [], [], []
    for kind in NETWORKS:
        for dimension, least in asdict(start).items():
            found = []
            for factor in options.factors:
                case = replace(start, **{dimension: factor * least})
                row = measured(kind, case, options.curvature, options.statistics, options.repeats, device)
                found.append(row)
                samples.append({"network": kind, **asdict(case), **row})
                step, sweep = row["seconds"]["training step"], row["seconds"]["sweep"]
                step_bytes, sweep_bytes = row["step_bytes"], row["sweep_bytes"]
                points.append(
                    f"| {kind} | {dimension} | {factor * least} | {milliseconds(step)} | {milliseconds(sweep)} "
                    f"| {ratio(sweep, step)} | {step_bytes / 2**20:.1f} | {sweep_bytes / 2**20:.1f} "
                    f"| {sweep_bytes / step_bytes:.2f} |"
                )
                print(points[-1], flush=True)
            seconds = {name: np.array([np.median(row["seconds"][name]) for row in found]) for name in row["seconds"]}
            peak = {name: np.array([row[name] for row in found], dtype=float) for name in ("step_bytes", "sweep_bytes")}
            columns = [
                *both(seconds["training step"], seconds["sweep"]),
                *both(peak["step_bytes"], peak["sweep_bytes"]),
            ]
            exponents = " | ".join(str(Fit.of(options.factors, column)) for column in columns)
            fits.append(f"| {kind} | {dimension} | {exponents} |")
    lines = [
        "# Growth of an index sweep, beside that of a training step",
        "",
        f"{command()}, curvature {options.curvature}, statistics {options.statistics}. {conditions(options)} "
        "One dimension is multiplied at a time.",
        "",
        "Fitted exponents and their standard errors:",
        "",
        "| network | dimension | seconds: step | sweep | sweep / step | memory: step | sweep | sweep / step |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *fits,
        "",
        "Points; milliseconds with quartiles, ratios of times with 95 % intervals:",
        "",
        "| network | dimension | value | step, ms | sweep, ms | sweep / step | step, MiB | sweep, MiB | sweep / step |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *points,
    ]
    write(options, "scaling", lines, samples)


def both(step: np.ndarray, sweep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is fitted: each, and the sweep in steps."""
    return step, sweep, sweep / step


def measured(kind: str, case: Case, curvature: str, statistics: str, repeats: int, device: torch.device) -> dict:
    """Samples of seconds, and bytes at the peak, of a training step and of a sweep."""
    torch.manual_seed(0)
    x = torch.randn(case.batch, 3, case.size, case.size, device=device)
    y = torch.randint(CLASSES, (case.batch,), device=device)
    train = training_step(randomised(network(kind, case), x), x, y)
    net = es.trace(randomised(network(kind, case), x), x[:2])
    operator = SplittingOperator(
        net, [(x, y)], F.cross_entropy, curvature=curvature, statistics=statistics, cache_bytes=0
    )
    vectors = operator.random_vectors(seed=0)

    def sweep() -> None:
        operator.apply(vectors)

    return {
        "seconds": interleaved({"training step": train, "sweep": sweep}, repeats, device),
        "step_bytes": peak_bytes(train, device),
        "sweep_bytes": peak_bytes(sweep, device),
    }


def network(kind: str, case: Case) -> nn.Module:
    """The network of that kind at the case's width and depth, with SiLU."""
    widths = [case.width] * (case.depth + 1)
    if kind == "mobilenet":
        return MobileNetV1(widths, [1] * case.depth, stem_stride=2, in_channels=3, classes=CLASSES, act="silu")
    return build("cnn", widths=widths, strides=[2] + [1] * case.depth, activation="silu", classes=CLASSES)


if __name__ == "__main__":
    main()
