"""Gradient accumulation: an update over several batches is that over one large batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from energysplit import models
from energysplit.train import make_optimiser, state_tensors, train_epoch

LOSS = nn.CrossEntropyLoss(label_smoothing=0.1)


def trained(session, module, batches, **options):
    """A copy trained for an epoch: weights, momentum, result and the updates whose rate was asked for."""
    module = copy.deepcopy(module)
    optimiser = make_optimiser(module, weight_decay=1e-3, nesterov=True)
    asked, updates = [], []

    def rate(update):
        if update not in asked:
            asked.append(update)
        return 0.1 / (1 + update)

    result = train_epoch(
        session,
        module,
        optimiser,
        batches,
        loss_fn=LOSS,
        learning_rate=rate,
        seed=0,
        after_update=lambda: updates.append(len(asked)),
        **options,
    )
    assert updates == [number + 1 for number in asked] == list(range(1, len(asked) + 1))
    return {**module.state_dict(), **state_tensors(optimiser, module)}, result, len(asked)


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4], [8, 8], [5, 2, 6, 3], [16, 7, 7, 2], [1, 1, 12, 2]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_it_equals_the_large_batch_also_when_batches_are_uneven(session, sizes, dtype, tolerance):
    torch.manual_seed(0)
    module = models.build("cnn", in_channels=1, widths=[3, 4], batch_norm=False).to(dtype)
    inputs, targets = torch.randn(sum(sizes), 1, 8, 8, dtype=dtype), torch.randint(10, (sum(sizes),))
    small = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    half = sum(sizes[:2])
    large = list(zip(inputs.split([half, len(inputs) - half]), targets.split([half, len(inputs) - half]), strict=True))
    if len(sizes) == 2:
        large = [(inputs, targets)]
    found, result, updates = trained(session, module, small, accumulate=2)
    wanted, whole, _ = trained(session, module, large)
    assert updates == len(large)
    assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) < tolerance
    assert (result.loss, result.images) == (pytest.approx(whole.loss, rel=1e-6), whole.images)
    # The mean of the batches' means is another gradient, where they are uneven.
    if sizes == [16, 7, 7, 2]:
        plain, _, _ = trained(session, module, small)
        assert max(float((plain[name] - wanted[name]).abs().max()) for name in wanted) > 1e-3


def test_the_last_update_has_the_batches_that_are_left(session):
    torch.manual_seed(0)
    module = nn.Linear(4, 3).double()
    inputs, targets = torch.randn(11, 4, dtype=torch.float64), torch.arange(11) % 3
    small = list(zip(inputs.split(2), targets.split(2), strict=True))  # 2 2 2 2 2 1
    found, _, updates = trained(session, module, small, accumulate=4)
    wanted, _, _ = trained(session, module, [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])])
    assert updates == 2
    assert all(torch.allclose(found[name], wanted[name], rtol=0, atol=1e-14) for name in wanted)


def test_batches_are_made_when_they_are_needed(session):
    made = []

    def batches():
        for number in range(6):
            made.append(number)
            yield torch.randn(2, 4), torch.tensor([0, 1])

    seen = []
    trained(session, nn.Linear(4, 3), batches(), accumulate=2, progress=lambda _: seen.append(len(made)))
    assert seen == [2, 2, 4, 4, 6, 6]


def test_one_batch_an_update_is_what_it_was_bit_for_bit(session):
    torch.manual_seed(0)
    module = models.build("cnn", in_channels=1, widths=[3, 4])
    batches = [(torch.randn(size, 1, 8, 8), torch.randint(10, (size,))) for size in (6, 6, 3)]
    found, _, _ = trained(session, module, batches)
    by_hand = copy.deepcopy(module).train()
    optimiser = make_optimiser(by_hand, weight_decay=1e-3, nesterov=True)
    for number, (x, y) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = 0.1 / (1 + number)
        optimiser.zero_grad()
        LOSS(by_hand(x), y).backward()
        optimiser.step()
    assert all(torch.equal(found[name], tensor) for name, tensor in by_hand.state_dict().items())
