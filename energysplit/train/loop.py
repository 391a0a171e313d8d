"""One epoch of training, and evaluation. No host synchronisation per batch: sums stay on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from energysplit.errors import CheckFailed, DataError
from energysplit.graph.trace import evaluating
from energysplit.memory import within_memory
from energysplit.records import Evaluation
from energysplit.train.distillation import Distillation
from energysplit.train.session import Session
from energysplit.train.statistics import same_statistics

Batch = tuple[Tensor, Tensor]
LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EpochResult:
    """Mean loss and top-1 accuracy (0 to 1) over the images of an epoch, each as it was when its step was made."""

    loss: float
    accuracy: float
    images: int


class _Sums:
    """Loss, right answers and images so far, summed on the device in float64 (float32 where there is none)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        dtype = torch.float32 if session.device.type == "mps" else torch.float64
        self.values = torch.zeros(2, dtype=dtype, device=session.device)
        self.images = 0

    def add(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: its mean loss, its outputs and targets."""
        right = (outputs.detach().argmax(1) == targets).sum()
        self.values += torch.stack((loss.detach().to(self.values.dtype) * len(targets), right.to(self.values.dtype)))
        self.images += len(targets)

    def means(self) -> tuple[float, float, int]:
        """Loss, accuracy and images, over all processes.

        Raises:
            DataError: there were no images.
        """
        count = torch.tensor([float(self.images)], dtype=self.values.dtype, device=self.values.device)
        loss, right, images = self.session.sum(torch.cat((self.values, count))).tolist()
        if images == 0:
            raise DataError("no batches were given; at least one image is needed")
        return loss / images, right / images, int(images)


def train_epoch(
    session: Session,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    loss_fn: LossFunction,
    learning_rate: Callable[[int], float],
    seed: int,
    epoch: int = 0,
    accumulate: int = 1,
    distillation: Distillation | None = None,
    penalty: Callable[[], Tensor] | None = None,
    after_update: Callable[[], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EpochResult:
    """Train on each batch once.

    With the same module, optimiser state, batches and seed, the result is the same bit for bit (on the CPU, with the
    same number of threads).

    With `accumulate` = k an update follows the mean gradient over the images of k batches (the last may have fewer),
    as if they were one; batch norm still sees each batch by itself, and each process its part of it.

    Args:
        session: where it runs; the module must have been placed there.
        module: left in training mode.
        optimiser: of the module's parameters.
        batches: (input, target), whole batches also when several processes share them.
        loss_fn: (output, target) -> mean loss.
        learning_rate: update of this epoch, from 0 -> rate.
        seed: of everything random inside the module, such as dropout.
        epoch: for the message, if the training fails; from 0.
        accumulate: batches an update.
        distillation: the teacher, if there is one; the loss returned is with it.
        penalty: a term of the weights alone that is added to the loss of each update once; the loss returned is with
            it.
        after_update: called after each update of the weights.
        progress: called after each batch with its images.

    Raises:
        CheckFailed: the loss, a weight or a statistic became infinite or NaN; looked at once, at the end of the epoch.
        DataError: no batches, or a batch smaller than the number of processes.
    """
    session.seed(seed)
    module.train()
    sums = _Sums(session)
    with session.training(module, optimiser) as (model, stepper):
        update = 0
        for update, group in enumerate(_groups(batches, accumulate)):
            for each in stepper.param_groups:
                each["lr"] = learning_rate(update)
            stepper.zero_grad()
            together = sum(len(targets) for _, targets in group)
            for number, batch in enumerate(group, start=1):
                whole = len(batch[1])
                if whole < session.processes:
                    raise DataError(
                        f"a batch of {whole} images can't be shared by {session.processes} processes; use a larger "
                        "train.batch_size, or fewer processes"
                    )
                inputs, targets = session.shard(batch)
                with session.gathering(model, last=number == len(group)):
                    outputs, loss = _forward(session, model, inputs, targets, loss_fn, distillation)
                    if penalty is not None:
                        # Outside mixed precision. The weights below make a mean over images, of which each batch and
                        # each process brings its part: the penalty counts once an update, however it is divided.
                        loss = loss + penalty()
                    # Processes average their gradients and batches add theirs; this weight makes that the mean over
                    # all images of the update.
                    weight = len(targets) * session.processes / together
                    session.backward(loss if weight == 1 else loss * weight)
                sums.add(loss, outputs, targets)
                if progress is not None:
                    progress(whole)
            stepper.step()
            if after_update is not None:
                after_update()
    same_statistics(session, module)
    loss_mean, accuracy, images = sums.means()
    what = f"training loss became {loss_mean}" if not math.isfinite(loss_mean) else _overflowed(module)
    if what:
        raise CheckFailed(
            f"{what} in epoch {epoch + 1}, at a learning rate of {learning_rate(update):.3g}; use a smaller "
            "train.learning_rate or a longer train.warmup_epochs, and for splits to come a smaller step.size"
        )
    return EpochResult(loss_mean, accuracy, images)


def evaluate(session: Session, module: nn.Module, batches: Iterable[Batch], loss_fn: LossFunction) -> Evaluation:
    """Mean loss and top-1 accuracy over the batches, in eval mode; each submodule's own mode is put back.

    No batches at all are a DataError, and memory that runs out, on any process, is an OutOfMemory on all.
    """
    sums = _Sums(session)

    def mine() -> None:
        with evaluating(module), torch.inference_mode(), session.autocast():
            for batch in batches:
                inputs, targets = session.shard(batch)
                if len(targets) == 0:
                    continue
                outputs = module(inputs)
                sums.add(loss_fn(outputs, targets), outputs, targets)

    session.team.everyone(lambda: within_memory(mine))
    loss, accuracy, images = sums.means()
    return Evaluation(loss=loss, accuracy=accuracy, images=images)


def _forward(
    session: Session,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss_fn: LossFunction,
    distillation: Distillation | None,
) -> tuple[Tensor, Tensor]:
    """Outputs and mean training loss of one batch, in the session's precision."""
    with session.autocast():
        outputs = model(inputs)
        loss = loss_fn(outputs, targets)
        return outputs, loss if distillation is None else distillation(loss, inputs, outputs)


def _overflowed(module: nn.Module) -> str:
    """Which of the module's weights and statistics is not finite, in words; "" if none: a loss may not show it yet."""
    # Other buffers may be infinite on purpose, such as masks.
    statistics = (
        (f"{name}.{buffer}", tensor)
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase)
        for buffer, tensor in layer.named_buffers(recurse=False)
    )
    for name, tensor in (*module.named_parameters(), *statistics):
        if not bool(torch.isfinite(tensor).all()):
            return f"{name!r} of the network became infinite or NaN"
    return ""


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches, `size` at a time, none made before it is needed; the last group may have fewer."""
    rest = iter(batches)
    while group := list(islice(rest, size)):
        yield group
