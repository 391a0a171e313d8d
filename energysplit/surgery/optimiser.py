"""Optimiser state of a split network from the state before the split.

At step 0 the gradient of each copy's producer rows is half of the original's and that of each copied consumer column
is the original's, so a running mean of gradients is carried with these factors and a running mean of their squares
with the factors squared. The split network then continues as if it had been trained as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.surgery.apply import mapped
from energysplit.surgery.channels import channel_map

_POWER = {
    "momentum_buffer": 1.0,
    "exp_avg": 1.0,
    "grad_avg": 1.0,
    "exp_avg_sq": 2.0,
    "max_exp_avg_sq": 2.0,
    "square_avg": 2.0,
}


def split_state(net: Network, chosen: Mapping[str, Sequence[int]], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state for the split network.

    Args:
        net: the network before the split.
        chosen: group -> split channels, as given to `split`.
        state: "<parameter>/<key>" -> tensor, as torch's SGD, Adam, AdamW and RMSprop keep it.

    Raises:
        InputError: a key whose behaviour under a split is not known.
    """
    maps = {
        name: channel_map(name, net.groups[name].channels, channels) for name, channels in chosen.items() if channels
    }
    carried = {}
    for entry, tensor in state.items():
        name, _, key = entry.rpartition("/")
        if tensor.dim() == 0:  # a step counter
            carried[entry] = tensor.clone()
        elif key in _POWER:
            carried[entry] = mapped(net, maps, name, tensor, _POWER[key])
        else:
            raise InputError(
                f"optimiser state {key!r} of {name!r} can't be carried through a split; known: {sorted(_POWER)}"
            )
    return carried
