"""What a growth costs besides training, and how long training waits for its images.

    python benchmarks/growth_overhead.py [RUN ...] [--root FOLDER] [--out benchmarks/results]
    python benchmarks/growth_overhead.py --root FOLDER --device cuda --images 45000 --set train.epochs=10 --batches 175

RUN: folders of finished runs, whose journals say how long each part of each stage took. With `--root`, the folder of
CIFAR-10, the script also grows the recipe itself, three times, on a few images and for an epoch a stage, and looks at
the clock for what the journal does not hold: the checkpoint after each epoch, and the rest (start, export, report).

Such runs train far less between growths than the recipe does. The last column is the share that each would have in the
recipe: its measured seconds per image trained, per image swept and per checkpoint, times the recipe's images, epochs
and samples. The bar is for that one.

Waiting is measured in epochs of the recipe's seed, the smallest network, which waits most: the same steps with batches
made when they are asked for, as in training, and with the same batches made before. Without `--root` images are random.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timing import Call, begin, command, conditions, interleaved, milliseconds, ratio, timing_parser, write

from energysplit import data, growth, models
from energysplit.data.memory import MemorySplit
from energysplit.data.small_sets import SMALL_SETS
from energysplit.data.split import Augment, Batch, Split
from energysplit.growth import journal
from energysplit.progress import SilentProgress, Task
from energysplit.recipe import Recipe, load
from energysplit.records import JOURNAL_FILE, GrowthRecord
from energysplit.train.loop import train_epoch
from energysplit.train.optimiser import make_optimiser
from energysplit.train.session import Session

RECIPE = Path(__file__).parents[1] / "recipes" / "mbv1_cifar10.toml"
PARTS = ("train", "evaluate", "index", "allocate", "surgery", "checkpoints", "rest")
BAR = 0.1
CIFAR_IMAGES = 50_000


@dataclass(frozen=True)
class Run:
    """A finished run: its journal, and seconds of parts that the journal does not hold, where they were measured."""

    name: str
    records: list[GrowthRecord]
    besides: dict[str, float] = field(default_factory=dict)

    def seconds(self) -> dict[str, float]:
        """Part -> seconds, of the whole run."""
        return {part: sum(record.seconds.get(part, 0.0) for record in self.records) for part in PARTS} | self.besides

    def seconds_at(self, recipe: Recipe) -> dict[str, float]:
        """The same if every stage had the recipe's images, epochs and samples of the index."""
        images = round(CIFAR_IMAGES * (1 - recipe.data.validation))
        found = dict.fromkeys(PARTS, 0.0) | self.besides
        epochs = sum(record.train.epochs for record in self.records)
        wanted = sum(recipe.train.epochs_at(record.stage) for record in self.records)
        found["checkpoints"] *= wanted / epochs
        for record in self.records:
            times = dict.fromkeys(record.seconds, 1.0)
            times["train"] = recipe.train.epochs_at(record.stage) * images / (record.train.epochs * record.train.images)
            if record.growth is not None:
                index = record.growth.index
                swept = index.sweeps * index.images + index.held_out_images
                times["index"] = (index.sweeps * recipe.index.images + recipe.index.held_out_images) / swept
                # Mostly losses on the held-out images.
                times["surgery"] = recipe.index.held_out_images / index.held_out_images
            for part, seconds in record.seconds.items():
                found[part] += times[part] * seconds
        return found


