"""A wrong shape is an error while tests run, and a function inside another is not wrapped at every call."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from torch import fx

from energysplit.splitting import pieces
from energysplit.splitting.operator import SplittingOperator, dots, normalise


def test_wrong_shapes_are_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="dots"):
        dots(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(jaxtyping.TypeCheckError, match="normalise"):
        normalise(torch.zeros(3))


def test_functions_of_modules_and_methods_are_checked_and_inner_ones_are_not():
    assert hasattr(SplittingOperator.evaluate_all, "__wrapped__")
    assert hasattr(pieces.start, "__wrapped__")
    piece = pieces.bend(fx.Graph().placeholder("x"), torch.ones(1), torch.ones(1))
    assert not hasattr(piece.carry, "__wrapped__")
