"""Batch norms in running statistics, folded into the convolutions before them.

Such a batch norm scales and shifts each channel, which the convolution does as well with its rows scaled and another
bias: passes over weights in place of passes over activations, in the capture and for tangents there and back.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from energysplit.graph import Network
from energysplit.graph.network import Kind, Op

Convolution = nn.Conv1d | nn.Conv2d


def folded(net: Network, statistics: str) -> dict[fx.Node, Op]:
    """Convolution's node -> the batch norm that goes into it; none where batch norms follow their batch."""
    if statistics != "running":
        return {}
    at = {op.node: op for op in net.ops}
    found = {}
    for op in net.ops:
        if op.kind is Kind.NORM and op.node.op == "call_module":
            (source,) = op.node.all_input_nodes
            conv = at[source]
            plain = conv.kind in (Kind.MIX, Kind.DEPTHWISE) and len(source.users) == 1 and not _returned(net, source)
            if plain and _ordinary(conv, op, net.module):
                found[source] = op
    return found


def mixing(conv: Op, norm: Op, module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """(Input, weight) -> what convolution and batch norm make of it together, without shifts."""
    layer, scale = _layer(conv, module), _scale(conv, norm, module)

    def mix(x: Tensor, weight: Tensor) -> Tensor:
        if _pays(weight, x):
            return layer._conv_forward(x, weight * scale, None)
        result = layer._conv_forward(x, weight, None)
        return result * scale[:, 0].to(result.dtype)

    return mix


def run(conv: Op, norm: Op, module: nn.Module, x: Tensor) -> Tensor:
    """What the batch norm returns on the convolution's input."""
    layer, after = _layer(conv, module), module.get_submodule(str(norm.node.target))
    if not _pays(layer.weight, x):
        made: Tensor = after(layer(x))
        return made
    weight = layer.weight * _scale(conv, norm, module)
    bias = layer.weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    shift: Tensor = after(bias.view(1, -1, *(1,) * (weight.dim() - 2)))
    return layer._conv_forward(x, weight, shift.flatten())


def _pays(weight: Tensor, x: Tensor) -> bool:
    """Whether a pass over the weight is shorter than one over activations."""
    return weight.numel() < x.numel()


def _scale(conv: Op, norm: Op, module: nn.Module) -> Tensor:
    """Of each row of the convolution's weight."""
    assert norm.scale is not None
    weight = _layer(conv, module).weight
    with torch.no_grad():
        return norm.scale(module).to(weight.dtype).view(-1, *(1,) * (weight.dim() - 1))


def _layer(conv: Op, module: nn.Module) -> Convolution:
    layer = module.get_submodule(str(conv.node.target))
    assert isinstance(layer, Convolution)
    return layer


def _ordinary(conv: Op, norm: Op, module: nn.Module) -> bool:
    """Whether the convolution is torch's own, with nothing hung on to it or to the batch norm."""
    if conv.node.op != "call_module" or conv.function is not None:
        return False
    layers = [module.get_submodule(str(op.node.target)) for op in (conv, norm)]
    hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    return type(layers[0]) in (nn.Conv1d, nn.Conv2d) and not hooked


def _returned(net: Network, node: fx.Node) -> bool:
    """Whether the network returns the node's result."""
    found: list[fx.Node] = []
    fx.map_arg(net.output, found.append)
    return node in found
