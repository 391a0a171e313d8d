"""One forward and one backward pass to activations: all that the tangent passes need of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.network import Kind
from energysplit.graph.trace import evaluating
from energysplit.splitting import pieces
from energysplit.splitting.curvature import derivatives
from energysplit.splitting.pieces import Piece
from energysplit.splitting.plan import Action, Segment, Step
from energysplit.splitting.statistics import norms_of

Loss = Callable[[Any, Tensor], Tensor]
Finish = Callable[[Mapping[fx.Node, Tensor]], Piece]
"""Makes a piece from the gradients."""


@dataclass(frozen=True)
class Capture:
    """What one batch leaves for the tangent passes.

    pieces: of each segment, one a step. images: in the batch. loss: mean over them. bytes: memory that is held.
    """

    pieces: tuple[tuple[Piece, ...], ...]
    images: int
    loss: float
    bytes: int


def capture(
    net: Network,
    x: Tensor,
    target: Tensor,
    loss_fn: Loss,
    segments: Sequence[Segment],
    kink_beta: float,
    statistics: str = "running",
) -> Capture:
    """Run one batch forward and backward to activations, in eval mode, and keep what the segments need.

    Args:
        net: the network.
        x: input batch.
        target: what `loss_fn` compares with.
        loss_fn: (output, target) -> mean loss over the batch.
        segments: the tangent passes.
        kink_beta: see `curvature.derivatives`.
        statistics: of batch norms, "running" or this batch's own; the same as the segments'.

    Raises:
        InputError: the loss is not a finite scalar.
    """
    steps: dict[fx.Node, list[Step]] = {}
    for segment in segments:
        for step in segment.steps:
            steps.setdefault(step.op.node, []).append(step)
    last = {source: op.node for op in net.ops for source in op.node.all_input_nodes}
    watched: dict[fx.Node, Tensor] = {}
    unfinished: dict[int, Finish] = {}
    env: dict[fx.Node, Any] = {}
    with evaluating(net.module), norms_of(net.module, statistics), _frozen(net.module), torch.enable_grad():
        for op in net.ops:
            mine = steps.get(op.node, ())
            positions = None
            if op.kind is Kind.MAX_POOL and mine:
                assert op.pool is not None
                (source,) = op.node.all_input_nodes
                env[op.node], positions = op.pool(env[source])
            elif op.node.op == "placeholder":
                env[op.node] = x if op.function is None else op.function()
            else:
                env[op.node] = op.run(net.module, env)
            for step in mine:
                unfinished[id(step)] = _prepared(step, net.module, env, kink_beta, positions)
                if step.counts:
                    watched[op.node] = _leaf(env[op.node])
            for source in op.node.all_input_nodes:
                if last[source] is op.node and not any(user.op == "output" for user in source.users):
                    del env[source]
        loss = loss_fn(fx.map_arg(net.output, env.__getitem__), target)
        if loss.dim() != 0 or not torch.isfinite(loss):
            raise InputError(
                f"the loss on a batch of {len(x)} images is {loss.detach().tolist()!r}; "
                "one finite mean loss is expected"
            )
        env.clear()
        gradients = _gradients(loss, watched)
    made = tuple(tuple(unfinished.pop(id(step))(gradients) for step in segment.steps) for segment in segments)
    return Capture(made, len(x), float(loss.detach()), _bytes(net.module, made))


def _prepared(
    step: Step, module: nn.Module, env: Mapping[fx.Node, Any], kink_beta: float, positions: Tensor | None
) -> Finish:
    """The piece of a step, as soon as its inputs and its result are known, but for the gradient at the result."""
    op, node, sources = step.op, step.op.node, step.sources

    def value(of: Any) -> Any:
        found = env[of] if isinstance(of, fx.Node) else of
        return found.detach() if isinstance(found, Tensor) else found

    if step.action is Action.START:
        made = pieces.start(op.layer, pieces.mixer_of(op, module, env), value(node.args[0]))
    elif step.action is Action.READ:
        mixer = pieces.mixer_of(op, module, env)
        return lambda gradients: pieces.read(op.layer, mixer, sources[0], gradients[node])
    elif step.action is Action.UNIT:
        return lambda gradients: pieces.unit(node, gradients[node])
    elif op.kind is Kind.ACTIVATION:
        return partial(_bend, step, value(sources[0]), kink_beta)
    elif op.kind is Kind.PRODUCT:
        a, b = (arg if isinstance(arg, fx.Node) and arg in sources else None for arg in node.args)
        values = (None if b is None else value(node.args[0]), None if a is None else value(node.args[1]))
        return lambda gradients: pieces.product(op, (a, b), values, gradients.get(node))
    elif op.kind is Kind.SUM:
        made = pieces.addition(op, sources, env[node].shape)
    elif op.kind is Kind.MAX_POOL:
        assert positions is not None
        made = pieces.pool(sources[0], positions)
    elif op.kind is Kind.NORM and step.counts:
        norm = module.get_submodule(str(node.target))
        assert isinstance(norm, _BatchNorm)
        return partial(_normalising, step, norm, value(sources[0]))
    elif op.kind is Kind.NORM:
        assert op.scale is not None
        made = pieces.scaling(sources[0], op.scale(module).detach())
    elif op.kind is Kind.DEPTHWISE:
        weight = pieces.weight_of(op, module)
        assert weight is not None
        made = pieces.filtering(sources[0], pieces.mixer_of(op, module, env), weight.detach())
    else:
        others = {source: env[source] for source in node.all_input_nodes if source not in sources}
        made = pieces.linear(op, module, sources, others)
    return lambda _: made


def _bend(step: Step, z: Tensor, kink_beta: float, gradients: Mapping[fx.Node, Tensor]) -> Piece:
    assert step.op.activation is not None
    slope, second = derivatives(step.op.activation, z, kink_beta)
    weight = gradients[step.op.node] * second if step.counts else None
    return pieces.bend(step.sources[0], weight, slope if step.passes else None)


def _normalising(step: Step, norm: _BatchNorm, z: Tensor, gradients: Mapping[fx.Node, Tensor]) -> Piece:
    return pieces.normalising(step.sources[0], norm, z, gradients[step.op.node])


def _leaf(value: Tensor) -> Tensor:
    """The value, with a gradient even where nothing before it has one."""
    return value if value.requires_grad else value.requires_grad_()


def _gradients(loss: Tensor, watched: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
    """The loss's gradient to each watched result; 0 where the loss does not depend on it."""
    if not watched or not loss.requires_grad:
        return {node: torch.zeros_like(value) for node, value in watched.items()}
    found = torch.autograd.grad(loss, list(watched.values()), allow_unused=True)
    return {
        node: torch.zeros_like(value) if gradient is None else gradient
        for (node, value), gradient in zip(watched.items(), found, strict=True)
    }


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Parameters without gradient, so that the backward pass goes to activations only; restored afterwards."""
    needed = [p for p in module.parameters() if p.requires_grad]
    for p in needed:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in needed:
            p.requires_grad_(True)


def _bytes(module: nn.Module, made: Sequence[Sequence[Piece]]) -> int:
    """Memory that pieces hold beyond the module's own; what several hold counts once."""
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for segment in made
        for piece in segment
        for tensor in piece.held
    }
    return sum(size for pointer, size in held.items() if pointer not in own)


def count_images(batches: Sequence[tuple[Tensor, Tensor]]) -> int:
    """Images in a sample.

    Raises:
        InputError: there is none.
    """
    images = sum(len(x) for x, _ in batches)
    if images == 0:
        raise InputError(
            "no images to estimate splitting indices on: a sequence of (input, target) batches is expected"
        )
    return images
