"""Batch norm on a batch's statistics: torch's own forward and backward pass, and its tangents by nested differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from energysplit.errors import InputError
from energysplit.splitting.layout import Moves
from energysplit.splitting.normalising import Followed, normalising

SHAPES = [(6, 4, 5, 5), (16, 4), (6, 4, 7)]
NO_MOVES = Moves({}, {})
INPUT = fx.Graph().placeholder("x")


def _case(shape, channels_last=False, affine=True):
    generator = torch.Generator().manual_seed(0)
    value, gradient, t = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    value, gradient, t = 2 * value + 1, gradient + 0.3, t + 0.7
    if channels_last and len(shape) == 4:
        value, gradient, t = (each.contiguous(memory_format=torch.channels_last) for each in (value, gradient, t))
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(4, affine=affine).double()
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return norm, value, gradient, t


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_runs_as_torch_does_in_training(shape, channels_last, affine):
    norm, value, gradient, _ = _case(shape, channels_last, affine)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    value.requires_grad_()
    followed = Followed(norm, value)
    result = followed.run(value)
    expected = F.batch_norm(value, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
    torch.testing.assert_close(result, expected)
    assert torch.equal(followed.again(), result)
    backward = (torch.autograd.grad(y, value, gradient)[0] for y in (result, expected))
    torch.testing.assert_close(next(backward), next(backward))
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())


def test_channels_that_hardly_vary_around_a_large_mean_keep_their_variance():
    """In float32 a sum of squares less the mean's square would have no digit of a variance of 1e-4 beside 1e4."""
    generator = torch.Generator().manual_seed(0)
    value = (100 + 0.01 * torch.randn(64, 4, 6, 6, generator=generator, dtype=torch.float64)).float()
    met = Followed(nn.BatchNorm2d(4, eps=1e-12), value).met
    exact = value.double()
    torch.testing.assert_close(met.mean.double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    expected = (exact.var((0, 2, 3), correction=0) + 1e-12).rsqrt()
    torch.testing.assert_close(met.invstd.double(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_first_and_second_derivatives_are_those_of_differences(shape, channels_last):
    """Central differences of the normalised values along t; halving the step would change 1e-6 of them."""
    norm, value, gradient, t = _case(shape, channels_last)
    with torch.no_grad():
        norm.weight[1] = 0  # whose tangents come out as 0, though they say what counts
    met = Followed(norm, value).met
    piece = normalising(INPUT, met, gradient)

    def at(step):
        return F.batch_norm(value + step * t, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)

    step = 1e-4
    first, second = (at(step) - at(-step)) / (2 * step), (at(step) - 2 * at(0) + at(-step)) / step**2
    torch.testing.assert_close(piece.carry({INPUT: t}, NO_MOVES), first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(piece.each({INPUT: t}, NO_MOVES), gradient * second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_short_way_is_the_long_one(shape, channels_last):
    """Tangent and half the gradient of what counts against autograd through the formulas written out."""
    norm, value, gradient, t = _case(shape, channels_last)
    with torch.no_grad():
        norm.weight[1] = 0  # whose tangents come out as 0, though they say what counts
    met = Followed(norm, value).met
    piece = normalising(INPUT, met, gradient)
    t.requires_grad_()
    tangent, [(stands, half)] = piece.counted({INPUT: t}, NO_MOVES, passes=True, spent=False)
    axes = (0, *range(2, value.dim()))
    z = (value - value.mean(axes, keepdim=True)) * met.wide(met.invstd)
    centred = t - t.mean(axes, keepdim=True)
    carried = met.wide(met.weight * met.invstd) * (centred - z * (z * centred).mean(axes, keepdim=True))
    summed = piece.each({INPUT: t}, NO_MOVES).sum()
    torch.testing.assert_close(tangent, carried)
    factor = torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view_as(t)
    half_summed = summed / 2
    (short,) = torch.autograd.grad([tangent, stands], t, [factor, half], retain_graph=True)
    (long,) = torch.autograd.grad(half_summed + (carried * factor).sum(), t, retain_graph=True)
    torch.testing.assert_close(short, long)
    (alone,) = torch.autograd.grad([stands], t, [half])  # no tangent is wanted behind it
    torch.testing.assert_close(alone, torch.autograd.grad(half_summed, t)[0])


def test_a_channel_with_one_value_has_no_statistics():
    norm = nn.BatchNorm2d(4)
    with pytest.raises(InputError, match="batches of two images or more"):
        Followed(norm, torch.randn(1, 4, 1, 1))
    assert Followed(norm, torch.randn(1, 4, 1, 2)).met.elements == 2
