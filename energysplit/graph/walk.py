"""Runs a symbolic trace operation by operation, with real tensors, and follows the labels by each operation's rule.

An operation without a rule, or whose rule refuses, freezes every label that reaches it: its channels can't be split,
for a stated reason, and everything else goes on.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from energysplit.errors import UnsupportedModel
from energysplit.graph import activations, element_rules, layer_rules, shape_rules, window_rules
from energysplit.graph.counting import counting
from energysplit.graph.labels import Labels
from energysplit.graph.network import Kind
from energysplit.graph.rule import Call, Outcome, Refusal, Rule

OUTPUTS = "its channels are the network's outputs"
_MODULE_RULES = (layer_rules, shape_rules, window_rules)
_CARRIES = (Kind.LINEAR, Kind.SUM, Kind.PRODUCT, Kind.ACTIVATION, Kind.NORM, Kind.MAX_POOL)


@dataclass(frozen=True)
class Visit:
    """What was seen of one operation.

    macs: of an operation that is not followed, for one image, counted by torch. parameters: those it uses.
    source: shape of its first tensor input; result: shape of its result; () where they are no tensors.
    """

    node: fx.Node
    outcome: Outcome
    call: Call | None
    source: torch.Size
    result: torch.Size
    macs: int = 0
    parameters: tuple[Tensor, ...] = ()


@dataclass
class Walk:
    """One run of a trace. training: whether the model is in training mode; only its sizes matter then."""

    model: nn.Module
    labels: Labels
    constants: dict[str, Tensor]
    training: bool = False
    visits: list[Visit] = field(default_factory=list)
    output: Any = None

    def run(self, graph: fx.Graph, example: Tensor) -> Walk:
        """Visit every operation; the output's channels are frozen."""
        self.held = {id(t) for t in (*self.model.parameters(), *self.model.buffers())}
        self.example = example
        self.images = len(example)
        last = {source: node for node in graph.nodes for source in node.all_input_nodes}
        values: dict[fx.Node, Any] = {}
        marks: dict[fx.Node, Any] = {}
        tensors: dict[fx.Node, Tensor] = {}
        for node in graph.nodes:
            if node.op == "output":
                self.output = node.args[0]
                for source in node.all_input_nodes:
                    self._freeze(marks.get(source), OUTPUTS)
                continue
            visit = self._visit(node, values, marks, tensors, example)
            self.visits.append(visit)
            if visit.outcome.mark is not None:
                marks[node] = visit.outcome.mark
            for source in (*node.all_input_nodes, node):
                if last.get(source, node) is node and source in values:
                    del values[source]
        return self

    def _visit(
        self,
        node: fx.Node,
        values: dict[fx.Node, Any],
        marks: dict[fx.Node, Any],
        tensors: dict[fx.Node, Tensor],
        example: Tensor,
    ) -> Visit:
        if node.op == "placeholder":
            value = values[node] = self._input(node, example)
            default = (lambda: value) if node.args else None
            return Visit(node, Outcome(Kind.VALUE, function=default), None, torch.Size(), torch.Size())
        if node.op == "get_attr":
            return self._attribute(node, values, tensors)
        module = self.model.get_submodule(str(node.target)) if node.op == "call_module" else None
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: values[n])  # type: ignore[misc]
        target = type(module) if module is not None else node.target
        rule, reason = self._rule(node, target, module, args, kwargs)
        first = next((v for v in args if isinstance(v, Tensor)), None)
        source = torch.Size() if first is None else first.shape
        result, macs = self._execute(node, module, args, kwargs, counted=rule is None)
        values[node] = result
        inputs = node.all_input_nodes
        call = Call(
            node,
            target,
            module,
            args,
            kwargs,
            result,
            {n: marks[n] for n in inputs if n in marks},
            {n: tensors[n] for n in inputs if n in tensors},
            self.labels,
            self.training,
        )
        size = result.shape if isinstance(result, Tensor) else torch.Size()
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            return Visit(node, Outcome(Kind.VALUE), call, source, size)
        if not isinstance(result, Tensor) and all(user.op == "output" for user in node.users):
            reason = OUTPUTS
        try:
            if rule is None:
                raise Refusal(reason)
            outcome = _followed(rule, call)
            if call.marks and outcome.mark is None and outcome.kind in _CARRIES and isinstance(result, Tensor):
                raise Refusal("its channels could not be followed")
            parameters = _parameters(call) if outcome.kind is Kind.OPAQUE else ()
            return Visit(node, outcome, call, source, size, macs, parameters)
        except Refusal as refusal:
            where = OUTPUTS if str(refusal) == OUTPUTS else f"{call.where}: {refusal}"
            for mark in call.marks.values():
                self._freeze(mark, where)
            parameters = _parameters(call)
            for tensor in (*parameters, *call.tensors.values()):
                self.labels.close(tensor, where)
            if rule is not None:
                _, macs = self._execute(node, module, args, kwargs, counted=True)
            return Visit(node, Outcome(Kind.OPAQUE), call, source, size, macs, parameters)

    def _execute(
        self, node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any, counted: bool
    ) -> tuple[Any, int]:
        """The result, and the multiply-accumulates if they are counted."""
        operations = counting() if counted and not self.training else nullcontext()
        with operations as counter:
            result = _result(node, module, args, kwargs)
        return result, 0 if counter is None else counter.get_total_flops() // (2 * self.images)

    def _input(self, node: fx.Node, example: Tensor) -> Any:
        if not any(visit.node.op == "placeholder" for visit in self.visits):
            # In training mode batch norm asks for more than one image.
            return torch.cat([example, example]) if self.training and len(example) == 1 else example.clone()
        if not node.args:
            raise UnsupportedModel(f"input {node.name!r}: the model takes several inputs; one tensor is expected")
        return node.args[0]

    def _attribute(self, node: fx.Node, values: dict[fx.Node, Any], tensors: dict[fx.Node, Tensor]) -> Visit:
        """A parameter, buffer or other attribute that is used directly; labelled where one dimension is meant."""
        name = str(node.target)
        value = self.constants[name] if name in self.constants else reduce(getattr, name.split("."), self.model)
        values[node] = value
        if not isinstance(value, Tensor) or id(value) not in self.held:
            function = (lambda: value) if name in self.constants else None
            return Visit(node, Outcome(Kind.VALUE, function=function), None, torch.Size(), torch.Size())
        tensors[node] = value
        wide = [dim for dim, size in enumerate(value.shape) if size > 1]
        mark = None
        if len(wide) == 1:
            view = [1] * value.dim()
            view[wide[0]] = -1
            mark = self.labels.of(value, wide[0]).reshape(view)
        return Visit(node, Outcome(Kind.VALUE, mark), None, torch.Size(), value.shape)

    def _rule(
        self, node: fx.Node, target: Any, module: nn.Module | None, args: Any, kwargs: Any
    ) -> tuple[Rule | None, str]:
        """The operation's rule, or why there is none."""
        if module is not None:
            if module._forward_hooks or module._forward_pre_hooks:
                return None, "it has forward hooks, which may change what it computes"
            if "forward" in vars(module):
                return None, "its forward was replaced on the instance, so what it computes is not known"
        activation = element_rules.activation_of(node, module, args, kwargs)
        if activation is not None:
            return partial(element_rules.activate, activation=activation), ""
        for rules in (*_MODULE_RULES, element_rules):
            rule = rules.rule_of(target)
            if rule is not None:
                return rule, ""
        return None, "no rule says what it does to channels"

    def _freeze(self, mark: Any, reason: str) -> None:
        for part in mark if isinstance(mark, tuple | list) else (mark,):
            self.labels.freeze(part, reason)


def known(module: nn.Module) -> bool:
    """Whether a rule knows a module by its class."""
    if activations.of_module(module) is not None:
        return True
    return any(rules.rule_of(type(module)) is not None for rules in _MODULE_RULES)


def _followed(rule: Rule, call: Call) -> Outcome:
    """The rule's answer; arguments that no rule foresaw are a refusal."""
    try:
        return rule(call)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise Refusal(f"its arguments are not understood ({error})") from error


def _result(node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any) -> Any:
    if module is not None:
        return module(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _parameters(call: Call) -> tuple[Tensor, ...]:
    """The parameters an operation uses."""
    own = () if call.module is None else call.module.parameters()
    return tuple(own) + tuple(t for t in call.tensors.values() if isinstance(t, nn.Parameter))
