"""One index sweep beside one training step of the same network and batch: seconds and memory.

    python benchmarks/index_sweep.py [--batch 8] [--size 64] [--repeats 5] [--out benchmarks/results]
    python benchmarks/index_sweep.py --device cuda --batch 128 --size 224 --repeats 30 --channels-last

A sweep is S v of all neurons on one batch: the batch is captured (forward pass, backward pass to activations), then
tangents go through once and back. A further sweep finds the captures kept. A training step is forward, backward, SGD
with momentum 0.9 and weight decay, gradients cleared; a network like the first takes it, so that weights stay as they
are where S is measured. Planning the passes, once a stage, is not timed. Least that a sweep can take: 4/3 of a step,
a third for each of four passes where a step has three.

Networks are stock ones with random weights, by the names that recipes know them by; their batch norms' statistics are
near those of the batch, as in a trained network. Memory is what is held at the peak beyond weights, momentum and v.
The error of S v is that of float32 (or of `--precision bf16`) against the same network in float64: norm of the
difference over the norm, of all groups together and of the worst one. Beside it stands the error of the loss's gradient
to all weights, with batch norms in the same statistics: where an input of a ReLU is within rounding of its kink, it may
find the other slope, which changes both far more than all rounding does (in float32 some 1e-3 in place of 1e-5; in
bfloat16, on random weights, most of both: `index_precision.py` is the place to judge that on a trained network).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timing import Call, begin, command, conditions, interleaved, milliseconds, peak_bytes, ratio, timing_parser, write
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import energysplit as es
from energysplit.models import build
from energysplit.splitting.operator import SplittingOperator
from energysplit.splitting.precision import PRECISIONS, mixed

NETWORKS = ("mobilenet_v1", "torchvision:mobilenet_v2", "torchvision:resnet18")
VARIANTS = tuple((curvature, statistics) for curvature in ("exact", "producer") for statistics in ("running", "batch"))


def main() -> None:
    """Measure every network in every variant and write a table."""
    parser = timing_parser(__doc__, repeats=5)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--precision", default="no", choices=PRECISIONS, help="mixed precision of step and sweep")
    options = parser.parse_args()
    device = begin(options)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format

    torch.manual_seed(0)
    x = torch.randn(options.batch, 3, options.size, options.size).to(device, memory_format=layout)
    rows, samples = [], []
    for name in options.networks:
        module = randomised(build(name), x).to(memory_format=layout)
        y = torch.randint(module(x).shape[1], (options.batch,)).to(device)
        train = training_step(copy.deepcopy(module), x, y, options.precision)
        for curvature, statistics in VARIANTS:
            found = measured(module, train, x, y, curvature, statistics, options.precision, options.repeats)
            samples.append({"network": name, "curvature": curvature, "statistics": statistics, **found})
            seconds, peak, errors = found["seconds"], found["peak_bytes"], found["errors"]
            step = seconds["training step"]
            rows.append(
                f"| {name} | {curvature} | {statistics} | {milliseconds(step)} | {ratio(seconds['sweep'], step)} "
                f"| {ratio(seconds['further sweep'], step)} | {peak['training step'] / 2**20:.0f} "
                f"| {peak['sweep'] / peak['training step']:.2f} | {errors['all groups']:.1e} "
                f"| {errors['worst group']:.1e} | {errors['gradient']:.1e} |"
            )
            print(rows[-1], flush=True)
    size = f"{options.size}x{options.size}"
    lines = [
        f"# Index sweep and training step, batches of {options.batch} at {size}",
        "",
        f"{command()}, mixed precision: {options.precision}. "
        f"{conditions(options)} Milliseconds with quartiles; ratios to the training step with 95 % intervals.",
        "",
        "| network | curvature | statistics | training step, ms | sweep | further sweep, captures kept "
        "| training step, MiB | memory of a sweep | error of S v | worst group | error of the gradient |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    write(options, "index_sweep" + ("" if options.precision == "no" else f"_{options.precision}"), lines, samples)


def measured(
    module: nn.Module,
    train: Call,
    x: Tensor,
    y: Tensor,
    curvature: str,
    statistics: str,
    precision: str,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """Samples of seconds, bytes at the peak, and relative errors, of one network in one variant."""

    def operator(module: nn.Module, x: Tensor, precision: str, cache_bytes: int = 0) -> SplittingOperator:
        return SplittingOperator(
            es.trace(module, x[:2]),
            [(x, y)],
            F.cross_entropy,
            curvature=curvature,
            statistics=statistics,
            precision=precision,
            cache_bytes=cache_bytes,
        )

    once, kept = operator(module, x, precision), operator(module, x, precision, cache_bytes=2**40)
    vectors = once.random_vectors(seed=0)
    calls: dict[str, Call] = {
        "training step": train,
        "sweep": lambda: once.apply(vectors),
        "further sweep": lambda: kept.apply(vectors),
    }
    exact, doubled = copy.deepcopy(module).double(), {name: v.double() for name, v in vectors.items()}
    whole, worst = error(once.apply(vectors), operator(exact, x.double(), "no").apply(doubled))
    usual, _ = error(gradient(module, x, y, statistics, precision), gradient(exact, x.double(), y, statistics, "no"))
    return {
        "seconds": interleaved(calls, repeats, x.device),
        "peak_bytes": {name: peak_bytes(call, x.device) for name, call in calls.items()},
        "errors": {"all groups": whole, "worst group": worst, "gradient": usual},
    }


def randomised(module: nn.Module, x: Tensor) -> nn.Module:
    """The network on x's device, in eval mode: batch norms' weights and shifts drawn, statistics near those of x."""
    module = module.to(x.device)
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.8, 1.2)
            norm.bias.normal_(0, 0.1)
            norm.momentum = 1.0
        module.train()(x)
        for norm in norms:
            norm.momentum = 0.1
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.2)
    return module.eval()


def training_step(module: nn.Module, x: Tensor, y: Tensor, precision: str = "no") -> Call:
    """One step of SGD; it ends with gradients cleared, so that each begins with the same memory."""
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        with mixed(precision, x.device):
            loss = F.cross_entropy(module(x), y)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def gradient(module: nn.Module, x: Tensor, y: Tensor, statistics: str, precision: str) -> dict[str, Tensor]:
    """The loss's gradient to each parameter, batch norms in running statistics or in the batch's; module unchanged."""
    module = copy.deepcopy(module).eval()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.train(statistics == "batch")
    names, parameters = zip(*module.named_parameters(), strict=True)
    with mixed(precision, x.device):
        loss = F.cross_entropy(module(x), y)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> tuple[float, float]:
    """Norm of the difference over the norm, of all groups together and of the worst."""
    groups = [(float((found[name] - v).norm()), float(v.norm())) for name, v in exact.items()]
    away, size = (torch.tensor(column) for column in zip(*groups, strict=True))
    return float(away.norm() / size.norm()), float((away / size).max())


if __name__ == "__main__":
    main()
