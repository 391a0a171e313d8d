"""What bfloat16 does to splitting indices of a trained network: errors of S v, of values, and what is then chosen.

    python benchmarks/index_precision.py recipes/mbv1_cifar10_small.toml --set data.root=FOLDER

The seed is trained as the recipe says. Against float64, for `precision` "no" (float32) and "bf16": the error of S v on
one sample (norm of the difference over the norm) beside that of the loss's gradient to all weights in the same
precision; the error of held-out values beside their standard errors; and the sum of the indices of directions that were
found in each precision, all judged in float32 on the same held-out images.
"""

from __future__ import annotations

import copy

import torch
from common import machine, parser, train

import energysplit as es
from energysplit.growth.setup import prepare
from energysplit.recipe import load
from energysplit.splitting.operator import SplittingOperator
from energysplit.splitting.precision import PRECISIONS, mixed
from energysplit.splitting.sample import Batches

BATCH = 256


def main() -> None:
    """Train the seed, compare, and write a table."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=2048)
    arguments.add_argument("--held-out", type=int, default=4096)
    options = arguments.parse_args()

    setup = prepare(load(options.recipe, options.set))
    net = train(setup).net
    images = setup.splits.train
    first = images.draw(options.images, seed=1)
    sample = images.take(first, BATCH)
    held_out = images.take(images.draw(options.held_out, seed=2, exclude=first), BATCH)
    exact = es.trace(copy.deepcopy(net.module).double(), net.example_input.double())

    def operator(batches: Batches, precision: str, statistics: str) -> SplittingOperator:
        of, precision = (exact, "no") if precision == "exact" else (net, precision)
        return SplittingOperator(of, batches, setup.loss, statistics=statistics, precision=precision)

    def gradient(precision: str) -> torch.Tensor:
        module = exact.module if precision == "exact" else net.module
        x, y = sample[0]
        with mixed("no" if precision == "exact" else precision, x.device):
            loss = setup.loss(module(x.to(next(module.parameters()))), y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])

    rows = []
    for statistics in ("running", "batch"):
        reference = operator(sample, "exact", statistics)
        vectors = reference.random_vectors(0)
        small = {name: v.float() for name, v in vectors.items()}
        applied = _flat(reference.apply(vectors))
        judge = operator(held_out, "no", statistics)
        values, stderr = (_flat(each) for each in _split(operator(held_out, "exact", statistics).evaluate(vectors)))
        for precision in PRECISIONS:
            found = es.splitting_index(net, sample, setup.loss, statistics=statistics, precision=precision)
            total = sum(float(value.sum()) for value, _ in judge.evaluate(judge.vectors_of(found)).values())
            made = _split(operator(held_out, precision, statistics).evaluate(small))[0]
            away = (_flat(made) - values).abs() / stderr
            of_sweep = _error(_flat(operator(sample, precision, statistics).apply(small)), applied)
            of_gradient = _error(gradient(precision), gradient("exact"))
            rows.append(
                f"| {statistics} | {precision} | {of_sweep:.1e} | {of_gradient:.1e} | {away.median():.3f} "
                f"| {away.max():.2f} | {total:.4g} |"
            )
            print(rows[-1], flush=True)
    lines = [
        f"# Precision of splitting indices, {options.images} images, judged on {options.held_out} others",
        "",
        f"Recipe `{options.recipe}`, its seed trained. Measured on {machine()}, {torch.get_num_threads()} thread(s).",
        "Errors against float64; those of values in their standard errors. The gradient is the loss's to all weights, "
        "in evaluation mode, on the first batch.",
        "",
        "| statistics | precision | error of S v | error of the gradient | of values, median | largest "
        "| sum of indices found, held out |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    print("\n".join(lines))
    if options.out:
        (options.out / "index_precision.md").write_text("\n".join(lines) + "\n")


def _split(evaluated: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Values, and standard errors."""
    return [{name: each[i] for name, each in evaluated.items()} for i in (0, 1)]


def _flat(of: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in of.values()])


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


if __name__ == "__main__":
    main()
