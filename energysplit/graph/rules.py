"""What each known operation does to channels; an operation without a rule is refused by name.

Classes are matched exactly: a subclass may compute something else (weight norm and parametrisations make subclasses).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from energysplit.graph import activations
from energysplit.graph.activations import Activation
from energysplit.graph.network import Kind

CONVS = (nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_LINEAR = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Identity,
)
_MAX_POOLS: dict[type[nn.Module], Callable[..., tuple[Tensor, Tensor]]] = {
    nn.MaxPool1d: F.max_pool1d_with_indices,
    nn.MaxPool2d: F.max_pool2d_with_indices,
}
_LINEAR_FUNCTIONS = {
    F.avg_pool1d,
    F.avg_pool2d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    "contiguous",
}
_HEADS = (nn.Softmax, nn.LogSoftmax)
_HEAD_FUNCTIONS = {F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, "softmax", "log_softmax"}


@dataclass(frozen=True)
class Rule:
    """What an operation is: its kind and what belongs to it.

    flatten: it joins channels and positions. dimensions: those its input must have; () leaves that to its name.
    """

    kind: Kind
    activation: Activation | None = None
    pool: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    flatten: bool = False
    dimensions: tuple[int, ...] = ()


def of_module(module: nn.Module) -> Rule | str:
    """The rule of a module, or the reason why there is none."""
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks:
        return "it has forward hooks, which may change what it computes"
    if "forward" in vars(module):
        return "its forward was replaced on the instance, so what it computes is not known"
    if kind in CONVS:
        assert isinstance(module, nn.Conv1d | nn.Conv2d)
        if module.padding_mode != "zeros":
            return f"padding mode {module.padding_mode!r}; 'zeros' expected"
        if module.groups == 1:
            return Rule(Kind.MIX)
        if module.groups == module.in_channels == module.out_channels:
            return Rule(Kind.DEPTHWISE)
        return (
            f"grouped convolution with groups={module.groups}, {module.in_channels} -> {module.out_channels} channels"
        )
    if kind is nn.Linear:
        return Rule(Kind.MIX)
    if kind in NORMS:
        if module.running_mean is None:
            return "batch norm without running statistics mixes the images of a batch"
        return Rule(Kind.NORM)
    if kind in _LINEAR:
        return Rule(Kind.LINEAR)
    if isinstance(module, nn.Flatten) and kind is nn.Flatten:
        if (module.start_dim, module.end_dim) == (1, -1):
            return Rule(Kind.LINEAR, flatten=True)
        return f"flatten from dimension {module.start_dim} to {module.end_dim}; (1, -1) expected"
    if kind in _MAX_POOLS:
        if module.return_indices:
            return "max pooling that returns its indices"
        pool, m = _MAX_POOLS[kind], module
        return Rule(
            Kind.MAX_POOL,
            pool=lambda z: pool(z, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode),
        )
    if kind in _HEADS and module.dim in (1, -1):
        return Rule(Kind.HEAD)
    activation = activations.of_module(module)
    if activation is not None:
        return Rule(Kind.ACTIVATION, activation=activation)
    return "no rule says what it does to channels"


def of_call(target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Rule | str:
    """The rule of a function or method call, or the reason why there is none; `args` follow the input tensor."""
    activation = activations.of_call(target, args, kwargs)
    if activation is not None:
        return Rule(Kind.ACTIVATION, activation=activation)
    if target in (F.dropout, F.dropout2d):
        if kwargs.get("training", args[1] if len(args) > 1 else True) and kwargs.get("p", args[0] if args else 0.5):
            return "dropout that is active in eval mode; pass training=self.training"
        return Rule(Kind.LINEAR)
    if target in _LINEAR_FUNCTIONS:
        return Rule(Kind.LINEAR)
    if target in (torch.flatten, "flatten"):
        start = kwargs.get("start_dim", args[0] if args else 0)
        end = kwargs.get("end_dim", args[1] if len(args) > 1 else -1)
        if (start, end) == (1, -1):
            return Rule(Kind.LINEAR, flatten=True)
        return f"flatten from dimension {start} to {end}; (1, -1) expected"
    if target in (torch.mean, "mean"):
        dims = kwargs.get("dim", args[0] if args else None)
        if isinstance(dims, list | tuple) and sorted(d % 4 for d in dims if isinstance(d, int)) == [2, 3]:
            return Rule(Kind.LINEAR, dimensions=(4,))
        return f"mean over dimensions {dims}; (2, 3) expected"
    if target in (F.max_pool2d, torch.max_pool2d):
        options: dict[str, Any] = dict(
            zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), args, strict=False)
        )
        options |= {key: value for key, value in kwargs.items() if key != "return_indices"}
        return Rule(Kind.MAX_POOL, pool=lambda z: F.max_pool2d_with_indices(z, **options))
    if target in _HEAD_FUNCTIONS:
        dim = kwargs.get("dim", args[0] if args else None)
        return Rule(Kind.HEAD) if dim in (1, -1) else f"softmax over dimension {dim}; 1 expected"
    return "no rule says what it does to channels"
