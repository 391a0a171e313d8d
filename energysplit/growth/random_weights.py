"""Random weights for a network of other widths: as its model would have been initialised at these widths.

energysplit's own models are initialised as their builders do it. Of all others every layer is asked to initialise
itself (`reset_parameters`, torch's word for it); what the model's constructor does beyond that is not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from energysplit.errors import RecipeError
from energysplit.graph import Network
from energysplit.graph.edit import resized
from energysplit.models import registry
from energysplit.models.layers import initialise


def at_random(seed: Network, widths: Mapping[str, int], random: int, key: str = "baseline") -> Network:
    """A network with random weights; torch's global random state is left as it was.

    Args:
        seed: a freshly built network; parameters that no layer initialises keep its values.
        widths: of the new one, by group.
        random: seed of the weights: the same one gives the same bits.
        key: of the recipe that asks for it, for the message.

    Raises:
        RecipeError: a tensor that has another size now is initialised by no layer.
    """
    net = resized(seed, widths)
    module = net.module
    sizes = {name: tensor.shape for name, tensor in _tensors(seed.module)}
    changed = {name: tensor for name, tensor in _tensors(module) if tensor.shape != sizes[name]}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(random)
        # Whatever is still NaN afterwards nobody has initialised.
        for tensor in changed.values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
        for layer in module.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset) and not list(layer.children()):
                reset()
        builder = getattr(module, "energysplit_builder", None)
        if builder is not None and builder["name"] in registry.names():
            initialise(module)
    left = [name for name, tensor in changed.items() if bool(torch.isnan(tensor).any())]
    if left:
        raise RecipeError(
            f"{key}: {left[0]!r} has another size in a network of other widths, and no layer initialises it (its "
            "layer has no reset_parameters()); give the layer one, or keep the group from growing with growth.bounds"
        )
    return net


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name, each once."""
    return [*module.named_parameters(), *module.named_buffers()]
