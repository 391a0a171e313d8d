"""Fresh neurons: what a new neuron beside each old one would bring, from the gradient of its outgoing weights.

A fresh neuron has rows of its own and outgoing weights of zero, so the function is kept whatever the rows are. What it
is worth is of first order in the outgoing weights w that training will give it: along their gradient g = dL/dw the loss
falls by e |g| for a step of size e (GradMax, Evci et al. 2022, arXiv 2201.05125; Firefly, Wu et al. 2020, arXiv
2102.08574). A network in which every neuron has such a neighbour is made once; one forward and backward pass of each
batch then gives the gradients of all of them, because a column of zeros tells nothing to what stands before it.

Rows are drawn by chance: a direction uniform over all rows that move, as long as the rows of the group's neurons are.
Everything else of the neuron (filters, biases, batch norms of its channel) is a copy of its neighbour's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energysplit.graph import Network
from energysplit.graph.channels import channel_map
from energysplit.graph.edit import Move, duplicate
from energysplit.graph.network import Role, Slot, tensor_of
from energysplit.graph.trace import evaluating
from energysplit.kinds import FRESH
from energysplit.splitting.batches import cut, fewest
from energysplit.splitting.capture import Loss, check_loss
from energysplit.splitting.layout import Layout, Vectors, weight_name
from energysplit.splitting.operator import dots, normalise
from energysplit.splitting.precision import at_least_float32, check_precision, mixed
from energysplit.splitting.sample import Batches, count_images
from energysplit.splitting.share import Share
from energysplit.splitting.statistics import check_statistics, norms_of
from energysplit.types import SplitIndex

_BATCHES = 8
"""Fewest batches that a standard error is taken over."""


def fresh_index(
    net: Network,
    sample: Batches,
    held_out: Batches | None,
    loss_fn: Loss,
    *,
    seed: int,
    statistics: str,
    precision: str,
    share: Share,
) -> dict[str, SplitIndex]:
    """What a fresh neuron beside each neuron of all splittable groups would bring.

    Args:
        net: the network; left as it was.
        sample: (input, target) pairs that the directions of the outgoing weights are found on.
        held_out: pairs that the values are taken on; None: the sample again, which is optimistic.
        loss_fn: (output, target) -> mean loss over the batch.
        seed: of the rows.
        statistics: of batch norms.
        precision: of the passes over a batch.
        share: of each batch.

    Returns:
        Group -> `SplitIndex` of kind "fresh". value: loss change, to first order, of outgoing weights that are as long
        as the root mean square of the group's; below zero where the direction holds on the images of the value.
        direction: move from the neuron's rows to the fresh one's, for a step of 1. stderr: over batches; None of one. A
        value that overflowed is NaN.

    Raises:
        InputError: there are no images, the loss is not finite, or an option does not fit the network.
    """
    check_statistics(statistics)
    count_images(sample)
    names = [name for name, group in net.groups.items() if group.splittable and group.movers]
    if not names:
        return {}
    rows = Layout(net, names, outgoing=False)
    moves = {name: _move(net, rows, name, v) for name, v in _drawn(rows, seed).items()}
    directions = {name: rows.directions({name: move})[name][0] for name, move in moves.items()}
    beside = _Beside(net, directions, loss_fn, statistics, precision, share)

    found = beside.mean(sample)
    # Along which the loss falls; a neuron that nothing reads the gradient of stays where it is.
    fall = {name: -normalise(gradient.double()).to(gradient) for name, gradient in found.items()}
    judges = _enough(sample if held_out is None else held_out, fewest(statistics, share))
    values = beside.along(judges, fall)
    return {
        name: SplitIndex(
            value=_known(beside.size[name] * value),
            direction=directions[name],
            stderr=None if stderr is None else beside.size[name] * stderr,
            residual=torch.full_like(value, torch.nan),
            images=count_images(judges),
            solver=FRESH,
            held_out=held_out is not None,
            same_images=beside.size[name] * dots(found[name], fall[name]).double().cpu(),
            sweeps=1.0,
            kind=FRESH,
        )
        for name, (value, stderr) in values.items()
    }


def _drawn(layout: Layout, seed: int) -> Vectors:
    """Random unit vectors, the same for a seed on every device."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: normalise(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in layout.shapes.items()
    }


def _move(net: Network, layout: Layout, name: str, direction: Float[Tensor, "n dims"]) -> Float[Tensor, "n dims"]:
    """From each neuron's rows to rows along its direction, of the root mean square length of the group's."""
    now = torch.cat([part.take(net.weight(part.layer)) for part in layout.parts[name]], dim=1)
    length = now.double().square().sum(1).mean().sqrt()
    return direction.to(now) * length.to(now) - now


