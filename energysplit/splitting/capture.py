"""One forward and one backward pass to activations: all that the tangent passes need of a batch.

Pieces of a segment are made during the backward pass, as soon as the gradients it counts with are there, and handed
on at once. So a batch that is not kept holds little more at a time than its backward pass does: what a piece needs of
the forward pass is what autograd holds anyway, or is computed again from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.network import Kind, Op
from energysplit.graph.trace import evaluating
from energysplit.splitting import folding, pieces
from energysplit.splitting.curvature import derivatives
from energysplit.splitting.normalising import Followed, normalising
from energysplit.splitting.pieces import Piece
from energysplit.splitting.plan import Action, Segment, Step
from energysplit.splitting.statistics import norms_of

Loss = Callable[[Any, Tensor], Tensor]
Pieces = tuple[Piece, ...]
"""Of a segment, one a step."""
Use = Callable[[Segment, Pieces], None]
"""What is done with a segment on a batch."""
Finish = Callable[[Mapping[fx.Node, Tensor]], Piece]
"""Makes a piece from the loss's gradients to the results that count."""


def capture(
    net: Network,
    x: Tensor,
    target: Tensor,
    loss_fn: Loss,
    segments: Sequence[Segment],
    kink_beta: float,
    statistics: str,
    mixed: Callable[[], AbstractContextManager[None]],
    use: Use,
) -> None:
    """Run one batch forward and backward to activations, in eval mode; each segment is used as it gets ready.

    Args:
        net: the network.
        x: input batch.
        target: what `loss_fn` compares with.
        loss_fn: (output, target) -> mean loss over the batch.
        segments: the tangent passes.
        kink_beta: see `curvature.derivatives`.
        statistics: of batch norms, "running" or this batch's own; the same as the segments'.
        mixed: makes the context that work runs in, see `precision`.
        use: called once for each segment, the last ones of the network first.

    Raises:
        InputError: the loss is not a finite scalar, or has no gradient though the output has one.
    """
    steps: dict[fx.Node, list[tuple[_Pending, Step]]] = {}
    pending = [_Pending(segment, use, mixed) for segment in segments]
    for each in pending:
        for step in each.segment.steps:
            steps.setdefault(step.op.node, []).append((each, step))
    last = {source: op.node for op in net.ops for source in op.node.all_input_nodes}
    folds = {step.op.node: step.norm for segment in segments for step in segment.steps if step.norm}
    done = {norm.node for norm in folds.values()}
    anchor = torch.zeros((), device=x.device, requires_grad=True)
    norms: dict[fx.Node, _Norm | Followed] = {}
    env: dict[fx.Node, Any] = {}
    with evaluating(net.module), norms_of(net.module, statistics), _frozen(net.module), torch.enable_grad(), mixed():
        for op in net.ops:
            mine = steps.get(op.node, ())
            positions = None
            if op.node in folds:
                norm = folds[op.node]
                env[norm.node] = folding.run(op, norm, net.module, env[op.node.all_input_nodes[0]])
            elif op.node in done:
                pass
            elif op.kind is Kind.MAX_POOL and mine:
                assert op.pool is not None
                (source,) = op.node.all_input_nodes
                env[op.node], positions = op.pool(env[source])
            elif op.node.op == "placeholder":
                env[op.node] = x.detach() if op.function is None else op.function()
            elif op.kind is Kind.NORM and op.node.op == "call_module":
                norms[op.node], env[op.node] = _normalised(op, net.module, env)
            else:
                env[op.node] = op.run(net.module, env)
            for each, step in mine:
                each.unfinished[id(step)] = _prepared(step, net.module, env, norms, kink_beta, positions)
            counting = [each for each, step in mine if step.counts]
            if counting:
                result = folds[op.node].node if op.node in folds else op.node
                for each in counting:
                    each.expect(result, env[result])
                env[result] = _watched(env[result], anchor, partial(_arrived, counting, result))
            for source in op.node.all_input_nodes:
                if last[source] is op.node and not any(user.op == "output" for user in source.users):
                    env.pop(source, None)  # one that a batch norm was folded into never was there
                    norms.pop(source, None)
        output = fx.map_arg(net.output, env.__getitem__)
        loss = loss_fn(output, target)
        check_loss(loss, output, len(x))
        del output
        env.clear()
        norms.clear()
        if loss.requires_grad:
            torch.autograd.grad(loss, anchor, allow_unused=True)
        for each in pending:
            each.finish()  # those that the loss does not depend on


def check_loss(loss: Tensor, output: Any, images: int) -> None:
    """Refuse what is no mean loss of a batch, or was cut off from the network's output.

    Raises:
        InputError: the loss is not a finite scalar, or has no gradient though the output has one.
    """
    if loss.dim() != 0 or not torch.isfinite(loss):
        raise InputError(
            f"the loss on a batch of {images} images is {loss.detach().tolist()!r}; one finite mean loss is expected"
        )
    follows = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(output))
    if follows and not loss.requires_grad:
        raise InputError(
            f"the loss on a batch of {images} images has no gradient; expected: one that is computed from the "
            "network's outputs by torch's operations, without detach(), item() or no_grad()"
        )


