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
    activation: Activation,
    z: Float[Tensor, "*shape"],
    kink_beta: float,
    weight: Float[Tensor, "*shape"] | None = None,
    slope: bool = True,
) -> tuple[Float[Tensor, "*shape"] | None, Float[Tensor, "*shape"]]:
    """(sigma'(z), weight times smoothed sigma''(z)), element by element; the weight is 1 if none is given.

    Without `slope` the first is None, which saves it where it is not needed for the second.

    Error: none between kinks; at kinks the smoothing has a standard deviation of pi / (sqrt(3) kink_beta) in z.
    """
    one = z.new_ones(())
    factor = one.expand_as(z) if weight is None else weight
    first = second = None
    if slope or not activation.straight:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            (first,) = torch.autograd.grad(
                activation.function(leaf), leaf, one.expand_as(z), create_graph=not activation.straight
            )
            if first.requires_grad:
                (second,) = torch.autograd.grad(first, leaf, factor, allow_unused=True)
        first = first.detach() if slope else None
    for location, jump in activation.kinks:
        gate = z * kink_beta
        if location:
            gate -= kink_beta * location
        gate.sigmoid_()
        # factor gate (1 - gate), in one pass, and in place if nothing is rounded by that
        room = {"grad_input": gate} if gate.dtype == factor.dtype else {}
        pulse = torch.ops.aten.sigmoid_backward(factor, gate, **room)
        height = jump * kink_beta
        second = pulse.mul_(height) if second is None else second.add_(pulse, alpha=height)
    return first, torch.zeros_like(z) if second is None else second
