"""Fraction of the exact held-out gain that each eigen-solver reaches, against images swept and time, on one network.

    python benchmarks/solvers.py recipes/mbv1_cifar10_cpu.toml --set data.root=FOLDER --images 32768 --out FOLDER

Trains the recipe's seed, draws a sample and other, held-out images from the training part, and lets every solver find
directions on the sample. Reported: the sum of held-out values over all neurons, divided by that of the exact
eigenvectors of the same sample. All in one run on one machine. A solver's own cost is the images it sweeps; its time
is stated in training epochs, the time of one epoch of the same network over all training images, measured in the same
run before and after.
"""

from __future__ import annotations

import copy
import json
import time

import torch
from common import machine, parser, train

from energysplit.growth.folder import TrainingState
from energysplit.growth.setup import Setup, prepare
from energysplit.recipe import load
from energysplit.splitting import exact, lobpcg, rmsprop
from energysplit.splitting.operator import SplittingOperator
from energysplit.train import make_optimiser, train_epoch


def main() -> None:
    """Run the comparison and write a table."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=4096)
    arguments.add_argument("--held-out", type=int, default=8192)
    arguments.add_argument("--statistics", default="running", choices=("running", "batch"))
    options = arguments.parse_args()

    setup = prepare(load(options.recipe, options.set))
    trained = train(setup)
    images = setup.splits.train
    first = images.draw(options.images, seed=1)
    held_out = images.take(images.draw(options.held_out, seed=2, exclude=first), 512)

    def operator(batch: int) -> SplittingOperator:
        return SplittingOperator(trained.net, images.take(first, batch), setup.loss, statistics=options.statistics)

    judge = SplittingOperator(trained.net, held_out, setup.loss, statistics=options.statistics)
    sample = operator(256)
    epochs = [_epoch(setup, trained)]

    def held_out_sum(vectors: dict[str, torch.Tensor]) -> float:
        return sum(float(value.sum()) for value, _ in judge.evaluate(vectors).values())

    def same_sum(vectors: dict[str, torch.Tensor]) -> float:
        return sum(float(value.sum()) for value, _ in sample.evaluate(vectors).values())

    start = time.perf_counter()
    best = exact.solve(operator(256))
    exact_seconds = time.perf_counter() - start
    reference = held_out_sum(best.vectors)
    reference_same = same_sum(best.vectors)
    rows = []
    runs = [("lobpcg", sweeps, False) for sweeps in (2, 3, 4, 5, 6, 8, 12)]
    runs += [("lobpcg growing", sweeps, True) for sweeps in (6, 8, 12)]
    runs += [("rmsprop", sweeps, False) for sweeps in (1, 2, 4, 10, 16)]
    for name, sweeps, growing in runs:
        for seed in range(options.seeds):
            start = time.perf_counter()
            if name == "rmsprop":
                found = rmsprop.solve(operator(rmsprop.BATCH), seed=seed, sweeps=sweeps)
                swept = sweeps * options.images  # the last sweep only measures
            else:
                found = lobpcg.solve(operator(256), seed=seed, sweeps=sweeps, growing=growing)
                swept = found.images_swept
            rows.append(
                {
                    "solver": name,
                    "sweeps": sweeps,
                    "seed": seed,
                    "images_swept": swept,
                    "seconds": round(time.perf_counter() - start, 2),
                    "same_images": same_sum(found.vectors) / reference_same,
                    "held_out": held_out_sum(found.vectors) / reference,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    epochs.append(_epoch(setup, trained))
    epoch = sum(epochs) / len(epochs)
    lines = [
        f"# Eigen-solvers on {options.images} images, judged on {options.held_out} others",
        "",
        f"Recipe `{options.recipe}`, seed trained {trained.epoch} epochs. Measured on {machine()}.",
        f"Batch norms: {options.statistics} statistics; {torch.get_num_threads()} thread(s).",
        f"One training epoch over {len(images):,} images: {epochs[0]:.1f} s before, {epochs[1]:.1f} s after.",
        f"Exact eigenvectors: sum {reference_same:.4g} on the sample, {reference:.4g} held out.",
        "Fractions are of the exact eigenvectors' sums.",
        "",
        "| solver | sweeps | images swept | seconds | training epochs | fraction, same images | fraction, held out |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| exact | {best.images_swept // options.images} | {best.images_swept:,} | {exact_seconds:.1f} "
        f"| {exact_seconds / epoch:.2f} | 1.000 | 1.000 |",
    ]
    for name, sweeps, _ in runs:
        group = [row for row in rows if row["solver"] == name and row["sweeps"] == sweeps]

        def mean(key: str, group: list[dict] = group) -> float:
            return sum(row[key] for row in group) / len(group)

        lines.append(
            f"| {name} | {sweeps} | {mean('images_swept'):,.0f} | {mean('seconds'):.1f} "
            f"| {mean('seconds') / epoch:.2f} | {mean('same_images'):.3f} | {mean('held_out'):.3f} |"
        )
    print("\n".join(lines))
    if options.out:
        (options.out / "solvers.md").write_text("\n".join(lines) + "\n")


def _epoch(setup: Setup, trained: TrainingState) -> float:
    """Seconds of one training epoch of a copy of the network, on batches of the recipe's size."""
    module = setup.session.place(copy.deepcopy(trained.net.module))
    batches = setup.splits.train.batches(setup.recipe.train.batch_size, seed=0, augment=setup.recipe.data.augment)
    start = time.perf_counter()
    train_epoch(
        setup.session,
        module,
        make_optimiser(module),
        batches,
        loss_fn=setup.loss,
        learning_rate=lambda _: 0.0,
        seed=0,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
