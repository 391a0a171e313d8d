"""How important the neurons of a group are, by two published criteria; the least important go first.

Li et al. 2016 (arXiv 1608.08710): the L1 norm of the weights that make a neuron. Liu et al. 2017 (arXiv 1708.06519):
the size of its batch norm's scale. A neuron of a residual trunk has several producers and several batch norms: norms of
the producers' rows add up, scales are averaged, so that one threshold fits groups of one and of many batch norms.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from energysplit.graph import Network
from energysplit.graph.network import Role, Slot, tensor_of


def l1_norms(net: Network, group: str) -> Float[Tensor, " neurons"]:
    """The L1 norm of each neuron's rows in all producers of the group.

    Gates, which only scale what others write, are left out. Biases and followers (batch norm, depthwise convolution)
    don't count, as in Li et al.
    """
    weights = {f"{mover}.weight" if mover else "weight" for mover in net.groups[group].movers}
    found = torch.zeros(net.groups[group].channels, dtype=torch.float64)
    for slot in net.slots:
        if slot.group == group and slot.role is Role.PRODUCER and slot.tensor in weights:
            tensor = tensor_of(net.module, slot.tensor).detach().double().abs().cpu()
            along = tensor.transpose(0, slot.span.dim).flatten(1).sum(1)
            found += along[slot.span.index(len(found))].sum(1)
    return found


def batch_norm_scales(net: Network, group: str) -> Float[Tensor, " neurons"]:
    """The mean size of the scales that each neuron has in the batch norms of its group.

    Behind a flatten a neuron has one scale for each position.
    """
    found = torch.zeros(net.groups[group].channels, dtype=torch.float64)
    count = 0
    for slot in scales(net, group):
        tensor = tensor_of(net.module, slot.tensor).detach().double().abs().cpu()
        each = tensor[slot.span.index(len(found))]
        found += each.mean(1)
        count += 1
    return found / count if count else found


def scales(net: Network, group: str) -> list[Slot]:
    """Where the scales of a group's batch norms are: those of its followers that have learnt ones."""
    found = []
    for slot in net.slots:
        layer, _, key = slot.tensor.rpartition(".")
        if slot.group == group and slot.role is Role.FOLLOWER and key == "weight":
            norm = net.module.get_submodule(layer)
            if isinstance(norm, _BatchNorm) and norm.weight is not None:
                found.append(slot)
    return found
