"""Slow and exact references the tests compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import energysplit as es
from energysplit.surgery.channels import channel_map

Batch = tuple[Tensor, Tensor]


def loss_of(net: es.Network, batches: Sequence[Batch]) -> float:
    """Mean loss of the network in eval mode."""
    net.module.eval()
    with torch.no_grad():
        total = sum(float(F.cross_entropy(net.module(x), y, reduction="sum")) for x, y in batches)
    return total / sum(len(x) for x, _ in batches)


def realised_change(
    net: es.Network,
    batches: Sequence[Batch],
    index: dict[str, es.SplitIndex],
    chosen: dict[str, list[int]],
    step: float,
) -> float:
    """Loss change of the real surgery."""
    directions = {name: index[name].direction for name in chosen}
    after = es.split(net, chosen, directions=directions, step=step)
    return loss_of(after, batches) - loss_of(net, batches)


def windows_that_switch(
    net: es.Network, x: Tensor, index: dict[str, es.SplitIndex], chosen: dict[str, list[int]], step: float
) -> int:
    """Max-pooling windows whose largest element is another one after the split.

    Max pooling is piecewise linear: where no window switches, the second-order prediction is exact.
    """
    after = es.split(net, chosen, directions={name: index[name].direction for name in chosen}, step=step)
    switched, before_x, after_x = 0, x, x
    with torch.no_grad():
        for old, new in zip(net.steps, after.steps, strict=True):
            if old.pool is not None and new.pool is not None:
                group = net.groups[old.group]
                source = channel_map(old.group, group.channels, chosen.get(old.group, [])).source
                switched += int((old.pool(before_x)[1][:, source] != new.pool(after_x)[1]).sum())
            before_x, after_x = old.call(before_x), new.call(after_x)
    return switched


def predicted_change(index: dict[str, es.SplitIndex], chosen: dict[str, list[int]], step: float) -> float:
    """Second-order prediction: step^2/2 times the sum of the chosen indices."""
    return step**2 / 2 * sum(float(index[name].value[channels].sum()) for name, channels in chosen.items())


def splitting_matrix(net: es.Network, batches: Sequence[Batch], group: str, channel: int) -> Tensor:
    """The splitting matrix of one neuron by differentiating twice the loss of a network that averages two copies.

    The neuron's producer row is offset by +o and -o in two functional copies of the split network; the Hessian in o
    at 0 is S. Shape (fan_in, fan_in).
    """
    split = es.split(net, {group: [channel]})
    name = f"{net.groups[group].producers[0]}.weight"
    parameters = {key: value.detach() for key, value in split.module.state_dict().items()}
    shape = parameters[name].shape[1:]

    def loss(offset: Tensor) -> Tensor:
        row = offset.reshape(shape)
        moved = torch.zeros_like(parameters[name])
        moved = torch.cat([moved[:channel], row[None], -row[None], moved[channel + 2 :]])
        total = torch.zeros((), dtype=torch.float64)
        for x, y in batches:
            out = torch.func.functional_call(split.module, {**parameters, name: parameters[name] + moved}, (x,))
            total = total + F.cross_entropy(out, y, reduction="sum")
        return total / sum(len(x) for x, _ in batches)

    split.module.eval()
    return torch.func.hessian(loss)(torch.zeros(shape.numel(), dtype=torch.float64))
