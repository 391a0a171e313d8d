"""Activations energysplit can differentiate twice, each with its kinks.

A kink is a place where the first derivative jumps; the second derivative has a Dirac part there, which
`splitting.curvature` smooths. Everything between kinks is differentiated by autograd, so an entry is the function, its
kinks, and whether it is straight between them, which saves the second derivative. An activation that is not listed is
refused by name.
"""

from __future__ import annotations

import operator
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
    straight: whether the second derivative is 0 between the kinks.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    kinks: Kinks = ()
    straight: bool = False


RELU: Kinks = ((0.0, 1.0),)
RELU6: Kinks = ((0.0, 1.0), (6.0, -1.0))
HARDSWISH: Kinks = ((-3.0, -0.5), (3.0, -0.5))
HARDSIGMOID: Kinks = ((-3.0, 1 / 6), (3.0, -1 / 6))
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


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
    return Activation("leaky_relu", lambda z: F.leaky_relu(z, slope), ((0.0, 1.0 - slope),), True)


def _hardtanh(module: Any) -> Activation:
    low, high = module.min_val, module.max_val
    return Activation("hardtanh", lambda z: F.hardtanh(z, low, high), ((low, 1.0), (high, -1.0)), True)


def _celu(module: Any) -> Activation:
    alpha = module.alpha
    return Activation("celu", lambda z: F.celu(z, alpha))


_MODULES: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.ReLU: lambda _: Activation("relu", F.relu, RELU, True),
    nn.ReLU6: lambda _: Activation("relu6", F.relu6, RELU6, True),
    nn.SiLU: lambda _: Activation("silu", F.silu),
    nn.GELU: _gelu,
    nn.Tanh: lambda _: Activation("tanh", torch.tanh),
    nn.Sigmoid: lambda _: Activation("sigmoid", torch.sigmoid),
    nn.Softplus: _softplus,
    nn.Mish: lambda _: Activation("mish", F.mish),
    nn.ELU: _elu,
    nn.LeakyReLU: _leaky_relu,
    nn.Hardswish: lambda _: Activation("hardswish", F.hardswish, HARDSWISH),
    nn.Hardsigmoid: lambda _: Activation("hardsigmoid", F.hardsigmoid, HARDSIGMOID, True),
    nn.Hardtanh: _hardtanh,
    nn.SELU: lambda _: Activation("selu", F.selu, ((0.0, _SELU_SCALE * (1 - _SELU_ALPHA)),)),
    nn.CELU: _celu,
    nn.Softsign: lambda _: Activation("softsign", F.softsign),
    nn.LogSigmoid: lambda _: Activation("logsigmoid", F.logsigmoid),
    SmoothReLU: lambda module: Activation("smooth_relu", module.forward),
    SmoothReLU6: lambda module: Activation("smooth_relu6", module.forward),
}

_FUNCTIONS: dict[object, type[nn.Module]] = {
    F.relu: nn.ReLU,
    F.relu_: nn.ReLU,
    torch.relu: nn.ReLU,
    torch.relu_: nn.ReLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
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
    F.hardsigmoid: nn.Hardsigmoid,
    F.hardtanh: nn.Hardtanh,
    F.selu: nn.SELU,
    F.celu: nn.CELU,
    F.softsign: nn.Softsign,
    F.logsigmoid: nn.LogSigmoid,
}

_ELEMENTARY = {
    name: Activation(name, getattr(torch, name))
    for name in ("exp", "expm1", "log1p", "sin", "cos", "atan", "erf", "square", "sqrt", "rsqrt", "reciprocal")
} | {"abs": Activation("abs", torch.abs, ((0.0, 2.0),), True)}


def of_call(target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Activation | None:
    """The activation a function or method call computes, or None; `args` are those after the input tensor."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if name in _ELEMENTARY and target in (name, getattr(torch, name)) and not args and not kwargs:
        return _ELEMENTARY[name]
    if target in (torch.clamp, "clamp", "clamp_"):
        return _clamp(*args, **kwargs)
    if target in (operator.pow, torch.pow, "pow"):
        return _power(*args, **kwargs)
    kind = _FUNCTIONS.get(target)
    if kind is None:
        return None
    kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
    args = tuple(value for value in args if not isinstance(value, bool))
    return of_module(kind(*args, **kwargs))


def _clamp(low: Any = None, high: Any = None, **named: Any) -> Activation | None:
    low, high = named.get("min", low), named.get("max", high)
    if any(isinstance(bound, Tensor) for bound in (low, high)):
        return None
    kinks = ((low, 1.0),) * (low is not None) + ((high, -1.0),) * (high is not None)
    return Activation("clamp", lambda z: torch.clamp(z, low, high), kinks, True)


def _power(exponent: Any = None, **named: Any) -> Activation | None:
    exponent = named.get("exponent", exponent)
    if isinstance(exponent, int) and exponent not in (0, 1):
        return Activation(f"pow_{exponent}", lambda z: z**exponent)
    return None
