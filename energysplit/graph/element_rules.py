"""Element-wise operations: tensors that meet share their channels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from energysplit.graph import activations
from energysplit.graph.labels import NONE, compact, varying
from energysplit.graph.network import Kind
from energysplit.graph.rule import Call, Mark, Outcome, Refusal, Rule, shape_of

ADDS: dict[Any, Callable[..., Any]] = {
    operator.add: operator.add,
    operator.iadd: operator.add,
    torch.add: torch.add,
    "add": torch.add,
    "add_": torch.add,
    operator.sub: operator.sub,
    operator.isub: operator.sub,
    torch.sub: torch.sub,
    "sub": torch.sub,
    "sub_": torch.sub,
    torch.subtract: torch.sub,
    operator.neg: operator.neg,
    torch.neg: torch.neg,
    "neg": torch.neg,
}
PRODUCTS: dict[Any, Callable[..., Any]] = {
    operator.mul: operator.mul,
    operator.imul: operator.mul,
    torch.mul: torch.mul,
    torch.multiply: torch.mul,
    "mul": torch.mul,
    "mul_": torch.mul,
    operator.truediv: operator.truediv,
    operator.itruediv: operator.truediv,
    torch.div: torch.div,
    "div": torch.div,
    "div_": torch.div,
}
DIVISIONS = (operator.truediv, torch.div)


def rule_of(target: Any) -> Rule | None:
    """The rule of an element-wise function or method, or None."""
    try:
        if target in ADDS:
            return _add
        if target in PRODUCTS:
            return _product
    except TypeError:  # not hashable
        return None
    return None


def activation_of(
    node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> activations.Activation | None:
    """The activation that an operation computes, or None."""
    if module is not None:
        return activations.of_module(module)
    if not args or not isinstance(args[0], Tensor) or any(isinstance(n, fx.Node) for n in node.args[1:]):
        return None
    return activations.of_call(node.target, args[1:], kwargs)


def activate(call: Call, activation: activations.Activation) -> Outcome:
    """An activation: every element stays what it is."""

    def function(z: Tensor, *_: Any, **__: Any) -> Tensor:
        return activation.function(z)

    return Outcome(Kind.ACTIVATION, call.mark, function=function, activation=activation)


def _add(call: Call) -> Outcome:
    function = ADDS[call.target]
    if call.kwargs.keys() - {"alpha"}:
        raise Refusal(f"arguments {sorted(call.kwargs)} are not known")
    return Outcome(Kind.SUM, meet(call), function=function)


def _product(call: Call) -> Outcome:
    function = PRODUCTS[call.target]
    if call.kwargs:
        raise Refusal(f"arguments {sorted(call.kwargs)} are not known")
    if function in DIVISIONS and call.source(1) in call.marks and call.source(1) not in call.tensors:
        raise Refusal("it divides by channels")
    return Outcome(Kind.PRODUCT, meet(call), function=function)


def meet(call: Call) -> Mark | None:
    """The mark of an element-wise result; labels that stand in one place are unified.

    A tensor of fixed size freezes the labels it meets; one that is broadcast over channels must hold none itself.
    """
    shape = shape_of(call)
    values = {node: _value(call, node) for node in call.node.all_input_nodes}
    tensors = {node: value for node, value in values.items() if isinstance(value, Tensor)}
    marks = {node: _aligned(call.marks[node], len(shape)) for node in tensors if node in call.marks}
    if not marks:
        return None
    where = {dim for mark in marks.values() for dim in varying(mark)}
    for node, value in tensors.items():
        size = (1,) * (len(shape) - value.dim()) + tuple(value.shape)
        mark = marks.get(node)
        parameter = call.tensors.get(node)
        if mark is None and parameter is not None and _bound(call, parameter, marks, where, len(shape)):
            continue
        mine = () if mark is None else varying(mark)
        narrow = [dim for dim in range(len(shape)) if size[dim] == 1 < shape[dim]]
        if mark is not None and (any(dim in where for dim in narrow) or (not mine and narrow)):
            if parameter is None:
                call.labels.freeze(mark, f"{call.where}: its channel is broadcast over others")
            marks.pop(node)
        elif any(dim not in mine and size[dim] > 1 for dim in where):
            raise Refusal(
                "channels meet a tensor whose size is fixed or whose channels are not followed"
                if mark is None
                else "channels of one tensor meet positions of another"
            )
    if not marks:
        return None
    small = [compact(mark) for mark in marks.values()]
    together = torch.broadcast_tensors(*small)
    merged = together[0]
    for mark in together[1:]:
        call.labels.unify(merged, mark)
        for one, other in ((merged, mark), (mark, merged)):
            lonely = one[(one != NONE) & (other == NONE)]
            call.labels.freeze(lonely, f"{call.where}: some of its channels meet elements of fixed size")
        merged = torch.maximum(merged, mark)
    return merged.expand(shape)


def _bound(call: Call, parameter: Tensor, marks: dict[fx.Node, Mark], where: set[int], dims: int) -> bool:
    """Whether a parameter of several dimensions, used as it is, was bound to the channels it meets."""
    if len(where) != 1:
        return False
    (dim,) = where
    own = dim - (dims - parameter.dim())
    if own < 0 or parameter.shape[own] == 1:
        return True  # broadcast over the channels
    for mark in marks.values():
        if varying(mark) == (dim,):
            call.labels.unify(call.labels.of(parameter, own), compact(mark).flatten())
    return True


def _aligned(mark: Mark, dims: int) -> Mark:
    """The mark with leading dimensions of size 1, as broadcasting adds them."""
    return mark[(None,) * (dims - mark.dim())]


def _value(call: Call, node: fx.Node) -> Any:
    """The value behind one of the first two arguments or keyword arguments."""
    for position, argument in enumerate(call.node.args):
        if argument is node:
            return call.args[position]
    return next((call.kwargs[name] for name, argument in call.node.kwargs.items() if argument is node), None)
