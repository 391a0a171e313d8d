"""Learning from a teacher: the loss against its definition, gradients, and that it helps a student."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from energysplit import data, models
from energysplit.train import evaluate, make_optimiser, train_epoch
from energysplit.train.distillation import Distillation

LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 4.0), (1.0, 1.0), (0.9, 0.5)])
def test_the_loss_is_that_of_the_definition(weight, temperature):
    torch.manual_seed(0)
    teacher = nn.Linear(4, 3).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.arange(7) % 3
    outputs = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    found = Distillation(teacher, weight, temperature)(LOSS(outputs, y), x, outputs)
    p = (teacher(x) / temperature).softmax(1)
    q = (outputs / temperature).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    expected = (1 - weight) * LOSS(outputs, y) + weight * temperature**2 * divergence
    # The teacher's part is made in float32, for mixed precision's sake.
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, outputs, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, outputs)
    assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_a_student_that_agrees_with_its_teacher_has_no_teachers_loss():
    teacher, x = nn.Linear(4, 3), torch.randn(5, 4)
    loss = Distillation(teacher, 1.0, 2.0)(torch.tensor(7.0), x, teacher(x))
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_is_left_as_it_is(session):
    torch.manual_seed(0)
    splits = data.load("digits", limit=200)
    teacher = models.build("cnn", in_channels=1, dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = models.build("cnn", in_channels=1, widths=[3, 4])
    epoch(session, student, splits.train, Distillation(teacher, 0.5, 4.0))
    assert not teacher.training, "batch norm and dropout of the teacher are those of its evaluation"
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_labels_hidden_by_the_teachers_answers_are_learnt_all_the_same(session):
    """With weight 1 the labels do not count: a student of a good teacher learns digits from wrong labels."""
    splits = data.load("digits")
    torch.manual_seed(0)
    teacher = models.build("cnn", in_channels=1, widths=[16, 32])
    for number in range(6):
        epoch(session, teacher, splits.train, None, seed=number)
    taught, untaught = (models.build("cnn", in_channels=1, widths=[16, 32]) for _ in range(2))
    for student, distillation in ((taught, Distillation(teacher, 1.0, 2.0)), (untaught, None)):
        for number in range(10):
            epoch(session, student, Mislabelled(splits.train), distillation, seed=number)
    right = [evaluate(session, student, splits.test.batches(100), LOSS).accuracy for student in (taught, untaught)]
    assert right[0] > 0.65
    assert right[1] < 0.3


class Mislabelled:
    """A data set whose labels are all wrong by one."""

    def __init__(self, split):
        self.split = split

    def batches(self, *args, **options):
        for inputs, targets in self.split.batches(*args, **options):
            yield inputs, (targets + 1) % 10


def epoch(session, module, split, distillation, seed=0):
    """One epoch at a constant rate, without a memory of the epoch before."""
    return train_epoch(
        session,
        session.place(module),
        make_optimiser(module),
        split.batches(32, seed=seed, augment=True),
        loss_fn=LOSS,
        learning_rate=lambda _: 0.1,
        seed=seed,
        distillation=distillation,
    )
