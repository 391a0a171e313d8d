"""Finds the split groups of a live module by following its channels through one symbolic trace.

The module is traced with torch.fx and run once on the example input; then the operations are walked in order, each by
its rule (`rules`). Channels are followed along a chain: an operation that joins branches, or has no rule, is refused
by name. The trace is for analysis only; the module itself runs, is edited and is trained as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from energysplit.errors import InputError, UnsupportedModel
from energysplit.graph import activations, rules
from energysplit.graph.network import Kind, Layer, Network, Role, Slot, Step
from energysplit.graph.rules import Rule
from energysplit.types import LayerCase, SplitGroup


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; every submodule's own mode is restored afterwards."""
    modes = {sub: sub.training for sub in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for sub, mode in modes.items():
            sub.training = mode


def trace(model: nn.Module, example_input: Tensor) -> Network:
    """The network with its split groups.

    Args:
        model: a chain of convolutions, linear layers, batch norms, activations and poolings, in any nesting.
        example_input: one batch as the model takes it, on the model's device; sizes are counted on it.

    Returns:
        A `Network` around the same module object; nothing in the module is changed.

    Raises:
        UnsupportedModel: an operation is not understood; the message names it and says why.
        InputError: the model does not run on the example input.
    """
    _refuse_tied(model)
    with evaluating(model), torch.no_grad():
        try:
            model(example_input)
        except Exception as error:
            raise InputError(
                f"{type(model).__name__} does not run on an example input of shape {tuple(example_input.shape)} "
                f"({example_input.dtype}, {example_input.device}): {error}"
            ) from error
        try:
            graph = fx.GraphModule(model, _Tracer().trace(model))
        except Exception as error:
            raise UnsupportedModel(
                f"{type(model).__name__} can't be traced symbolically: {error}. Control flow that depends on tensor "
                "values, or a forward with several inputs, is the usual reason"
            ) from error
        walk = _Walk(model, example_input)
        _Recorder(graph, walk).run(example_input)
        network = walk.network()
        _refuse_unvisited(model, network)
        # On random numbers: many a difference does not show on zeros.
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(example_input.shape, generator=generator).to(example_input)
        output, replayed = model(probe), probe
        for step in network.steps:
            replayed = step.call(replayed)
    if not isinstance(output, Tensor) or not torch.allclose(output, replayed, rtol=1e-3, equal_nan=True):
        raise UnsupportedModel(
            f"{type(model).__name__}: the steps found by tracing do not compute what the module computes; "
            "does its forward depend on something outside its layers?"
        )
    return network


class _Tracer(fx.Tracer):
    """Stops at every module that holds tensors of its own or has hooks, so that rules see whole layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = any(True for _ in m.parameters(recurse=False)) or any(True for _ in m.buffers(recurse=False))
        known = activations.of_module(m) is not None
        hooked = bool(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m))
        return own or known or hooked or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Runs the traced graph on the example input and hands each operation, with real tensors, to the walk."""

    def __init__(self, graph: fx.GraphModule, walk: _Walk) -> None:
        super().__init__(graph, garbage_collect_values=True)
        self.extra_traceback = False
        self.walk = walk

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.walk.visit(n, {source: self.env[source] for source in n.all_input_nodes}, result)
        return result


@dataclass
class _Space:
    """A group while it is being followed."""

    channels: int
    producers: list[str] = field(default_factory=list)
    followers: list[str] = field(default_factory=list)
    consumers: list[str] = field(default_factory=list)
    reason: str = ""


class _Walk:
    """The state of following one chain: the present group, its block length, and all that was found so far."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.model = model
        self.example = example
        self.group: str | None = None
        self.block = 1
        self.fused: str | None = None
        self.spaces: dict[str, _Space] = {}
        self.slots: list[Slot] = []
        self.steps: list[Step] = []
        self.layers: dict[str, Layer] = {}
        self.head: fx.Node | None = None

    def visit(self, node: fx.Node, inputs: dict[fx.Node, Any], result: Any) -> None:
        if node.op == "placeholder":
            if self.head is not None:
                raise UnsupportedModel(f"input {node.name!r}: the model takes several inputs; one tensor is expected")
            self.head = node
            return
        tensors = [source for source, value in inputs.items() if isinstance(value, Tensor)]
        if node.op == "output":
            if node.args[0] is not self.head:
                raise UnsupportedModel("the model returns something else than the end of one chain of layers")
            return
        if not isinstance(result, Tensor):
            if _is_size(node, result):
                return
            raise UnsupportedModel(f"{_label(node)}: it makes a {type(result).__name__}, not a tensor")
        if node.op == "get_attr":
            raise UnsupportedModel(f"{_label(node)}: a parameter or buffer is used outside a known layer")
        if len(tensors) != 1 or node.args[:1] != (tensors[0],):
            raise UnsupportedModel(
                f"{_label(node)}: it joins {len(tensors)} tensors; chains without branches are followed so far"
            )
        if tensors[0] is not self.head:
            raise UnsupportedModel(
                f"{_label(node)}: it reads {tensors[0].name!r}, which another layer has read already; "
                "chains without branches are followed so far"
            )
        self.apply(node, inputs[tensors[0]], result)
        self.head = node

    def apply(self, node: fx.Node, source: Tensor, result: Tensor) -> None:
        """Follow the channels through one operation."""
        name = str(node.target) if node.op == "call_module" else node.name
        module = self.model.get_submodule(name) if node.op == "call_module" else None
        rule = rules.of_module(module) if module is not None else self.rule_of_call(node)
        if isinstance(rule, str):
            raise UnsupportedModel(f"{_label(node)}: {rule}")
        holds = module is not None and len(module.state_dict()) > 0
        if holds and any(step.module is module for step in self.steps):
            raise UnsupportedModel(f"{_label(node)}: the module is used twice; shared layers are not followed so far")
        if any(step.name == name for step in self.steps):  # an activation or pooling module that is used again
            name = node.name
        _check_dimensions(node, module, source, rule)
        if module is not None and rule.kind in (Kind.MIX, Kind.DEPTHWISE):
            self.add_layer(name, module, rule.kind, source, result)
        elif rule.kind is Kind.NORM and module is not None:
            self.add_norm(name, module, source)
        elif rule.kind is Kind.ACTIVATION:
            if self.fused is not None and rule.activation is not None:
                layer = self.layers[self.fused]
                self.layers[self.fused] = replace(layer, case=replace(layer.case, activation=rule.activation.name))
            self.fused = None
        elif rule.kind is Kind.HEAD and self.group is not None:
            self.spaces[self.group].reason = f"{name} compares its channels with each other"
        if rule.kind in (Kind.MAX_POOL, Kind.LINEAR) and not isinstance(module, nn.Identity):
            self.fused = None
        if rule.flatten and self.group is not None:
            self.block *= prod(source.shape[2:])
        if rule.kind is not Kind.MIX and self.group is not None:
            self.spaces[self.group].followers.append(name)
        self.steps.append(
            Step(name, rule.kind, self.call_of(node, module, rule), self.group, module, rule.activation, rule.pool)
        )

    def rule_of_call(self, node: fx.Node) -> Rule | str:
        if node.target in ("view", "reshape", torch.reshape):
            if len(node.args) == 3 and isinstance(node.args[1], fx.Node) and node.args[2] == -1:
                return Rule(Kind.LINEAR, flatten=True)
            sizes = node.args[1:] if len(node.args) != 2 else node.args[1]
            return f"sizes {sizes} are written into the code; (x.size(0), -1) or flatten expected"
        if any(isinstance(value, fx.Node) for value in (*node.args[1:], *node.kwargs.values())):
            return "its options are computed while it runs"
        return rules.of_call(node.target, node.args[1:], dict(node.kwargs))

    def call_of(self, node: fx.Node, module: nn.Module | None, rule: Rule) -> Any:
        """The step as a function of one tensor, never in place."""
        if rule.activation is not None:
            return rule.activation.function
        if rule.pool is not None:
            pool = rule.pool
            return lambda x: pool(x)[0]
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            return _identity
        if module is not None:
            return module
        if rule.flatten:
            return lambda x: torch.flatten(x, 1)
        target, args, kwargs = node.target, node.args[1:], dict(node.kwargs)
        if isinstance(target, str):
            return lambda x: getattr(x, target)(*args, **kwargs)
        return lambda x: target(x, *args, **kwargs)  # type: ignore[operator]

    def add_layer(self, name: str, module: nn.Module, kind: Kind, source: Tensor, result: Tensor) -> None:
        """A convolution or linear layer: a new group if it mixes channels, a follower if it is depthwise."""
        before, block = self.group, self.block
        case = _case(module, source, result)
        if kind is Kind.MIX:
            if before is not None:
                self.spaces[before].consumers.append(name)
                self.slots.append(Slot(f"{name}.weight", 1, before, Role.CONSUMER, block))
            self.group, self.block = name, 1
            self.spaces[name] = _Space(case.out_channels, producers=[name])
            self.slots.append(Slot(f"{name}.weight", 0, name, Role.PRODUCER))
        elif before is not None:
            self.slots.append(Slot(f"{name}.weight", 0, before, Role.FOLLOWER))
        if self.group is not None and case.bias:
            self.slots.append(Slot(f"{name}.bias", 0, self.group, Role.FOLLOWER))
        self.layers[name] = Layer(case, before, self.group, in_block=block)
        self.fused = name

    def add_norm(self, name: str, module: nn.Module, source: Tensor) -> None:
        """A batch norm: its parameters and statistics follow the group; fused to the layer just before it."""
        tensors = [key for key in ("weight", "bias", "running_mean", "running_var") if getattr(module, key) is not None]
        if self.group is not None:
            self.slots += [Slot(f"{name}.{key}", 0, self.group, Role.FOLLOWER, self.block) for key in tensors]
        layer = self.layers.get(self.fused or "")
        if layer is not None and not layer.case.batch_norm and self.block == 1 and "weight" in tensors:
            assert self.fused is not None
            self.layers[self.fused] = replace(layer, case=replace(layer.case, batch_norm=True))
            return
        channels, size = source.shape[1], _size(source)
        case = LayerCase(
            "batch_norm",
            channels,
            channels,
            groups=channels,
            in_size=size,
            out_size=size,
            batch_norm="weight" in tensors,
        )
        self.layers[name] = Layer(case, self.group, self.group, self.block, self.block)
        self.fused = None

    def network(self) -> Network:
        """What was found, with the last group frozen: its channels are the outputs."""
        if self.group is None:
            raise UnsupportedModel(f"{type(self.model).__name__} holds no convolution or linear layer")
        self.spaces[self.group].reason = "its channels are the network's outputs"
        groups = {
            name: SplitGroup(
                name,
                space.channels,
                tuple(space.producers),
                tuple(space.followers),
                tuple(space.consumers),
                splittable=not space.reason,
                reason=space.reason,
            )
            for name, space in self.spaces.items()
        }
        return Network(self.model, self.example, groups, tuple(self.slots), tuple(self.steps), self.layers)


def _refuse_tied(model: nn.Module) -> None:
    """Refuse a parameter that two layers share: surgery would untie it without a word."""
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if other != name:
            raise UnsupportedModel(
                f"{other!r} and {name!r} are one parameter; shared weights, and layers with two names, are not "
                "followed so far"
            )


def _refuse_unvisited(model: nn.Module, network: Network) -> None:
    """Refuse layers that eval mode never reaches: used in training only, they would not fit a split network."""
    visited = {step.module for step in network.steps}
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and module not in visited:
            label = f"layer {name!r} ({type(module).__name__})" if name else f"{type(module).__name__} itself"
            raise UnsupportedModel(f"{label}: it holds tensors, but the forward pass in eval mode does not use it")


def _identity(x: Tensor) -> Tensor:
    return x


def _label(node: fx.Node) -> str:
    """How an error names an operation: where it is and what it is."""
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if node.op == "call_module":
        owner = node.graph.owning_module
        return f"layer {target!r} ({type(owner.get_submodule(target)).__name__})" if owner else f"layer {target!r}"
    return f"operation {target!r} (at {node.name!r})"


def _is_size(node: fx.Node, result: Any) -> bool:
    """Whether a node reads the batch size, which no channel depends on: x.size(0), x.shape, x.shape[0]."""
    if node.op == "call_method" and node.target == "size":
        return bool(node.args[1:] == (0,))
    if isinstance(result, torch.Size):
        return True
    return isinstance(result, int) and len(node.args) == 2 and bool(node.args[1] == 0)


def _check_dimensions(node: fx.Node, module: nn.Module | None, source: Tensor, rule: Rule) -> None:
    """Refuse layers on inputs without a batch dimension or with channels elsewhere than in dimension 1."""
    label = type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))
    expected: tuple[int, ...] = (2, 3, 4)
    if rule.dimensions:
        expected = rule.dimensions
    elif isinstance(module, nn.Linear):
        expected = (2,)
    elif isinstance(module, nn.BatchNorm1d):
        expected = (2, 3)
    elif label.endswith("1d"):
        expected = (3,)
    elif label.endswith("2d"):
        expected = (4,)
    if source.dim() not in expected:
        raise UnsupportedModel(
            f"{_label(node)}: its input has {source.dim()} dimensions {tuple(source.shape)}, "
            f"{' or '.join(map(str, expected))} expected (batch, channels, positions)"
        )


def _size(x: Tensor) -> tuple[int, int]:
    """(height, width) of a tensor (batch, channels, ...); (1, length) for sequences, (1, 1) for vectors."""
    spatial = tuple(x.shape[2:])
    return (1,) * (2 - len(spatial)) + spatial  # type: ignore[return-value]


def _case(module: nn.Module, source: Tensor, result: Tensor) -> LayerCase:
    """The layer case of a convolution or linear layer on this input."""
    if isinstance(module, nn.Linear):
        return LayerCase("linear", module.in_features, module.out_features, bias=module.bias is not None)
    assert isinstance(module, nn.Conv1d | nn.Conv2d)

    def pair(values: tuple[int, ...], fill: int) -> tuple[int, int]:
        return (fill, values[0]) if len(values) == 1 else (values[0], values[1])

    padding = module.padding
    if isinstance(padding, str):
        same = tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))
        padding = same if padding == "same" else (0,) * len(same)
    return LayerCase(
        "conv2d" if isinstance(module, nn.Conv2d) else "conv1d",
        module.in_channels,
        module.out_channels,
        kernel=pair(module.kernel_size, 1),
        stride=pair(module.stride, 1),
        padding=pair(padding, 0),
        dilation=pair(module.dilation, 1),
        groups=module.groups,
        in_size=_size(source),
        out_size=_size(result),
        bias=module.bias is not None,
    )
