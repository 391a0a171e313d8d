"""Operations on positions: averages, windows, padding, resizing. Channels stay in their dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from energysplit.graph.labels import compact, spread, varying
from energysplit.graph.network import Kind
from energysplit.graph.rule import Call, Outcome, Refusal, Rule, same, shape_of


def rule_of(target: Any) -> Rule | None:
    """The rule of a module's class, function or method, or None."""
    try:
        if target in _RULES:
            return _RULES[target]
    except TypeError:  # not hashable
        return None
    torchvision = getattr(target, "__module__", None) or ""
    if getattr(target, "__name__", "") == "stochastic_depth" and torchvision.startswith("torchvision."):
        return _stochastic_depth
    return None


def _reduce(call: Call) -> Outcome:
    """Mean and sum over positions."""
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    dims = call.argument(1, "dim")
    keep = call.argument(2, "keepdim", False)
    if dims is None:
        raise Refusal("it averages over everything, the channels among it")
    dims = {dim % call.mark.dim() for dim in ((dims,) if isinstance(dims, int) else dims)}
    if dims & set(varying(call.mark)):
        raise Refusal("it averages over the channels")
    mark = call.mark
    for dim in sorted(dims, reverse=True):
        mark = mark.narrow(dim, 0, 1) if keep else mark.select(dim, 0)
    return Outcome(Kind.LINEAR, mark)


def _window(call: Call) -> Outcome:
    """Pooling, padding and resizing of positions: channels stay in their dimension."""
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    labels = call.channels(1)
    assert labels is not None
    return Outcome(Kind.LINEAR, spread(labels, 1, shape_of(call)))


def _pad(call: Call) -> Outcome:
    pads, value = call.argument(1, "pad"), call.argument(3, "value")
    if value not in (None, 0):
        raise Refusal(f"it pads with {value}; 0 expected")
    if call.mark is not None and any(
        pads[2 * n : 2 * n + 2] != type(pads)((0, 0))
        for n in range(len(pads) // 2)
        if call.mark.dim() - 1 - n in varying(call.mark)
    ):
        raise Refusal("it pads the channels to a size written into the code")
    if call.mark is None:
        return Outcome(Kind.LINEAR)
    return Outcome(Kind.LINEAR, compact(call.mark).expand(shape_of(call)))


def _max_pool(call: Call) -> Outcome:
    function, names = _MAX_POOLS[call.target]
    options = dict(zip(names, call.args[1:], strict=False)) | dict(call.kwargs)
    if call.module is not None:
        options = {name: getattr(call.module, name) for name in names}
    if options.pop("return_indices", False):
        raise Refusal("it returns its indices")
    labels = call.channels(1)
    mark = None if labels is None else spread(labels, 1, shape_of(call))

    def pool(z: Tensor) -> tuple[Tensor, Tensor]:
        largest, where = function(z, **options)
        return largest, where

    return Outcome(Kind.MAX_POOL, mark, function=lambda z, *_, **__: pool(z)[0], pool=pool)


def _dropout(call: Call) -> Outcome:
    training = call.argument(2, "training", True)
    if call.module is None and training and call.argument(1, "p", 0.5) and not call.training:
        raise Refusal("dropout that is active in eval mode; pass training=self.training")
    return same(call)


def _stochastic_depth(call: Call) -> Outcome:
    if call.argument(3, "training", True) and call.argument(1, "p") and not call.training:
        raise Refusal("it drops layers in eval mode too; pass training=self.training")
    return same(call)


_WINDOWS = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, F.avg_pool1d, F.avg_pool2d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d, F.interpolate, nn.Upsample),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
    *(nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
)
_WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_ADAPTIVE = ("output_size", "return_indices")
_MAX_POOLS: dict[Any, tuple[Callable[..., Any], tuple[str, ...]]] = {
    **dict.fromkeys((nn.MaxPool1d, F.max_pool1d), (F.max_pool1d_with_indices, _WINDOW)),
    **dict.fromkeys((nn.MaxPool2d, F.max_pool2d, torch.max_pool2d), (F.max_pool2d_with_indices, _WINDOW)),
    nn.AdaptiveMaxPool1d: (F.adaptive_max_pool1d_with_indices, _ADAPTIVE),
    **dict.fromkeys((nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d), (F.adaptive_max_pool2d_with_indices, _ADAPTIVE)),
}
_RULES: dict[Any, Rule] = {
    **dict.fromkeys(_WINDOWS, _window),
    **dict.fromkeys((torch.mean, "mean", torch.sum, "sum"), _reduce),
    **dict.fromkeys(_MAX_POOLS, _max_pool),
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d), _dropout),
    F.pad: _pad,
}
