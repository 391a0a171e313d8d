"""What a rule is: how one operation carries labels from its inputs to its output, and what it does to a small change.

A rule receives a `Call` and answers with an `Outcome`, unifying and freezing labels as it goes. It raises `Refusal`
where it does not understand; then every label that reaches the operation is frozen with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from energysplit.graph.activations import Activation
from energysplit.graph.labels import Labels, along
from energysplit.graph.network import Kind

Mark = Tensor
"""Integers shaped like a value: the label behind each element."""


class Refusal(Exception):
    """An operation is not followed; the text completes "<operation>: ..."."""


@dataclass(frozen=True)
class Call:
    """One operation with the values of its arguments and the marks of its tensor inputs.

    target: type of the module, function, or name of the method. args, kwargs: with values in place of nodes. marks:
    node -> mark, for inputs that hold labels. tensors: the parameters and buffers among the inputs, by node.
    """

    node: fx.Node
    target: Any
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    marks: Mapping[fx.Node, Any]
    tensors: Mapping[fx.Node, Tensor]
    labels: Labels
    training: bool

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument's value by position (the input tensor is 0) or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def option(self, position: int, name: str, default: Any = None) -> Any:
        """A setting: the module's attribute of this name, or a function's argument."""
        return getattr(self.module, name) if self.module is not None else self.argument(position, name, default)

    def source(self, position: int, name: str = "") -> fx.Node | None:
        """The node behind an argument, None if it is a constant."""
        node = self.node.args[position] if len(self.node.args) > position else self.node.kwargs.get(name)
        return node if isinstance(node, fx.Node) else None

    @property
    def where(self) -> str:
        """How a reason names the operation: where it is and what it is."""
        node = self.node
        if self.module is not None:
            return f"layer {str(node.target)!r} ({type(self.module).__name__})"
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        return f"operation {name!r} (at {node.name!r})"

    @property
    def mark(self) -> Any:
        """The mark of the first argument; None if it holds no labels."""
        return self.marks.get(self.node.args[0]) if self.node.args else None  # type: ignore[arg-type]

    def channels(self, dim: int) -> Tensor | None:
        """The labels of the first argument along `dim`; None if it holds none.

        Raises:
            Refusal: they vary along another dimension.
        """
        if self.mark is None:
            return None
        labels = along(self.mark, dim)
        if labels is None:
            raise Refusal(f"channels stand in another dimension than dimension {dim}, where it expects them")
        return labels


@dataclass(frozen=True)
class Norm:
    """The frozen statistics of a batch norm: scale = weight / sqrt(variance + eps)."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class Outcome:
    """What an operation is and the mark of its result; the other fields as in `network.Op`.

    weight: of a MIX or DEPTHWISE. inputs, outputs: labels of the
    channels a priced layer reads and writes; None where they hold none.
    """

    kind: Kind
    mark: Any = None
    function: Callable[..., Any] | None = None
    weight: Tensor | None = None
    activation: Activation | None = None
    pool: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    norm: Norm | None = None
    inputs: Tensor | None = None
    outputs: Tensor | None = None


Rule = Callable[[Call], Outcome]


def same(call: Call) -> Outcome:
    """A linear operation that leaves every element's channel as it is."""
    return Outcome(Kind.LINEAR, call.mark)


def shape_of(call: Call) -> torch.Size:
    """The result's shape."""
    assert isinstance(call.result, Tensor)
    return call.result.shape