def main() -> None:
    """Measure both and write two tables."""
    parser = timing_parser(__doc__, repeats=7)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--root", help="folder of CIFAR-10")
    parser.add_argument("--images", type=int, default=1024, help="training images of the run that is made here")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in the run that is made here")
    parser.add_argument("--batches", type=int, default=8, help="of an epoch in which waiting is measured")
    options = parser.parse_args()
    device = begin(options)

    recipe = load(RECIPE, [f"run.device={device.type}", f"run.threads={options.threads}"])
    runs = [Run(folder.name, journal.read(folder / JOURNAL_FILE)) for folder in options.runs]
    if options.root is not None:
        runs.append(own_run(options))
    samples: list[dict[str, Any]] = [{"run": run.name, "seconds": run.seconds()} for run in runs]
    lines = [f"# What a growth costs besides training, and waiting for images: {RECIPE.stem}", ""]
    lines += [f"{repeated(options)}. {conditions(options)} Shares are of a whole run's seconds.", ""]
    if runs:
        lines += [
            f"| run | seconds | {' | '.join(PARTS)} | not training | not training, in the recipe | under {BAR:.0%} |",
            f"| --- {'| --- ' * (len(PARTS) + 4)}|",
            *(share_row(run, recipe) for run in runs),
        ]
    else:
        lines.append("Skipped: the share of a run. Name the folder of a finished run, or that of CIFAR-10 by `--root`.")
    lines += [
        "",
        "| images | augmentation | step, ms | making a batch, ms | epoch: batches made on the way / ready "
        "| asked for until got, share of the epoch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for augment in (recipe.data.augment, "randaugment"):
        row, sample = waiting(options, recipe, device, augment)
        lines.append(row)
        samples.append(sample)
    write(options, "growth_overhead", lines, samples)


def repeated(options: argparse.Namespace) -> str:
    """How to repeat it, without the folders of this machine."""
    text = command()
    for folder in options.runs:
        text = text.replace(str(folder), folder.name)
    return text if options.root is None else text.replace(options.root, "FOLDER")


def own_run(options: argparse.Namespace) -> Run:
    """The recipe grown on a few images of CIFAR-10, an epoch a stage."""
    changes = [f"data.root={options.root}", f"data.limit={options.images}", "train.epochs=1", "growth.stages=3"]
    changes += [f"index.images={options.images // 2}", f"index.held_out_images={options.images // 2}"]
    changes += [f"run.device={options.device}", f"run.threads={options.threads}", *options.set]
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        records = list(growth.grow(load(RECIPE, changes), run_dir=Path(folder) / "run", progress=watch).records)
        total = time.perf_counter() - start
    besides = {"checkpoints": watch.training - sum(record.seconds["train"] for record in records)}
    besides["rest"] = total - watch.training - sum(sum(r.seconds.values()) - r.seconds["train"] for r in records)
    return Run(f"{options.images:,} images, made here", records, besides)


class Watch(SilentProgress):
    """Seconds of all training with the checkpoint after each epoch, which the journal leaves out."""

    def __init__(self) -> None:
        self.training = 0.0

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """The silent task, timed if it is a training."""
        task = super().task(name, total)
        return self._timed(task) if name.startswith("train") else task

    @contextmanager
    def _timed(self, task: AbstractContextManager[Task]) -> Iterator[Task]:
        start = time.perf_counter()
        with task as silent:
            yield silent
        self.training += time.perf_counter() - start


def share_row(run: Run, recipe: Recipe) -> str:
    """A run's parts as shares of its seconds, and what they would be in the recipe."""
    seconds, there = run.seconds(), run.seconds_at(recipe)
    total = sum(seconds.values())
    shares = [f"{seconds[part] / total:.1%}" if seconds[part] else "-" for part in PARTS]
    other = 1 - there["train"] / sum(there.values())
    return (
        f"| {run.name} | {total:,.0f} | {' | '.join(shares)} | {1 - seconds['train'] / total:.1%} | {other:.1%} "
        f"| {'yes' if other < BAR else 'no'} |"
    )


def waiting(
    options: argparse.Namespace, recipe: Recipe, device: torch.device, augment: Augment
) -> tuple[str, dict[str, Any]]:
    """A line of the table, and its samples, for one kind of augmentation."""
    images = training_images(options.root, recipe, options.batches)
    waited: list[float] = []
    run = recipe.run
    with Session(run.device, run.precision, run.threads, run.channels_last, run.deterministic) as session:
        module = session.place(models.build(recipe.model.name, **recipe.model.args))
        optimiser = make_optimiser(module, momentum=recipe.train.momentum, weight_decay=recipe.train.weight_decay)

        def made() -> Iterator[Batch]:
            batches = images.batches(recipe.train.batch_size, seed=0, augment=augment, device=session.device)
            return islice(batches, options.batches)

        def epoch(batches: Callable[[], Iterable[Batch]]) -> None:
            train_epoch(
                session, module, optimiser, batches(), loss_fn=F.cross_entropy, learning_rate=lambda _: 1e-3, seed=0
            )

        def asked() -> Iterator[Batch]:
            batches, seconds = made(), 0.0
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                seconds += time.perf_counter() - start
                if batch is None:
                    break
                yield batch
            waited.append(seconds)

        ready = list(made())
        calls: dict[str, Call] = {
            "ready": lambda: epoch(lambda: ready),
            "made on the way": lambda: epoch(asked),
            "made alone": lambda: list(made()),
        }
        seconds = interleaved(calls, options.repeats, device)
    source = "CIFAR-10" if options.root is not None else "random"
    kind = "RandAugment" if augment == "randaugment" else "shift, mirror"
    share = np.quantile(np.array(waited[1:]) / seconds["made on the way"], [0.25, 0.5, 0.75])
    each = {name: [value / options.batches for value in values] for name, values in seconds.items()}
    row = (
        f"| {source} | {kind} | {milliseconds(each['ready'])} | {milliseconds(each['made alone'])} "
        f"| {ratio(seconds['made on the way'], seconds['ready'])} "
        f"| {share[1]:.1%} ({share[0]:.1%}-{share[2]:.1%}) |"
    )
    return row, {"images": source, "augment": augment, "seconds": seconds, "waited": waited[1:]}


def training_images(root: str | None, recipe: Recipe, batches: int) -> Split:
    """CIFAR-10's training part, or as many random images of its size as the batches need."""
    if root is not None:
        return data.load("cifar10", root=root, validation=recipe.data.validation).train
    known = SMALL_SETS["cifar10"]
    torch.manual_seed(0)
    count = batches * recipe.train.batch_size
    return MemorySplit(
        torch.randint(256, (count, *known.image_shape), dtype=torch.uint8),
        torch.randint(known.classes, (count,)),
        mean=known.mean,
        std=known.std,
        augmentation=known.augmentation,
    )


if __name__ == "__main__":
    main()
