"""The sparsity term of training: weighted absolute values of batch norms' scales, added to the loss.

Liu et al. 2017 (arXiv 1708.06519): every scale weighs the same. Gordon et al. 2018 (MorphNet, arXiv 1711.06798): a
scale weighs what its neuron costs; here that is the difference of two whole-network prices, the network with the neuron
and without, divided by its mean over all neurons, so that one strength fits any provider. MorphNet counts costs anew as
scales vanish; here they are counted once a stage, at the widths the network has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from energysplit.costs import NetworkPricer
from energysplit.errors import RecipeError
from energysplit.graph import Network
from energysplit.graph.network import tensor_of
from energysplit.growth.baselines.importance import scales


def scale_penalty(net: Network, weights: Mapping[str, float], strength: float) -> Callable[[], Tensor]:
    """A function that gives the term, to be called in each step of a training.

    Args:
        net: the network; its module must be on its device already.
        weights: by group, of each scale of the group's batch norms.
        strength: what the whole term is multiplied by.
    """
    by_tensor: dict[str, Tensor] = {}
    for group, weight in weights.items():
        for slot in scales(net, group):
            parameter = tensor_of(net.module, slot.tensor)
            each = by_tensor.setdefault(slot.tensor, torch.zeros_like(parameter, requires_grad=False))
            each[slot.span.index(net.groups[group].channels).flatten().to(each.device)] = strength * weight
    terms = [(tensor_of(net.module, name), each) for name, each in by_tensor.items()]

    def penalty() -> Tensor:
        return torch.stack([(parameter.abs() * each).sum() for parameter, each in terms]).sum()

    return penalty


def price_weights(net: Network, provider: NetworkPricer, groups: Iterable[str]) -> dict[str, float]:
    """Group -> what one neuron of it costs, divided by the mean over all neurons of these groups; none below 0.

    Raises:
        RecipeError: no neuron costs anything.
    """
    widths = net.widths
    saved = {}
    for name in groups:
        narrower = {**widths, name: widths[name] - 1}
        # The last neuron of a group can't go; what one more would cost stands for it.
        cost = provider.marginal(narrower, name) if widths[name] > 1 else provider.marginal(widths, name)
        saved[name] = max(0.0, cost)
    mean = sum(cost * widths[name] for name, cost in saved.items()) / sum(widths[name] for name in saved)
    if mean <= 0:
        raise RecipeError(
            f"baseline.kind = 'morphnet': no neuron has a price by {provider.name!r}, the first budget's provider; "
            "give a budget whose price depends on the widths first"
        )
    return {name: cost / mean for name, cost in saved.items()}
