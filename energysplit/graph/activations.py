"""Activations energysplit can differentiate twice, each with its kinks.

A kink is a place where the first derivative jumps; the second derivative has a Dirac part there, which
`splitting.curvature` smooths. Everything between kinks is differentiated by autograd, so an entry is the function and
its kinks, nothing more. An activation that is not listed is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from energysplit.models.activations import SmoothReLU, SmoothReLU6

Kinks = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Activation:
    """An element-wise nonlinearity.

    name: as in recipes and layer cases. function: out of place. kinks: (location, jump of the first derivative).
    """

    name: str
    function: Callable[[Tensor], Tensor]
    kinks: Kinks = ()


RELU: Kinks = ((0.0, 1.0),)
RELU6: Kinks = ((0.0, 1.0), (6.0, -1.0))
HARDSWISH: Kinks = ((-3.0, -0.5), (3.0, -0.5))


def of_module(module: nn.Module) -> Activation | None:
    """The activation a module computes, or None if it is not a known one (exact class, no subclasses)."""
    match module:
        case nn.ReLU():
            return Activation("relu", F.relu, RELU)
        case nn.ReLU6():
            return Activation("relu6", F.relu6, RELU6)
        case nn.SiLU():
            return Activation("silu", F.silu)
        case nn.GELU():
            approximate = module.approximate
            return Activation("gelu", lambda z: F.gelu(z, approximate=approximate))
        case nn.Tanh():
            return Activation("tanh", torch.tanh)
        case nn.Sigmoid():
            return Activation("sigmoid", torch.sigmoid)
        case nn.Softplus():
            beta, threshold = module.beta, module.threshold
            return Activation("softplus", lambda z: F.softplus(z, beta, threshold))
        case nn.Mish():
            return Activation("mish", F.mish)
        case nn.ELU():
            alpha = module.alpha
            return Activation("elu", lambda z: F.elu(z, alpha), ((0.0, 1.0 - alpha),) if alpha != 1 else ())
        case nn.LeakyReLU():
            slope = module.negative_slope
            return Activation("leaky_relu", lambda z: F.leaky_relu(z, slope), ((0.0, 1.0 - slope),))
        case nn.Hardswish():
            return Activation("hardswish", F.hardswish, HARDSWISH)
        case SmoothReLU() | SmoothReLU6():
            return Activation(type(module).__name__.lower(), module.forward)
    return None


_FUNCTIONS: dict[object, type[nn.Module]] = {
    F.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    "relu": nn.ReLU,
    F.relu6: nn.ReLU6,
    F.silu: nn.SiLU,
    F.gelu: nn.GELU,
    F.tanh: nn.Tanh,
    torch.tanh: nn.Tanh,
    "tanh": nn.Tanh,
    F.sigmoid: nn.Sigmoid,
    torch.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    F.softplus: nn.Softplus,
    F.mish: nn.Mish,
    F.elu: nn.ELU,
    F.leaky_relu: nn.LeakyReLU,
    F.hardswish: nn.Hardswish,
}


def of_call(target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Activation | None:
    """The activation a function or method call computes, or None; `args` are those after the input tensor."""
    kind = _FUNCTIONS.get(target)
    if kind is None:
        return None
    kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
    args = tuple(value for value in args if not isinstance(value, bool))
    return of_module(kind(*args, **kwargs))
