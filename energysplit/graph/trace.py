"""Finds the split groups of a live module: symbolic trace, labels, spaces, and a trial growth that proves them.

The module is traced with torch.fx in eval mode, and again in training mode where that runs other operations (auxiliary
heads). `walk` follows the channels through both, `spaces` reads the groups off, `trial` splits them on a copy. The
trace is for analysis only; the module itself runs, is edited and is trained as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from energysplit.errors import InputError, UnsupportedModel
from energysplit.graph.gates import gates
from energysplit.graph.labels import Labels
from energysplit.graph.network import STOPS, Kind, Network, Op, tensor_of
from energysplit.graph.priced import priced
from energysplit.graph.spaces import Spaces, reading
from energysplit.graph.trial import trial
from energysplit.graph.walk import Visit, Walk, known
from energysplit.types import SplitGroup


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; every submodule's own mode is restored afterwards."""
    with _mode(module, training=False):
        yield


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    modes = {sub: sub.training for sub in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for sub, mode in modes.items():
            sub.training = mode


def trace(model: nn.Module, example_input: Tensor) -> Network:
    """The network with its split groups.

    Args:
        model: any module that torch.fx can trace; submodules it can't trace are taken as a whole.
        example_input: one batch as the model takes it, on the model's device; sizes are counted on it.

    Returns:
        A `Network` around the same module object; nothing in the module is changed. A group that can't be split says
        why: an operation that is not followed, channels that are compared with each other, a size in the code.

    Raises:
        UnsupportedModel: the model can't be traced, or nothing in it can be split because of operations that are not
            followed; the message names them.
        InputError: the model does not run on the example input.
    """
    labels = Labels()
    with torch.no_grad():
        with _mode(model, training=False):
            _try(model, example_input)
            graph, constants = _symbolic(model)
            walk = Walk(model, labels, constants).run(graph, example_input)
        with _mode(model, training=True):
            other, constants = _symbolic(model)
            trained = _differ(graph, other)
            if trained:
                _walk_training(Walk(model, labels, constants, training=True), other, example_input)
        net = _network(model, example_input, labels, walk)
        reasons = trial(net, trained)
    for name, reason in reasons.items():
        net.groups[name] = replace(net.groups[name], splittable=False, reason=reason)
    _refuse_hopeless(net)
    return net


def _walk_training(walk: Walk, graph: fx.Graph, example: Tensor) -> None:
    """Follow the training-mode trace; batch norms' statistics and the state of chance are put back."""
    before = [(buffer, buffer.clone()) for buffer in walk.model.buffers()]
    try:
        with torch.random.fork_rng(devices=[example.device] if example.is_cuda else []):
            walk.run(graph, example)
    except RuntimeError as error:
        raise InputError(
            f"{type(walk.model).__name__} runs on an example input of shape {tuple(example.shape)} in eval mode, but "
            f"not in training mode: {str(error).splitlines()[0]}. Give one of the size it is trained on"
        ) from error
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _try(model: nn.Module, example: Tensor) -> None:
    try:
        model(example.clone())
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} does not run on an example input of shape {tuple(example.shape)} "
            f"({example.dtype}, {example.device}): {error}"
        ) from error


class _Tracer(fx.Tracer):
    """Goes into every module that no rule knows by its class, as far as it can be traced."""

    def __init__(self, buffers: bool) -> None:
        super().__init__()
        self.proxy_buffer_attributes = buffers
        self.read: dict[str, fx.Proxy] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        hooked = bool(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m))
        return known(m) or hooked or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """The attribute, as fx reads it; what was read before is known to `call_module`."""
        self.read = parameter_proxy_cache
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """The module's operations; a module that can't be traced is one operation."""
        nodes, read, outer = len(self.graph.nodes), set(self.read), self.proxy_buffer_attributes
        for self.proxy_buffer_attributes in _BUFFERS:
            try:
                return super().call_module(m, forward, args, kwargs)
            except Exception:
                # Whatever a user's forward raises on proxies, it means the same: the module is an operation that no
                # rule knows, and the walk says so by name where it freezes its channels.
                for node in reversed(list(self.graph.nodes)[nodes:]):
                    self.graph.erase_node(node)
                for name in self.read.keys() - read:
                    del self.read[name]
            finally:
                self.proxy_buffer_attributes = outer
        return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


_BUFFERS = (True, False)
"""Whether buffers are traced: at first, so that what is made of them follows them; not where code looks into them."""


