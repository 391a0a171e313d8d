"""What is priced of a walk: layers and other operations, their cases as traced, and how these follow the groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from energysplit.graph.labels import Labels
from energysplit.graph.lifetimes import with_lifetimes
from energysplit.graph.network import Count, Kind, Layer
from energysplit.graph.rule import Call
from energysplit.graph.spaces import Spaces
from energysplit.graph.walk import Visit, Walk
from energysplit.graph.weightless import free, size_of, weightless
from energysplit.types import LayerCase

_LAYERS = (Kind.MIX, Kind.DEPTHWISE)


def priced(walk: Walk, names: Mapping[fx.Node, str], spaces: Spaces) -> dict[str, Layer]:
    """Name -> what is priced, in the order of the forward pass, then what parameters are left over.

    A batch norm or activation that is the only reader of a convolution or linear layer is fused to it. What is not
    followed (attention, layer norm) is priced by the multiply-accumulates torch counts and its parameters.
    """
    visits = walk.visits
    found: dict[str, Layer] = {}
    unit: dict[fx.Node, str] = {}  # operation -> what it is priced with
    fused: dict[fx.Node, str] = {}  # node -> the layer whose output, so far, it is
    counted: set[int] = set()
    for visit in visits:
        name, outcome, call = names[visit.node], visit.outcome, visit.call
        before = _only_source(visit.node, fused)
        if outcome.kind in _LAYERS:
            assert call is not None
            assert outcome.weight is not None
            case = _case(call, outcome.weight, visit, walk.images)
            if id(outcome.weight) in counted:
                case = replace(case, shared=True, params=_fresh(_own(call), counted))
            found[name] = Layer(
                case,
                spaces.count(case.in_channels, outcome.inputs),
                spaces.count(case.out_channels, outcome.outputs),
            )
            counted |= {id(t) for t in _own(call)}
            fused[visit.node] = name
        elif outcome.kind is Kind.NORM:
            assert call is not None
            assert outcome.norm is not None
            affine = [t for t in (outcome.norm.weight, outcome.norm.bias) if t is not None]
            fresh = _fresh(affine, counted)
            if before and affine and not found[before].case.batch_norm and found[before].case.activation is None:
                case = found[before].case
                params = case.params + fresh if case.shared else case.params
                # One that was counted at another layer adds no parameters here, and no time where it is folded.
                found[before] = _with(found[before], batch_norm=case.shared or fresh > 0, params=params)
                fused[visit.node] = unit[visit.node] = before
            else:
                found[name] = _norm(outcome.norm.variance, bool(affine), outcome.outputs, visit, spaces)
                found[name] = _with(found[name], shared=bool(affine) and not fresh)
            counted |= {id(t) for t in affine}
        elif outcome.kind is Kind.ACTIVATION and before and outcome.activation is not None:
            found[before] = _with(found[before], activation=outcome.activation.name)
            unit[visit.node] = before
        elif outcome.kind is Kind.OPAQUE:
            own = {id(p): p for p in visit.parameters if id(p) not in counted}
            params = sum(p.numel() for p in own.values())
            if visit.macs or params:
                case = LayerCase("other", 0, 0, in_size=size_of(visit.source), out_size=size_of(visit.result))
                case = replace(case, macs=visit.macs, params=params)
                found[name] = Layer(case, Count(0), Count(0))
            counted |= own.keys()
        elif isinstance(call and call.module, nn.Identity | nn.Dropout) and before:
            fused[visit.node] = before
        if outcome.kind is Kind.VALUE or not _tensor(visit):
            continue
        if visit.node not in unit and name not in found:
            sources = [unit[source] for source in visit.node.all_input_nodes if source in unit]
            if free(visit):  # of the images themselves: of nothing
                if sources:
                    unit[visit.node] = sources[0]
                continue
            found[name] = weightless(visit, walk.images, spaces)
        unit.setdefault(visit.node, name)
    found = with_lifetimes(walk, names, unit, found, spaces)
    visited = {id(t) for visit in visits for t in _tensors(visit)}
    for name, parameter in walk.model.named_parameters():
        if id(parameter) in visited and id(parameter) not in counted:
            found[name] = _loose(parameter, walk.labels, spaces)
    return found


def _tensor(visit: Visit) -> bool:
    """Whether an operation results in tensors."""
    return visit.call is not None and any(isinstance(leaf, Tensor) for leaf in tree_leaves(visit.call.result))


def _fresh(tensors: Sequence[Tensor], counted: set[int]) -> int:
    """Elements of the tensors that no layer has counted yet."""
    return sum(tensor.numel() for tensor in tensors if id(tensor) not in counted)


def _only_source(node: fx.Node, fused: Mapping[fx.Node, str]) -> str:
    """The layer that `node` reads, if it reads only that and is the only one to read it."""
    sources = node.all_input_nodes
    if not sources or sources[0] not in fused or len(sources[0].users) != 1:
        return ""
    return fused[sources[0]] if all(s.op == "get_attr" for s in sources[1:]) else ""


def _with(layer: Layer, **changes: Any) -> Layer:
    return replace(layer, case=replace(layer.case, **changes))


def _own(call: Call) -> tuple[Tensor, ...]:
    return (*(call.module.parameters() if call.module is not None else ()), *call.tensors.values())


def _tensors(visit: Visit) -> tuple[Tensor, ...]:
    """Parameters an operation reads."""
    return () if visit.call is None else _own(visit.call)


def _norm(variance: Tensor, affine: bool, labels: Tensor | None, visit: Visit, spaces: Spaces) -> Layer:
    """A batch norm of its own."""
    channels, size = len(variance), size_of(visit.source)
    case = LayerCase("batch_norm", channels, channels, groups=channels, in_size=size, out_size=size, batch_norm=affine)
    count = spaces.count(channels, labels)
    return Layer(case, count, count)


def _loose(parameter: Tensor, labels: Labels, spaces: Spaces) -> Layer:
    """A parameter that is used outside layers, such as a layer scale or a positional embedding."""
    channels = parameter.numel()
    count = spaces.count(channels, labels.marked(parameter))
    return Layer(LayerCase("other", channels, channels, groups=channels, params=channels), count, count)


def _folded(shape: torch.Size, images: int) -> tuple[int, int]:
    """The size, with what is folded into the batch stacked in the height."""
    height, width = size_of(shape)
    return height * max(1, shape[0] // images), width


def _case(call: Call, weight: Tensor, visit: Visit, images: int) -> LayerCase:
    """The case of a convolution or linear layer on this input; windows folded into the batch count as positions."""
    if weight.dim() == 2:
        positions = (1, visit.source[:-1].numel() // images)
        bias = call.module.bias is not None if call.module is not None else call.argument(2, "bias") is not None
        return LayerCase("linear", weight.shape[1], weight.shape[0], in_size=positions, out_size=positions, bias=bias)
    source: Any = call.module

    def option(position: int, name: str, default: Any) -> Any:
        return getattr(source, name) if source is not None else call.argument(position, name, default)

    def pair(values: Any, fill: int) -> tuple[int, int]:
        values = (values,) * (weight.dim() - 2) if isinstance(values, int) else values
        return (fill, values[0]) if len(values) == 1 else (values[0], values[1])

    kernel, dilation = pair(weight.shape[2:], 1), pair(option(5, "dilation", 1), 1)
    padding = option(4, "padding", 0)
    if isinstance(padding, str):
        same = padding == "same"
        padding = tuple(d * (k - 1) // 2 if same else 0 for d, k in zip(dilation, kernel, strict=True))
        padding = padding[1:] if weight.dim() == 3 else padding
    groups = option(6, "groups", 1)
    return LayerCase(
        "conv2d" if weight.dim() == 4 else "conv1d",
        weight.shape[1] * groups,
        weight.shape[0],
        kernel=kernel,
        stride=pair(option(3, "stride", 1), 1),
        padding=pair(padding, 0),
        dilation=dilation,
        groups=groups,
        in_size=_folded(visit.source, images),
        out_size=_folded(visit.result, images),
        bias=option(2, "bias", None) is not None,
    )
