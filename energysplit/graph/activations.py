"""Activations energysplit can differentiate twice, each with its kinks.

A kink is a place where the first derivative jumps; the second derivative has a Dirac part there, which
`splitting.curvature` smooths. Everything between kinks is differentiated by autograd, so an entry is the function and
its kinks, nothing more. An activation that is not listed is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """The activation a module computes, or None if it is not a known one.

    Classes are matched exactly: a subclass may compute something else.
    """
    make = _MODULES.get(type(module))
    return make(module) if make is not None else None


def _gelu(module: Any) -> Activation:
    approximate = module.approximate
    return Activation("gelu", lambda z: F.gelu(z, approximate=approximate))


def _softplus(module: Any) -> Activation:
    beta, threshold = module.beta, module.threshold
    return Activation("softplus", lambda z: F.softplus(z, beta, threshold))


def _elu(module: Any) -> Activation:
    alpha = module.alpha
    return Activation("elu", lambda z: F.elu(z, alpha), ((0.0, 1.0 - alpha),) if alpha != 1 else ())


def _leaky_relu(module: Any) -> Activation:
    slope = module.negative_slope
    return Activation("leaky_relu", lambda z: F.leaky_relu(z, slope), ((0.0, 1.0 - slope),))


_MODULES: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.ReLU: lambda _: Activation("relu", F.relu, RELU),
    nn.ReLU6: lambda _: Activation("relu6", F.relu6, RELU6),
    nn.SiLU: lambda _: Activation("silu", F.silu),
    nn.GELU: _gelu,
    nn.Tanh: lambda _: Activation("tanh", torch.tanh),
    nn.Sigmoid: lambda _: Activation("sigmoid", torch.sigmoid),
    nn.Softplus: _softplus,
    nn.Mish: lambda _: Activation("mish", F.mish),
    nn.ELU: _elu,
    nn.LeakyReLU: _leaky_relu,
    nn.Hardswish: lambda _: Activation("hardswish", F.hardswish, HARDSWISH),
    SmoothReLU: lambda module: Activation("smooth_relu", module.forward),
    SmoothReLU6: lambda module: Activation("smooth_relu6", module.forward),
}

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
