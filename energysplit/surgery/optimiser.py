"""Optimiser state of a split network from the state before the split.

At step 0 the gradient of each copy's producer rows and followers is half of the original's and that of each copied
consumer column is the original's, so a running mean of gradients is carried with these factors and a running mean of
their squares with the factors squared. The split network then continues as if it had been trained as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.edit import carried
from energysplit.surgery.apply import channel_maps

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
        InputError: a key whose behaviour under a split is not known, or channels that `split` would refuse.
    """
    maps = channel_maps(net, chosen)
    result: dict[str, Tensor] = {}
    by_power: dict[tuple[str, float], dict[str, Tensor]] = defaultdict(dict)
    for entry, tensor in state.items():
        name, _, key = entry.rpartition("/")
        if tensor.dim() == 0:  # a step counter
            result[entry] = tensor.clone()
        elif key in _POWER:
            # RMSprop's momentum is of gradients over their size, which is that of the original for every copy.
            power = 0.0 if key == "momentum_buffer" and f"{name}/square_avg" in state else _POWER[key]
            by_power[key, power][name] = tensor
        else:
            raise InputError(
                f"optimiser state {key!r} of {name!r} can't be carried through a split; known: {sorted(_POWER)}"
            )
    for (key, power), tensors in by_power.items():
        for name, tensor in carried(net, maps, tensors, power).items():
            result[f"{name}/{key}"] = tensor
    return {entry: result[entry] for entry in state}
