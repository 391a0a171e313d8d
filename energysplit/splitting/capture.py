"""One forward and one backward pass to activations: all that the tangent pass needs of a batch.

For each splittable group: the input of its producer, and along the way to the consumer each nonlinearity's first
derivative and its curvature weight G sigma''(z), where G is the gradient of the loss at the nonlinearity's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.activations import Activation
from energysplit.graph.network import Kind, Step
from energysplit.graph.trace import evaluating
from energysplit.splitting.curvature import derivatives

Loss = Callable[[Tensor, Tensor], Tensor]
_UNIT = Activation("unit", lambda z: z)


@dataclass(frozen=True)
class Bend:
    """A nonlinearity on a group's way, on one batch.

    slope: sigma'(z). weight: G sigma''(z), gradient of the mean loss included. Both shaped like z.
    """

    slope: Float[Tensor, "images channels ..."]
    weight: Float[Tensor, "images channels ..."]


@dataclass(frozen=True)
class Link:
    """A linear piece of a group's way: tangent in, tangent out."""

    carry: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GroupCapture:
    """A group's tangent pass on one batch: the producer with its input, then links and bends up to the last bend."""

    producer: nn.Module
    source: Tensor
    way: tuple[Bend | Link, ...]

    def tangent(self, v: Tensor) -> Tensor:
        """First-order change of the producer's output when its weight moves by `v`."""
        layer = self.producer
        match layer:
            case nn.Conv2d():
                return F.conv2d(self.source, v, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            case nn.Conv1d():
                return F.conv1d(self.source, v, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            case nn.Linear():
                return F.linear(self.source, v)
        raise TypeError(f"no tangent rule for {type(layer).__name__}")

    def quadratic(self, v: Tensor) -> Float[Tensor, "images channels"]:
        """Each image's part of v^T S v of each neuron; summed over images it is the batch's v^T S v."""
        t = self.tangent(v)
        channels = t.shape[1]
        total = t.new_zeros(t.shape[0], channels)
        for piece in self.way:
            if isinstance(piece, Link):
                t = piece.carry(t)
            else:
                total = total + (piece.weight * t.square()).reshape(t.shape[0], channels, -1).sum(2)
                t = piece.slope * t
        return total

    @property
    def bytes(self) -> int:
        """Memory the captured tensors hold."""
        held = [self.source, *(x for p in self.way if isinstance(p, Bend) for x in (p.slope, p.weight))]
        return sum(x.numel() * x.element_size() for x in held)


@dataclass(frozen=True)
class Capture:
    """What one batch leaves for the tangent passes; loss: mean over its images."""

    groups: dict[str, GroupCapture]
    images: int
    loss: float

    @property
    def bytes(self) -> int:
        """Memory the captured tensors hold."""
        return sum(group.bytes for group in self.groups.values())


def bends(net: Network, curvature: str, linear: str) -> dict[str, tuple[str, ...]]:
    """Group -> names of the steps whose curvature counts; groups without any are left out.

    curvature "exact": every nonlinearity up to the consumer. "producer": the one directly after the producer (batch
    norm and other linear pieces may stand between), as in Wang et al. 2019, eq. 7.
    linear "unit": a group without nonlinearity counts sigma'' = 1 at its producer's output, after batch norm (the
    paper's code). "skip": it is left out.

    Raises:
        InputError: a rule is unknown.
    """
    if curvature not in ("exact", "producer") or linear not in ("skip", "unit"):
        raise InputError(
            f"curvature={curvature!r}, linear={linear!r} given; curvature 'exact' or 'producer' and linear 'skip' or "
            "'unit' expected"
        )
    found = {}
    for name, way in net.ways().items():
        names = [step.name for step in way if step.kind is Kind.ACTIVATION]
        if curvature == "producer":
            before_other_filters = []
            for step in way[1:]:
                if step.kind is Kind.DEPTHWISE:
                    break
                before_other_filters.append(step.name)
            names = [n for n in names if n in before_other_filters][:1]
        if not names and linear == "unit":
            norm = [step.name for step in way[1:2] if step.kind is Kind.NORM]
            names = norm or [way[0].name]
        if names:
            found[name] = tuple(names)
    return found


def capture(
    net: Network,
    x: Tensor,
    target: Tensor,
    loss_fn: Loss,
    counted: dict[str, tuple[str, ...]],
    kink_beta: float,
) -> Capture:
    """Run one batch forward and backward to activations, in eval mode, and keep what the groups need.

    Args:
        net: the network.
        x: input batch.
        target: what `loss_fn` compares with.
        loss_fn: (output, target) -> mean loss over the batch.
        counted: group -> steps whose curvature counts (`bends`).
        kink_beta: see `curvature.derivatives`.

    Raises:
        InputError: the loss is not a finite scalar.
    """
    wanted = {name for names in counted.values() for name in names}
    sources: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    links: dict[str, Callable[[Tensor], Tensor]] = {}
    with evaluating(net.module), _frozen(net.module), torch.enable_grad():
        h = x
        for step in net.steps:
            if step.kind is Kind.MIX:
                sources[step.name] = h.detach()
            before = h
            if step.kind is Kind.MAX_POOL:
                assert step.pool is not None
                h, positions = step.pool(h)
                links[step.name] = _gatherer(positions)
            else:
                h = step.call(h)
                if step.kind is not Kind.ACTIVATION:
                    links[step.name] = _linear_part(step)
            if step.kind is Kind.ACTIVATION:
                inputs[step.name] = before.detach()
            if step.name in wanted:
                if not h.requires_grad:
                    h.requires_grad_()
                outputs[step.name] = h
        loss = loss_fn(h, target)
        if loss.dim() != 0 or not torch.isfinite(loss):
            raise InputError(
                f"the loss on a batch of {len(x)} images is {loss.detach().tolist()!r}; "
                "one finite mean loss is expected"
            )
        gradients = (
            dict(zip(outputs, torch.autograd.grad(loss, list(outputs.values())), strict=True)) if outputs else {}
        )
    groups = {}
    ways = net.ways()
    for name, names in counted.items():
        way: list[Bend | Link] = []
        for step in ways[name]:
            if step.kind is Kind.ACTIVATION:
                assert step.activation is not None
                slope, second = derivatives(step.activation, inputs[step.name], kink_beta)
                weight = gradients[step.name] * second if step.name in names else torch.zeros_like(slope)
                way.append(Bend(slope, weight))
            else:
                if step.kind is not Kind.MIX:
                    way.append(Link(links[step.name]))
                if step.name in names:  # linear = "unit": sigma'' = 1
                    way.append(Bend(torch.ones_like(gradients[step.name]), gradients[step.name]))
            if step.name == names[-1]:
                break
        producer = ways[name][0].module
        assert producer is not None
        groups[name] = GroupCapture(producer, sources[name], tuple(way))
    return Capture(groups, len(x), float(loss.detach()))


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


def _gatherer(positions: Tensor) -> Callable[[Tensor], Tensor]:
    """Tangent of max pooling: the tangent at the argmax."""

    def carry(t: Tensor) -> Tensor:
        return t.flatten(2).gather(2, positions.flatten(2)).view(positions.shape)

    return carry


def _linear_part(step: Step) -> Callable[[Tensor], Tensor]:
    """The step without its constant part."""
    layer = step.module
    match layer:
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            assert layer.running_var is not None
            scale = torch.rsqrt(layer.running_var + layer.eps)
            if layer.weight is not None:
                scale = scale * layer.weight.detach()
            return lambda t: t * scale.reshape(-1, *(1,) * (t.dim() - 2))
        case nn.Conv2d():
            weight = layer.weight.detach()
            return lambda t: F.conv2d(t, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        case nn.Conv1d():
            weight = layer.weight.detach()
            return lambda t: F.conv1d(t, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return step.call


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
