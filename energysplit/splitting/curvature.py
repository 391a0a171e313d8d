"""First and second derivatives of activations, with kinks smoothed.

At a kink the second derivative is a Dirac pulse of the size of the jump. It is replaced by a logistic density of
stated width, beta s(beta u)(1 - s(beta u)) with u the distance to the kink: softplus'' for ReLU, as in the code of
Wang et al. 2019 (beta = 3 after batch norm). The first derivative stays the true one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from energysplit.graph.activations import Activation


def derivatives(
    activation: Activation, z: Float[Tensor, ...], kink_beta: float
) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """(sigma'(z), smoothed sigma''(z)), element by element.

    Error: none between kinks; at kinks the smoothing has a standard deviation of pi / (sqrt(3) kink_beta) in z.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (first,) = torch.autograd.grad(activation.function(leaf).sum(), leaf, create_graph=True)
        second = None
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.sum(), leaf, allow_unused=True)
    curvature = torch.zeros_like(z) if second is None else second
    for location, jump in activation.kinks:
        gate = torch.sigmoid(kink_beta * (z - location))
        curvature = curvature + jump * kink_beta * gate * (1 - gate)
    return first.detach(), curvature
