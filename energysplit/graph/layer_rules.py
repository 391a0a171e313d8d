"""Layers with weights: convolutions and linear layers mix channels, depthwise filters and batch norms follow them.

A module is known by its exact class: a subclass may compute something else, and is traced into. What it then calls
(`F.conv2d` with its own weight) is known by the function.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from energysplit.graph.labels import NONE, spread, varying
from energysplit.graph.network import Kind, Role
from energysplit.graph.rule import Call, Norm, Outcome, Refusal, Rule, shape_of

CONVS = (nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def rule_of(target: Any) -> Rule | None:
    """The rule of a layer's class or function, or None."""
    return _RULES.get(target)


def _conv_module(call: Call) -> Outcome:
    layer = call.module
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    return _conv(call, layer.weight, layer.bias, layer.groups)


def _conv_function(call: Call) -> Outcome:
    weight, bias = _parameter(call, 1, "weight"), _parameter(call, 2, "bias", needed=False)
    assert weight is not None
    if call.argument(6, "groups", 1) != 1:
        raise Refusal("its groups are written into the code, so that they can't follow its channels")
    return _conv(call, weight, bias, 1)


def _conv(call: Call, weight: Tensor, bias: Tensor | None, groups: int) -> Outcome:
    shape, labels = shape_of(call), call.labels
    if len(shape) != weight.dim():
        raise Refusal(f"its input has no batch dimension (its output's shape is {tuple(shape)})")
    inputs = call.channels(1)
    rows = labels.of(weight, 0, Role.PRODUCER)
    if bias is not None:
        labels.unify(labels.of(bias, 0, Role.PRODUCER), rows)
    if groups > 1 and weight.shape[1] == 1:
        return _depthwise(call, weight, bias, inputs)
    if inputs is not None:
        columns = labels.of(weight, 1, Role.CONSUMER)
        by_group = inputs.reshape(groups, -1)
        if groups > 1 and bool((by_group == NONE).any()):
            raise Refusal("some channels of its groups are of fixed size")
        labels.unify(by_group, columns)
    if groups > 1:  # a position can only be split in every group
        by_group = rows.reshape(groups, -1)
        labels.unify(by_group, by_group[:1])
    return Outcome(Kind.MIX, spread(rows, 1, shape), weight=weight, inputs=inputs, outputs=rows)


def _depthwise(call: Call, weight: Tensor, bias: Tensor | None, inputs: Tensor | None) -> Outcome:
    """One filter, or several, for each channel: its rows follow the input's channels."""
    labels = call.labels
    rows = labels.of(weight, 0)
    labels.roles[id(weight), 0] = Role.FOLLOWER
    if bias is not None:
        labels.roles[id(bias), 0] = Role.FOLLOWER
    if inputs is None or bool((inputs == NONE).any()):
        labels.freeze(rows, f"{call.where} filters channels of fixed size one by one")
    if inputs is not None:
        labels.unify(rows.reshape(len(inputs), -1), inputs[:, None])
        if len(rows) > len(inputs):
            labels.several.append(id(weight))
    return Outcome(Kind.DEPTHWISE, spread(rows, 1, shape_of(call)), weight=weight, inputs=inputs, outputs=rows)


def _linear_module(call: Call) -> Outcome:
    layer = call.module
    assert isinstance(layer, nn.Linear)
    return _linear(call, layer.weight, layer.bias)


def _linear_function(call: Call) -> Outcome:
    weight, bias = _parameter(call, 1, "weight"), _parameter(call, 2, "bias", needed=False)
    assert weight is not None
    return _linear(call, weight, bias)


def _linear(call: Call, weight: Tensor, bias: Tensor | None) -> Outcome:
    shape, labels = shape_of(call), call.labels
    inputs = call.channels(-1)
    rows = labels.of(weight, 0, Role.PRODUCER)
    if bias is not None:
        labels.unify(labels.of(bias, 0, Role.PRODUCER), rows)
    if inputs is not None:
        labels.unify(inputs, labels.of(weight, 1, Role.CONSUMER))
    return Outcome(Kind.MIX, spread(rows, len(shape) - 1, shape), weight=weight, inputs=inputs, outputs=rows)


