"""The two halves of a stage: train a network, and grow it.

Directions come from one part of the training images, indices and steps from another; validation images only report, or
end a training where the recipe says so, and test images only report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from energysplit.errors import CheckFailed, OutOfMemory
from energysplit.growth.evaluation import evaluated
from energysplit.growth.folder import TrainingState
from energysplit.growth.given_sizes import decide
from energysplit.growth.notes import Notes
from energysplit.growth.setup import Setup
from energysplit.growth.step import directions, take_step
from energysplit.memory import within_memory
from energysplit.progress import Progress
from energysplit.recipe import Recipe
from energysplit.records import AllocationRecord, CostRecord, IndexRecord, SplitRecord, TrainRecord
from energysplit.splitting import splitting_index
from energysplit.splitting.batches import cut, fewest, in_memory, largest_of
from energysplit.splitting.operator import Batches
from energysplit.surgery import split, split_state
from energysplit.surgery.apply import Chosen
from energysplit.train.average import Average
from energysplit.train.loop import EpochResult, train_epoch
from energysplit.train.optimiser import load_state_tensors, make_optimiser, state_tensors
from energysplit.train.schedules import learning_rate
from energysplit.train.statistics import same_statistics
from energysplit.types import Allocation, SplitIndex

_KEPT = "The run folder keeps everything up to the last finished epoch"
_CHANGE = "--resume --change begins this stage again with other values, and finished stages stay as they are"


@dataclass(frozen=True)
class Growth:
    """A grown network with what led to it. `record` and `after` are None where nothing was bought."""

    index: dict[str, SplitIndex]
    allocation: Allocation
    record: SplitRecord | None
    after: TrainingState | None
    seconds: dict[str, float]


def train(
    setup: Setup,
    state: TrainingState,
    progress: Progress,
    save: Callable[[TrainingState], None],
    notes: Notes,
) -> TrainingState:
    """Train the network to the end of its stage; `save` is called after every epoch, `notes` told what went wrong.

    The stage ends after its epochs, or earlier at a plateau of the validation loss where the recipe has a patience.
    Where it has a decay (train.ema), the network returned holds the average of the weights.

    Raises:
        CheckFailed: the loss or a weight is not finite.
        OutOfMemory: memory ran out.
    """
    recipe, session = setup.recipe.train, setup.session
    # However early growth ended, a training from random weights is the last one.
    scheduled = setup.recipe.growth.stages if state.fresh else state.stage
    epochs = setup.epochs_at(scheduled)
    updates = -(-len(setup.splits.train) // (recipe.batch_size * recipe.accumulate))
    module = session.place(state.net.module)
    average = Average(module, recipe.ema, state.average, state.epoch * updates) if recipe.ema else None
    optimiser = make_optimiser(
        module,
        optimizer=recipe.optimizer,
        learning_rate=setup.learning_rate_at(scheduled),
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    load_state_tensors(optimiser, module, state.optimiser)
    penalty = setup.baseline.penalty(state.net, state.stage) if setup.baseline else None

    def rate(epoch: int, update: int) -> float:
        return learning_rate(
            recipe.schedule,
            base=setup.learning_rate_at(scheduled),
            epoch=epoch + update / updates,
            epochs=epochs,
            warmup_epochs=recipe.warmup_epochs,
            milestones=recipe.milestones,
            decay=recipe.decay,
        )

    start = time.perf_counter()
    with progress.task(f"train stage {state.stage}", epochs) as task:
        task.advance(state.epoch)
        while state.epoch < epochs and not state.plateau.reached(recipe.patience):
            epoch = state.epoch
            seed = setup.seed_of("train", state.stage, epoch)
            one_epoch = partial(
                train_epoch,
                session,
                module,
                optimiser,
                setup.splits.train.batches(
                    recipe.batch_size, seed=seed, augment=setup.recipe.data.augment, device=session.device
                ),
                loss_fn=setup.loss,
                learning_rate=partial(rate, epoch),
                seed=seed,
                epoch=epoch,
                accumulate=recipe.accumulate,
                distillation=setup.teacher.distillation if setup.teacher else None,
                penalty=penalty,
                after_update=average.update if average else None,
            )
            result = _whole(setup, state, one_epoch)
            if average is not None:
                same_statistics(session, module, average.buffers())
            plateau = state.plateau
            if recipe.patience is not None:
                plateau = plateau.after(_validation_loss(setup, module, average, notes), recipe.min_improvement)
            before, start = start, time.perf_counter()  # an epoch begins with what keeping the last one took
            state = replace(
                state,
                epoch=epoch + 1,
                optimiser=state_tensors(optimiser, module),
                train=TrainRecord(
                    epochs=epoch + 1, loss=result.loss, accuracy=result.accuracy, images=len(setup.splits.train)
                ),
                seconds=state.seconds + start - before,
                average=average.tensors() if average else {},
                plateau=plateau,
            )
            save(state)
            task.advance(1, loss=result.loss, accuracy=result.accuracy)
    if state.epoch < epochs:
        progress.line(
            f"stage {state.stage}: trained {state.epoch} of at most {epochs} epochs; the validation loss did not "
            f"improve in the last {state.plateau.waited}{_not_finite(state.plateau.loss)}"
        )
    if average is not None:
        average.write()
        state = replace(state, average={})
    return state


def _whole(setup: Setup, state: TrainingState, one_epoch: Callable[[], EpochResult]) -> EpochResult:
    """An epoch of a stage's training; where it fails, the message says which, and what to change.

    Raises:
        CheckFailed: the loss or a weight is not finite.
        OutOfMemory: memory ran out.
    """
    recipe = setup.recipe.train
    try:
        return within_memory(one_epoch)
    except CheckFailed as error:
        raise CheckFailed(f"stage {state.stage}: {error}. {_KEPT}; {_CHANGE}") from None
    except OutOfMemory as error:
        said = str(error)
    raise OutOfMemory(
        f"stage {state.stage}: memory ran out while training, in epoch {state.epoch + 1} ({said}); lower "
        f"train.batch_size, {recipe.batch_size} now, and raise train.accumulate, {recipe.accumulate} now, as much, so "
        f"that updates see as many images. {_KEPT}; {_CHANGE}"
    )


def _not_finite(loss: float | None) -> str:
    """Said of a loss that is NaN or infinite; "" of others."""
    return "" if loss is None or math.isfinite(loss) else f": it is {loss}"


def _validation_loss(setup: Setup, module: nn.Module, average: Average | None, notes: Notes) -> float:
    """Mean loss on the validation images of what the stage would end with now: the average, where one is kept."""
    with average.shown() if average else nullcontext():
        return evaluated(setup, module, "validation", notes).loss


def grow(setup: Setup, state: TrainingState, progress: Progress, note: Callable[[str], None]) -> Growth:
    """Index, allocate and split a trained network, calling `note` where something went wrong.

    Raises:
        CheckFailed: the split network does not compute the same function at step 0, or processes differ in it.
        OutOfMemory: memory ran out while indexing with the smallest batches, too.
    """
    recipe, stage, net = setup.recipe, state.stage, state.net
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    size = 0

    def halved(images: int, said: str) -> None:
        nonlocal size
        size = images
        note(f"memory ran out while indexing ({said}); begun anew with batches of {images} images{_of_batches(recipe)}")

    with clock("index"), progress.task(f"index stage {stage}", 1) as task:
        sample, held_out = _samples(setup, stage)
        size = largest_of([*sample, *held_out])
        index = splitting_index(
            net,
            sample,
            setup.loss,
            method=recipe.index.method,
            curvature=recipe.index.curvature,
            linear=recipe.index.linear,
            held_out=held_out,
            signed=recipe.growth.signed,
            sweeps=recipe.index.sweeps,
            growing=recipe.index.growing,
            kink_beta=recipe.index.kink_beta,
            statistics=recipe.index.statistics,
            precision=recipe.index.precision,
            seed=setup.seed_of("index", stage),
            share=setup.share,
            halved=halved,
        )
        task.advance(1)
    if unknown := _unknown(index):
        note(
            f"numbers overflowed or are NaN in the index of {unknown} of "
            f"{sum(len(each.value) for each in index.values())} neurons; these are not split, and no sum holds them"
        )
    with clock("allocate"):
        # Decided once: a solver may end elsewhere on another machine.
        allocation = setup.session.team.on_main(
            lambda: decide(recipe, setup.priced, setup.seed_price, setup.sizes, stage, net, index)
        )
    progress.line(f"stage {stage}: {allocation.status}")
    if not allocation.split:
        return Growth(index, allocation, None, None, seconds)
    with clock("surgery"):
        least = fewest(recipe.index.statistics, setup.share)
        step, index_stderr = in_memory(
            lambda largest: take_step(setup, net, index, allocation, cut(held_out, largest, least)),
            size,
            statistics=recipe.index.statistics,
            share=setup.share,
            halved=halved,
        )
        after = start_of_next(state, index, allocation.chosen, step.size, allocation.mass)
        check_widths(setup, after)
    record = SplitRecord(
        index=_index_record(setup, sample, held_out, index, index_stderr, size),
        allocation=AllocationRecord(
            method=allocation.method,
            split=allocation.split,
            predicted_gain=allocation.predicted_gain,
            gap=allocation.gap,
            shadow_price=allocation.shadow_price,
            price={name: CostRecord.of(cost) for name, cost in allocation.price.items()},
            limit=allocation.limit,
            status=allocation.status,
            kinds=allocation.kinds,
            mass=allocation.mass,
        ),
        step=step,
    )
    return Growth(index, allocation, record, after, seconds)


def start_of_next(
    state: TrainingState, index: Mapping[str, SplitIndex], chosen: Chosen, step: Mapping[str, float], mass: float = 1.0
) -> TrainingState:
    """What the next stage starts from, bit for bit the same whether computed now or again after a resume.

    Args:
        state: the trained stage.
        index: its splitting indices.
        chosen: the neurons to split, with the kinds of their splits where these are signed.
        step: absolute size by group.
        mass: of signed splits; 1 of others.
    """
    return TrainingState(
        stage=state.stage + 1,
        epoch=0,
        net=split(state.net, chosen, directions(index, chosen), step, mass=mass),
        optimiser=split_state(state.net, chosen, state.optimiser, mass),
    )


def check_widths(setup: Setup, after: TrainingState) -> None:
    """Stop before processes train different networks.

    Raises:
        CheckFailed: their widths differ.
    """
    if other := setup.session.team.differing(after.net.widths):
        raise CheckFailed(
            f"processes {sorted(other)} made the next network in another way than the main process; nothing was kept "
            "of it. Do all run the same versions?"
        )


def _samples(setup: Setup, stage: int) -> tuple[Batches, Batches]:
    """Images for the directions and other images for everything that is reported; both from the training part."""
    recipe, train = setup.recipe.index, setup.splits.train
    first = train.draw(recipe.images, seed=setup.seed_of("sample", stage))
    second = train.draw(recipe.held_out_images, seed=setup.seed_of("held out", stage), exclude=first)
    device = setup.session.device
    try:
        return setup.share.done(
            lambda: (train.take(first, recipe.batch_size, device), train.take(second, recipe.batch_size, device))
        )
    except OutOfMemory as error:
        said = str(error)
    raise OutOfMemory(
        f"stage {stage}: memory ran out while the images to index on were made ({said}); lower index.images, "
        f"{recipe.images} now, and index.held_out_images, {recipe.held_out_images} now. {_KEPT}; --resume --change "
        "goes on from there with other values"
    )


def _index_record(
    setup: Setup, sample: Batches, held_out: Batches, index: dict[str, SplitIndex], stderr: float, size: int
) -> IndexRecord:
    """The indices in a few numbers; size: images of the largest batch."""
    recipe, found = setup.recipe.index, list(index.values())
    return IndexRecord(
        solver=recipe.method,
        curvature=recipe.curvature,
        linear=recipe.linear,
        kink_beta=recipe.kink_beta,
        statistics=recipe.statistics,
        precision=recipe.precision,
        shrinkage=recipe.shrinkage,
        images=sum(len(x) for x, _ in sample),
        held_out_images=sum(len(x) for x, _ in held_out),
        sweeps=found[0].sweeps,
        sum_same_images=sum(
            float("nan") if each.same_images is None else float(each.same_images[each.value.isfinite()].sum())
            for each in found
        ),
        sum_held_out=sum(float(each.value[each.value.isfinite()].sum()) for each in found),
        stderr=stderr,
        negative=sum(int((each.value < 0).sum()) for each in found),
        neurons=sum(len(each.value) for each in found),
        unknown=_unknown(index),
        batch_size=size,
    )


def _unknown(index: Mapping[str, SplitIndex]) -> int:
    """Neurons without a known index, at either end of the spectrum."""
    return sum(
        sum(not math.isfinite(value) for value in (each.value if each.upper is None else each.value + each.upper.value))
        for each in index.values()
    )


def _of_batches(recipe: Recipe) -> str:
    """What smaller batches change, in words; "" where they change nothing but rounding."""
    if recipe.index.statistics == "batch":
        return ", whose own statistics batch norms follow (index.statistics)"
    if recipe.index.method == "rmsprop":
        return ", each a step of the descent (index.method)"
    return ""


class _Clock:
    """Adds wall time by part."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def __call__(self, part: str) -> _Clock:
        self.part = part
        return self

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.part] = self.seconds.get(self.part, 0.0) + time.perf_counter() - self.start