def _symbolic(model: nn.Module) -> tuple[fx.Graph, dict[str, Tensor]]:
    """The trace of the module as it is now, and the tensors it met that are no parameters or buffers."""
    own = set(vars(model))
    refused: Exception | None = None
    try:
        for traced in _BUFFERS:
            try:
                graph = _Tracer(buffers=traced).trace(model)
                break
            except Exception as error:
                refused = error
        else:
            raise UnsupportedModel(
                f"{type(model).__name__} can't be traced symbolically: {refused}. Control flow that depends on tensor "
                "values, or a forward with several inputs, is the usual reason"
            ) from refused
    finally:
        constants = {name: vars(model).pop(name) for name in set(vars(model)) - own}
    return graph, constants


def _differ(a: fx.Graph, b: fx.Graph) -> bool:
    """Whether two traces run other operations; dropout's own flag aside."""

    def key(node: fx.Node) -> tuple[str, str, str]:
        return node.op, str(node.target), str(node.args) + str(node.kwargs)

    return [key(node) for node in a.nodes] != [key(node) for node in b.nodes]


def _network(model: nn.Module, example: Tensor, labels: Labels, walk: Walk) -> Network:
    """What the walks found, before the trial."""
    names: dict[int, str] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        names.setdefault(id(tensor), name)
    owner = {visit.node: _owner(visit, names) for visit in walk.visits}
    order: dict[str, int] = {}
    for visit in walk.visits:
        if visit.outcome.kind is Kind.MIX:
            order.setdefault(owner[visit.node], len(order))
    spaces = Spaces(labels, names, order)
    title = _titles(walk.visits, owner)
    ops = tuple(
        Op(
            title[visit.node],
            visit.outcome.kind,
            visit.node,
            visit.outcome.function,
            owner[visit.node],
            visit.outcome.activation,
            visit.outcome.pool,
            _scale(visit, names),
            _spans(visit, spaces, title[visit.node]),
        )
        for visit in walk.visits
    )
    slots = spaces.slots(labels)
    consumers = reading(slots)
    layers = priced(walk, title, spaces)
    multiplying = gates(ops, spaces)
    groups = {}
    for name, space in spaces.spaces.items():
        reader = consumers.get(name, [])
        if not reader:
            spaces.refuse(name, "no layer reads its channels")
        groups[name] = SplitGroup(
            name,
            space.channels,
            tuple(space.producers),
            tuple(op.name for op in ops if op.kind not in STOPS and any(span.group == name for span in op.spans)),
            tuple(reader),
            splittable=not space.reason,
            reason=space.reason,
            gates=multiplying.get(name, ()),
        )
    return Network(model, example, groups, slots, ops, layers, walk.output)


def _owner(visit: Visit, names: dict[int, str]) -> str:
    """The module that holds the weight of a layer, by the weight's first name; "" for other operations."""
    outcome = visit.outcome
    held = outcome.weight if outcome.weight is not None else outcome.norm.variance if outcome.norm else None
    return "" if held is None else names[id(held)].rpartition(".")[0]


def _titles(visits: Sequence[Visit], owner: dict[fx.Node, str]) -> dict[fx.Node, str]:
    """A name for each operation: its module's or its weight's owner's where that is free, else the trace's."""
    title: dict[fx.Node, str] = {}
    taken: set[str] = set()
    for visit in visits:
        node = visit.node
        wanted = str(node.target) if node.op == "call_module" else owner[node]
        title[node] = wanted if wanted and wanted not in taken else node.name
        taken.add(title[node])
    return title


def _spans(visit: Visit, spaces: Spaces, where: str) -> tuple[Any, ...]:
    mark = visit.outcome.mark
    return () if mark is None or not isinstance(mark, Tensor) else spaces.spans(mark, where)


def _scale(visit: Visit, names: dict[int, str]) -> Any:
    """What makes a batch norm's scale from the module's present tensors."""
    norm = visit.outcome.norm
    if norm is None:
        return None
    variance, eps = names[id(norm.variance)], norm.eps
    weight = None if norm.weight is None else names[id(norm.weight)]

    def scale(module: nn.Module) -> Tensor:
        made = torch.rsqrt(tensor_of(module, variance) + eps)
        return made if weight is None else made * tensor_of(module, weight)

    return scale


def _refuse_hopeless(net: Network) -> None:
    """Refuse a network without layers, or of which operations that are not followed leave nothing to split."""
    if not any(group.channels for group in net.groups.values()):
        raise UnsupportedModel(
            f"{type(net.module).__name__} holds no convolution or linear layer whose channels can be followed"
            + "".join(f"; {op.name}: not followed" for op in net.ops if op.kind is Kind.OPAQUE)
        )
    reasons = dict.fromkeys(group.reason for group in net.groups.values())
    followed = any(group.splittable for group in net.groups.values())
    if not followed and any(reason.startswith(("operation ", "layer ", "split")) for reason in reasons):
        raise UnsupportedModel(f"nothing in {type(net.module).__name__} can be split: " + "; ".join(list(reasons)[:5]))


__all__ = ["evaluating", "trace"]
