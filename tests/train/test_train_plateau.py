"""When a training has reached its plateau."""

from __future__ import annotations

import math

import pytest

from energysplit.train.plateau import Plateau


def epochs_until(losses, patience, min_improvement=0.0):
    """Epochs after which a training with these validation losses ends; None if it does not."""
    plateau = Plateau()
    for number, loss in enumerate(losses, start=1):
        plateau = plateau.after(loss, min_improvement)
        if plateau.reached(patience):
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "patience", "min_improvement", "epochs"),
    [
        ([1.0, 0.9, 0.8, 0.7], 1, 0.0, None),
        ([1.0, 1.0], 1, 0.0, 2),
        ([1.0, 1.1, 0.9, 1.0, 1.1, 0.5], 2, 0.0, 5),
        ([1.0, 1.1, 1.2, 0.9], 3, 0.0, None),
        ([1.0, 0.99, 0.98, 0.97], 2, 0.05, 3),
        ([1.0, 0.97, 0.94, 0.91, 0.88], 2, 0.05, None),  # small improvements add up: 1, then 0.94, then 0.88
        ([0.0, 0.0], 1, 0.1, 2),
        ([math.nan, 1.0, math.nan, math.nan], 2, 0.0, 4),
        ([1.0, 2.0, 3.0, 4.0], None, 0.0, None),
    ],
)
def test_a_training_ends_after_epochs_without_improvement(losses, patience, min_improvement, epochs):
    assert epochs_until(losses, patience, min_improvement) == epochs


def test_the_count_remembers_the_lowest_and_the_last_loss():
    plateau = Plateau().after(1.0).after(0.5).after(0.7)
    assert plateau == Plateau(best=0.5, waited=1, loss=0.7)