def _norm_module(call: Call) -> Outcome:
    layer: Any = call.module
    return _norm(call, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps)


def _norm_function(call: Call) -> Outcome:
    if call.argument(5, "training", False) and not call.training:
        raise Refusal("batch norm on the statistics of the batch, in eval mode too, mixes the images of a batch")
    return _norm(
        call,
        _parameter(call, 1, "running_mean", needed=False),
        _parameter(call, 2, "running_var", needed=False),
        _parameter(call, 3, "weight", needed=False),
        _parameter(call, 4, "bias", needed=False),
        call.argument(7, "eps", 1e-5),
    )


def _norm(
    call: Call, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Outcome:
    if mean is None or variance is None:
        raise Refusal("batch norm without running statistics mixes the images of a batch")
    held = [tensor for tensor in (mean, variance, weight, bias) if tensor is not None]
    mark, channels = call.mark, None
    if mark is not None and 1 in (where := varying(mark) or (1,)):
        if where != (1,):
            raise Refusal("channels stand in several dimensions")
        channels = call.channels(1)
        assert channels is not None
        for tensor in held:
            call.labels.unify(call.labels.of(tensor, 0), channels)
    norm = Norm(mean, variance, weight, bias, eps)
    return Outcome(Kind.NORM, mark, norm=norm, inputs=channels, outputs=channels)


def _compares(what: str) -> Rule:
    """A normalisation that is not followed: its channels stay where they are, and none can be split."""

    def rule(call: Call) -> Outcome:
        if call.mark is not None:
            call.labels.freeze(call.mark, f"{call.where}: {what}")
        return Outcome(Kind.OPAQUE, call.mark)

    return rule


def _layer_norm(call: Call) -> Outcome:
    shape = call.option(1, "normalized_shape")
    if call.mark is not None:
        dims = call.mark.dim()
        across = any(dim >= dims - len(shape) for dim in varying(call.mark) or (dims - 1,))
        what = "compares the channels with each other" if across else "bends all positions of a channel together"
        call.labels.freeze(call.mark, f"{call.where}: layer norm {what}")
    return Outcome(Kind.OPAQUE, call.mark)


def _parameter(call: Call, position: int, name: str, needed: bool = True) -> Tensor | None:
    """An argument that must be a parameter or buffer used as it is, or nothing."""
    node = call.source(position, name)
    if node is None and call.argument(position, name) is None and not needed:
        return None
    if node is None or node not in call.tensors:
        raise Refusal(f"its {name} is computed while it runs")
    return call.tensors[node]


_GROUP = "group norm compares the channels of a group with each other"
_INSTANCE = "instance norm bends all positions of a channel together"
_RESPONSE = "local response normalisation compares neighbouring channels with each other"
_RULES: dict[Any, Rule] = {
    **dict.fromkeys(CONVS, _conv_module),
    **dict.fromkeys((F.conv1d, F.conv2d, torch.conv1d, torch.conv2d), _conv_function),
    nn.Linear: _linear_module,
    F.linear: _linear_function,
    **dict.fromkeys(NORMS, _norm_module),
    F.batch_norm: _norm_function,
    nn.LayerNorm: _layer_norm,
    F.layer_norm: _layer_norm,
    nn.GroupNorm: _compares(_GROUP),
    F.group_norm: _compares(_GROUP),
    nn.InstanceNorm1d: _compares(_INSTANCE),
    nn.InstanceNorm2d: _compares(_INSTANCE),
    F.instance_norm: _compares(_INSTANCE),
    nn.LocalResponseNorm: _compares(_RESPONSE),
    F.local_response_norm: _compares(_RESPONSE),
}