class _Beside:
    """The network with a fresh neuron beside every neuron, and the gradients of their outgoing weights.

    size: group -> root mean square, over its neurons, of the norm of the outgoing weights.
    """

    size: dict[str, float]

    def __init__(
        self,
        net: Network,
        directions: Mapping[str, Mapping[str, Tensor]],
        loss_fn: Loss,
        statistics: str,
        precision: str,
        share: Share,
    ) -> None:
        self.loss_fn, self.statistics, self.precision, self.share = loss_fn, statistics, precision, share
        maps = {
            name: channel_map(name, net.groups[name].channels, dict.fromkeys(range(net.groups[name].channels), FRESH))
            for name in directions
        }
        self.net = duplicate(
            net,
            maps,
            [
                Move(weight_name(layer), Role.PRODUCER, name, 1.0, move)
                for name, moved in directions.items()
                for layer, move in moved.items()
            ],
        )
        self.size = {name: _size(net, name) for name in directions}
        # Each fresh neuron is the second of its pair.
        self.columns = {
            name: [(slot, slot.span.index(self.net.groups[name].channels)[1::2]) for slot in _read(self.net, name)]
            for name in directions
        }
        held = {slot.tensor for found in self.columns.values() for slot, _ in found}
        self.weights = {tensor: tensor_of(self.net.module, tensor) for tensor in sorted(held)}
        self.net.module.requires_grad_(False)
        for weight in self.weights.values():
            weight.requires_grad_(True)
        some = next(self.net.module.parameters())
        self.device = some.device
        check_precision(precision, some.dtype)

    def mean(self, batches: Batches) -> Vectors:
        """Group -> mean gradient of each fresh neuron's outgoing weights."""

        def mine() -> Vectors:
            total: Vectors = {}
            for x, target, part in self._shared(batches):
                for name, gradient in self._gradients(x, target).items():
                    weighted = gradient * (part / images)
                    total[name] = total[name] + weighted if name in total else weighted
            return total or self._nothing()

        images = count_images(batches)
        return self._over_processes(self.share.done(mine))

    def along(self, batches: Batches, direction: Vectors) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Group -> (mean gradient along each neuron's direction, its standard error over batches)."""

        def mine() -> Vectors:
            made = {name: torch.zeros(len(batches), len(v), dtype=torch.float64) for name, v in direction.items()}
            for number, (x, target) in enumerate(batches):
                for local, wanted, part in self._shared([(x, target)]):
                    for name, gradient in self._gradients(local, wanted).items():
                        made[name][number] = dots(gradient, direction[name]).double().cpu() * (part / len(x))
            return made

        found = self._over_processes(self.share.done(mine))
        parts = torch.tensor([len(x) for x, _ in batches], dtype=torch.float64)
        parts = (parts / parts.sum())[:, None]
        return {name: _mean(each, parts) for name, each in found.items()}

    def _shared(self, batches: Batches) -> list[tuple[Tensor, Tensor, int]]:
        """This process's part of each batch that it has one of, with its number of images."""
        parts = (self.share.of(x, target) for x, target in batches)
        return [(x, target, len(x)) for x, target in parts if len(x)]

    def _gradients(self, x: Tensor, target: Tensor) -> Vectors:
        """Group -> gradient of the mean loss to the outgoing weights of its fresh neurons."""
        module = self.net.module
        with evaluating(module), norms_of(module, self.statistics), mixed(self.precision, self.device):
            with torch.enable_grad():
                output = module(x.to(self.device))
                loss = self.loss_fn(output, target.to(self.device))
            check_loss(loss, output, len(x))
            if not loss.requires_grad:  # it depends on none of them
                return self._nothing()
            # Inside: what is computed again on the way back is to be what it was.
            found = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True)
        gradients = {
            tensor: torch.zeros_like(weight) if gradient is None else gradient
            for (tensor, weight), gradient in zip(self.weights.items(), found, strict=True)
        }
        return {name: self._of_fresh(name, gradients) for name in self.columns}

    def _of_fresh(self, name: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "n dims"]:
        """The columns of a group's fresh neurons in tensors shaped like the weights."""
        parts = [_taken(tensors[slot.tensor], slot, index) for slot, index in self.columns[name]]
        made = torch.cat(parts, dim=1)
        return made.to(at_least_float32(made.dtype))

    def _nothing(self) -> Vectors:
        """What there is of no image."""
        zeros = {tensor: torch.zeros_like(weight, requires_grad=False) for tensor, weight in self.weights.items()}
        return {name: self._of_fresh(name, zeros) for name in self.columns}

    def _over_processes(self, vectors: Vectors) -> Vectors:
        """The sums over all processes."""
        return dict(zip(vectors, self.share.totals(list(vectors.values())), strict=True))


def _read(net: Network, name: str) -> list[Slot]:
    """Where the weights of all consumers hold a group's channels."""
    return [slot for slot in net.slots if (slot.group, slot.role) == (name, Role.CONSUMER)]


def _taken(tensor: Tensor, slot: Slot, index: Int[Tensor, "n multiple"]) -> Float[Tensor, "n dims"]:
    """What a tensor holds at the indices of each neuron."""
    held = tensor.movedim(slot.span.dim, 0).index_select(0, index.flatten().to(tensor.device))
    return held.reshape(len(index), -1)


def _size(net: Network, name: str) -> float:
    """The root mean square, over a group's neurons, of the norm of their outgoing weights."""
    channels = net.groups[name].channels
    square = 0.0
    for slot in _read(net, name):
        weight = tensor_of(net.module, slot.tensor).detach()
        square += float(_taken(weight, slot, slot.span.index(channels)).double().square().sum())
    return (square / channels) ** 0.5


def _enough(batches: Batches, least: int) -> Batches:
    """The batches, in pieces where they are too few for a standard error over them; none of fewer than `least`."""
    if len(batches) >= _BATCHES:
        return batches
    return cut(batches, max(1, count_images(batches) // _BATCHES), least)


def _known(value: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The values, NaN where they overflowed.

    Example:
        >>> _known(torch.tensor([-1.0, -torch.inf, torch.nan])).tolist()
        [-1.0, nan, nan]
    """
    return torch.where(torch.isfinite(value), value, torch.nan)


def _mean(
    each: Float[Tensor, "batches n"], parts: Float[Tensor, "batches 1"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"] | None]:
    """The mean over batches that are these parts of the images, and its standard error; None for one batch.

    Example:
        >>> _mean(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.5], [0.5]]))
        (tensor([2.]), tensor([1.]))
    """
    mean = (each * parts).sum(0)
    if len(each) == 1:
        return mean, None
    variance = (parts.square() * (each - mean).square()).sum(0) * len(each) / (len(each) - 1)
    return mean, variance.sqrt()
