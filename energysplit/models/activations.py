"""Activations by name, and smoothed ones for proofs.

The splitting index needs the second derivative of each activation. ReLU and ReLU6 have none at their kinks, so
`energysplit.splitting` replaces the Dirac part there by a kernel. The smoothed activations below have exactly that
kernel as their second derivative: on them, prediction and surgery must agree to numerical precision.

Nothing here works in place: an index pass reads the inputs of activations after the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from energysplit.errors import InputError, nearest

# F.softplus becomes linear above this value of beta * z. Torch's 20 leaves a jump of 2e-9, seen in float64 proofs.
_LINEAR_ABOVE = 50.0


class SmoothReLU(nn.Module):
    """ReLU smoothed with a logistic kernel: softplus(z) = log(1 + exp(beta z)) / beta.

    Its second derivative is the kernel, beta s(beta z) s(-beta z) with s the logistic function: unit area, standard
    deviation pi / (sqrt(3) beta). Source: the paper's code (Wang et al. 2019, arXiv 1910.03103), beta = 3.

    Args:
        beta: sharpness, per unit of z; the limit of large beta is ReLU.

    Example:
        >>> import torch
        >>> SmoothReLU(beta=3.0)(torch.zeros(1)).item()  # log(2) / 3
        0.23104906...
    """

    def __init__(self, beta: float = 3.0) -> None:
        super().__init__()
        self.beta = _sharpness(beta)

    def forward(self, z: Tensor) -> Tensor:
        """The activation of z, element by element, same shape."""
        return F.softplus(z, self.beta, _LINEAR_ABOVE)

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"beta={self.beta:g}"


class SmoothReLU6(nn.Module):
    """ReLU6 smoothed with a logistic kernel at both kinks: softplus(z) - softplus(z - 6).

    Its second derivative is the kernel of `SmoothReLU` at 0 minus the same at 6.

    Args:
        beta: sharpness, per unit of z; the limit of large beta is ReLU6.
    """

    def __init__(self, beta: float = 3.0) -> None:
        super().__init__()
        self.beta = _sharpness(beta)

    def forward(self, z: Tensor) -> Tensor:
        """The activation of z, element by element, same shape."""
        return F.softplus(z, self.beta, _LINEAR_ABOVE) - F.softplus(z - 6.0, self.beta, _LINEAR_ABOVE)

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"beta={self.beta:g}"


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "smooth_relu": SmoothReLU,
    "smooth_relu6": SmoothReLU6,
}


def activation(name: str) -> nn.Module:
    """A new activation module of that name.

    Raises:
        InputError: the name is unknown; the message proposes the nearest one.

    Example:
        >>> activation("silu")
        SiLU()
    """
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}; {nearest(str(name), ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _sharpness(beta: float) -> float:
    if not beta > 0:
        raise InputError(f"beta = {beta!r}: a positive sharpness is expected; 3 is the paper's")
    return float(beta)
