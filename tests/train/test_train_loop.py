"""Training: it learns, its numbers are right, it repeats and resumes bit for bit, and it says when it fails."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from energysplit import data, models
from energysplit.errors import CheckFailed, DataError
from energysplit.train import evaluate, learning_rate, make_optimiser, train_epoch

LOSS = nn.CrossEntropyLoss()


def train(session, module, split, epochs, *, batch_size=32, rate=0.1):
    """Train by the same rules as a stage: cosine, a seed for each epoch."""
    optimiser = make_optimiser(module, weight_decay=1e-4)
    results = []
    for epoch in range(epochs):
        steps = math.ceil(len(split) / batch_size)
        results.append(
            train_epoch(
                session,
                module,
                optimiser,
                split.batches(batch_size, seed=epoch, augment=True),
                loss_fn=LOSS,
                learning_rate=lambda step, epoch=epoch, steps=steps: learning_rate(
                    "cosine", rate, epoch + step / steps, epochs
                ),
                seed=epoch,
                epoch=epoch,
            )
        )
    return results


class Enlarged:
    """Digits at 32x32, which the CIFAR layout is made for."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def batches(self, *args, **options):
        for inputs, targets in self.split.batches(*args, **options):
            yield nn.functional.interpolate(inputs, scale_factor=4), targets


def test_a_small_cnn_learns_digits(session):
    splits = data.load("digits")
    torch.manual_seed(0)
    module = session.place(models.build("cnn", in_channels=1, widths=[16, 32, 32]))
    results = train(session, module, splits.train, 8)
    held_out = evaluate(session, module, splits.validation.batches(100), LOSS)
    assert results[-1].loss < 0.3 * results[0].loss
    assert held_out.images == len(splits.validation)
    assert held_out.accuracy > 0.95
    assert evaluate(session, module, splits.test.batches(100), LOSS).accuracy > 0.95


def test_the_8_channel_mobilenet_learns(session):
    splits = data.load("digits")
    torch.manual_seed(0)
    module = session.place(models.build("mobilenet_v1_cifar", in_channels=1))
    results = train(session, module, Enlarged(splits.train), 6, rate=0.2)
    assert results[-1].loss < 0.5 * results[0].loss
    assert results[-1].accuracy > 0.5


def test_evaluate_agrees_with_one_pass_over_everything_and_restores_modes(session):
    splits = data.load("digits")
    torch.manual_seed(1)
    module = models.build("cnn", in_channels=1, dropout=0.5).train()
    module.blocks[0].eval()
    result = evaluate(session, module, splits.validation.batches(50), LOSS)
    modes = [sub.training for sub in (module, module.blocks[0], module.blocks[1])]
    assert modes == [True, False, True]
    ((inputs, targets),) = splits.validation.batches(1000)
    module.eval()
    with torch.no_grad():
        outputs = module(inputs)
    assert result.loss == pytest.approx(LOSS(outputs, targets).item(), rel=1e-5)
    assert result.accuracy == (outputs.argmax(1) == targets).double().mean().item()


def test_epoch_means_weigh_images_not_batches(session):
    inputs, targets = torch.randn(10, 4), torch.arange(10) % 3
    module = nn.Linear(4, 3)
    seen = []
    result = train_epoch(
        session,
        module,
        make_optimiser(module),
        [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])],
        loss_fn=LOSS,
        learning_rate=lambda _: 0.0,
        seed=0,
        progress=seen.append,
    )
    assert result.loss == pytest.approx(LOSS(module(inputs), targets).item(), rel=1e-6)
    assert (result.images, seen) == (10, [8, 2])


def test_a_step_is_plain_sgd_at_the_rate_given(session):
    inputs, targets = torch.randn(6, 4), torch.arange(6) % 3
    module = nn.Linear(4, 3, bias=False)
    weight = module.weight.detach().clone().requires_grad_()
    rates = [0.3, 0.1]
    train_epoch(
        session,
        module,
        make_optimiser(module, momentum=0.9, weight_decay=0.01),
        [(inputs, targets)] * 2,
        loss_fn=LOSS,
        learning_rate=rates.__getitem__,
        seed=0,
    )
    velocity = torch.zeros_like(weight)
    for rate in rates:
        (gradient,) = torch.autograd.grad(LOSS(inputs @ weight.T, targets), weight)
        velocity = 0.9 * velocity + gradient + 0.01 * weight.detach()
        weight = (weight.detach() - rate * velocity).requires_grad_()
    assert torch.allclose(module.weight, weight, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_not_finite_is_told_with_the_epoch_and_the_keys(session):
    splits = data.load("digits", limit=200)
    module = models.build("mlp")
    with pytest.raises(
        CheckFailed,
        match=r"training loss became .* in epoch 3, at a learning rate of .*; .*train.learning_rate.*step.size",
    ):
        train_epoch(
            session,
            module,
            make_optimiser(module),
            splits.train.batches(20, seed=0),
            loss_fn=LOSS,
            learning_rate=lambda _: 1e8,
            seed=0,
            epoch=2,
        )


def test_no_batches_are_refused(session):
    with pytest.raises(DataError, match="no batches were given"):
        evaluate(session, models.build("mlp"), [], LOSS)


# A training with dropout. argv: folder to write to, first and last epoch, memory formats; each as in a run's stage.
STAGE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from energysplit import data, models
from energysplit.train import Session, learning_rate, load_state_tensors, make_optimiser, state_tensors, train_epoch

def stage(folder, first, last, memory_format):
    with Session("cpu", threads=1, channels_last=memory_format == "channels_last") as session:
        torch.manual_seed(0)
        module = session.place(models.build("cnn", in_channels=1, widths=[8, 16], dropout=0.2))
        optimiser = make_optimiser(module, weight_decay=1e-4, nesterov=True)
        if first:
            module.load_state_dict(load_file(folder / "weights.safetensors"))
            load_state_tensors(optimiser, module, load_file(folder / "optimiser.safetensors"))
        for epoch in range(first, last):
            train_epoch(session, module, optimiser, splits.train.batches(32, seed=epoch, augment=True),
                        loss_fn=nn.CrossEntropyLoss(), seed=epoch,
                        learning_rate=lambda step: learning_rate("cosine", 0.1, epoch + step / 13, 4, warmup_epochs=1))
        folder.mkdir(exist_ok=True, parents=True)
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "weights.safetensors")
        save_file(state_tensors(optimiser, module), folder / "optimiser.safetensors")

root = Path(sys.argv[1])
splits = data.load("digits", limit=400, seed=1)
for memory_format in ("contiguous", "channels_last"):
    if sys.argv[2] == "start":
        stage(root / memory_format / "whole", 0, 3, memory_format)
        stage(root / memory_format / "stopped", 0, 1, memory_format)
    else:
        stage(root / memory_format / "again", 0, 3, memory_format)
        stage(root / memory_format / "stopped", 1, 3, memory_format)
"""


def test_training_repeats_and_resumes_in_a_fresh_process_bit_for_bit(tmp_path):
    for part in ("start", "go on"):
        done = subprocess.run(
            [sys.executable, "-c", STAGE, str(tmp_path), part],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    for memory_format in ("contiguous", "channels_last"):
        for file in ("weights.safetensors", "optimiser.safetensors"):
            whole, again, stopped = (
                (tmp_path / memory_format / run / file).read_bytes() for run in ("whole", "again", "stopped")
            )
            assert again == whole
            assert stopped == whole
