"""The smoothed activations: limits, and second derivatives equal to the kernel they stand for."""

from __future__ import annotations

import math

import pytest
import torch

from energysplit.errors import InputError
from energysplit.models.activations import SmoothReLU, SmoothReLU6, activation


def second_derivative(module, z):
    z = z.clone().requires_grad_()
    (first,) = torch.autograd.grad(module(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    return second


def kernel(z, beta):
    """Density of the logistic distribution with scale 1 / beta."""
    return beta * torch.sigmoid(beta * z) * torch.sigmoid(-beta * z)


@pytest.mark.parametrize("beta", [1.0, 3.0, 20.0])
def test_second_derivatives_are_the_logistic_kernel(beta):
    z = torch.linspace(-9, 15, 2001, dtype=torch.float64)
    assert torch.allclose(second_derivative(SmoothReLU(beta), z), kernel(z, beta), atol=1e-12)
    assert torch.allclose(second_derivative(SmoothReLU6(beta), z), kernel(z, beta) - kernel(z - 6, beta), atol=1e-12)


def test_the_kernel_has_unit_area_and_the_stated_width():
    z = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    density = kernel(z, 3.0)
    assert torch.trapezoid(density, z).item() == pytest.approx(1.0, abs=1e-9)
    assert torch.trapezoid(density * z**2, z).sqrt().item() == pytest.approx(math.pi / (math.sqrt(3) * 3.0), abs=1e-6)


def test_the_limit_of_large_beta_is_the_kinked_activation():
    z = torch.linspace(-3, 9, 1001, dtype=torch.float64)
    assert torch.allclose(SmoothReLU(1e4)(z), torch.relu(z), atol=1e-4)
    assert torch.allclose(SmoothReLU6(1e4)(z), torch.nn.functional.relu6(z), atol=2e-4)


def test_values_are_accurate_where_softplus_turns_linear():
    z = torch.linspace(-20, 40, 4001, dtype=torch.float64)
    exact = torch.logaddexp(torch.zeros_like(z), 3.0 * z) / 3.0
    assert (SmoothReLU(3.0)(z) - exact).abs().max() < 1e-13


def test_wrong_names_and_betas_are_refused():
    with pytest.raises(InputError, match="unknown activation 'swish'"):
        activation("swish")
    with pytest.raises(InputError, match="a positive sharpness is expected"):
        SmoothReLU(0.0)