class _Pending:
    """A segment that waits for gradients; one that does not come is 0."""

    def __init__(self, segment: Segment, use: Use, mixed: Callable[[], AbstractContextManager[None]]) -> None:
        self.segment, self.use, self.mixed = segment, use, mixed
        self.unfinished: dict[int, Finish] = {}
        self.gradients: dict[fx.Node, Tensor] = {}
        self.missing: set[fx.Node] = set()
        self.done = False

    def expect(self, node: fx.Node, value: Tensor) -> None:
        """Wait for the loss's gradient to an operation's result."""
        self.missing.add(node)
        self.gradients[node] = value.new_zeros(()).expand(value.shape)

    def take(self, node: fx.Node, gradient: Tensor) -> None:
        """A gradient; with the last one the segment is used."""
        self.gradients[node] = gradient
        self.missing.discard(node)
        if not self.missing:
            self.finish()

    def finish(self) -> None:
        """Use the segment, once."""
        if self.done:
            return
        self.done = True
        with self.mixed():
            made = tuple(self.unfinished.pop(id(step))(self.gradients) for step in self.segment.steps)
            self.gradients = {}
            self.use(self.segment, made)


@dataclass(frozen=True)
class _Norm:
    """A normalisation that has run, and its input, which autograd mostly holds anyway; its result needn't be kept."""

    norm: nn.Module
    value: Tensor

    def again(self) -> Tensor:
        """The result, the same bits."""
        with torch.no_grad():
            result: Tensor = self.norm(self.value)
        return result


def _normalised(op: Op, module: nn.Module, env: Mapping[fx.Node, Any]) -> tuple[_Norm | Followed, Tensor]:
    """A normalisation and its result, as `norms_of` has it."""
    norm, value = module.get_submodule(str(op.node.target)), env[op.node.all_input_nodes[0]]
    if isinstance(norm, _BatchNorm) and norm.training:
        followed = Followed(norm, value)
        return followed, followed.run(value)
    return _Norm(norm, value.detach()), norm(value)


def _watched(value: Tensor, anchor: Tensor, arrived: Callable[[Tensor], None]) -> Tensor:
    """The value, whose gradient is reported, even where nothing before it has one."""
    if not value.requires_grad:
        value = _Anchored.apply(value, anchor)  # type: ignore[no-untyped-call]
    value.register_hook(arrived)
    return value


class _Anchored(torch.autograd.Function):
    """A value that gradients flow to because of an anchor; unlike a leaf nobody holds it until the end for that."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, anchor: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


def _arrived(waiting: Sequence[_Pending], node: fx.Node, gradient: Tensor | None) -> None:
    if gradient is not None:  # a backward pass of somebody's own may say so of 0
        for each in waiting:
            each.take(node, gradient)


def _prepared(
    step: Step,
    module: nn.Module,
    env: Mapping[fx.Node, Any],
    norms: Mapping[fx.Node, _Norm | Followed],
    kink_beta: float,
    positions: Tensor | None,
) -> Finish:
    """The piece of a step, as soon as its inputs and its result are known, but for the gradient at the result."""
    op, node, norm, sources = step.op, step.op.node, step.norm, step.sources

    def mixer() -> pieces.Mixer:
        return pieces.mixer_of(op, module, env) if norm is None else folding.mixing(op, norm, module)

    def value(of: Any) -> Any:
        found = env[of] if isinstance(of, fx.Node) else of
        return found.detach() if isinstance(found, Tensor) else found

    if step.action is Action.START:
        made = pieces.start(op.layer, mixer(), value(node.args[0]))
    elif step.action is Action.READ:
        reading = mixer()
        return lambda gradients: pieces.read(op.layer, reading, sources[0], gradients[step.result])
    elif step.action is Action.UNIT:
        return lambda gradients: pieces.unit(node, gradients[node])
    elif op.kind is Kind.ACTIVATION:
        run = norms.get(sources[0])
        of = partial(_itself, value(sources[0])) if run is None else run.again
        return partial(_bend, step, of, kink_beta)
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
        followed = norms[node]
        assert isinstance(followed, Followed)
        return lambda gradients: normalising(sources[0], followed.met, gradients[node])
    elif op.kind is Kind.NORM:
        assert op.scale is not None
        made = pieces.scaling(sources[0], op.scale(module).detach())
    elif op.kind is Kind.DEPTHWISE:
        weight = pieces.weight_of(op, module)
        assert weight is not None
        made = pieces.filtering(sources[0], mixer(), weight.detach())
    else:
        others = {source: env[source] for source in node.all_input_nodes if source not in sources}
        made = pieces.linear(op, module, sources, others)
    return lambda _: made


def _itself(z: Tensor) -> Tensor:
    return z


def _bend(step: Step, of: Callable[[], Tensor], kink_beta: float, gradients: Mapping[fx.Node, Tensor]) -> Piece:
    assert step.op.activation is not None
    slope, weight = derivatives(step.op.activation, of(), kink_beta, gradients[step.result], step.passes)
    return pieces.bend(step.sources[0], weight, slope)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Parameters and buffers without gradient, so that the backward pass goes to activations only; then as before."""
    needed = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.requires_grad]
    for p in needed:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in needed:
            p.requires_grad_(True)
