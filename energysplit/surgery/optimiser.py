"""Optimiser state of a split network from the state before the split.

At step 0 the gradient of each copy's producer rows and followers is the original's times the copy's share of the
outgoing weights (half for a pair; signed splits have negative shares), and that of each copied consumer column is the
original's. So a running mean of gradients is carried with the share and a running mean of their squares with its
square. The split network then continues as if it had been trained as it is. A fresh neuron, whose share is 0, begins
with no mean of gradients and with its neighbour's of their squares, which stand for their size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.edit import carried
from energysplit.surgery.apply import Chosen, channel_maps


def _of_square(share: Tensor) -> Tensor:
    return torch.where(share == 0, 1.0, share.square())


def _read(share: Tensor) -> Tensor:
    """1 for columns of what was there before, 0 for those of fresh neurons."""
    return (share != 0).to(share)


_FACTOR: dict[str, Callable[[Tensor], Tensor]] = {
    "momentum_buffer": torch.clone,
    "exp_avg": torch.clone,
    "grad_avg": torch.clone,
    "exp_avg_sq": _of_square,
    "max_exp_avg_sq": _of_square,
    "square_avg": _of_square,
}
"""State -> its factor, from the share."""


def split_state(net: Network, chosen: Chosen, state: Mapping[str, Tensor], mass: float = 1.0) -> dict[str, Tensor]:
    """The state for the split network.

    Args:
        net: the network before the split.
        chosen: group -> split channels, as given to `split`.
        state: "<parameter>/<key>" -> tensor, as torch's SGD, Adam, AdamW and RMSprop keep it.
        mass: as given to `split`.

    Raises:
        InputError: a key whose behaviour under a split is not known, or channels that `split` would refuse.
    """
    maps = channel_maps(net, chosen, mass)
    result: dict[str, Tensor] = {}
    by_factor: dict[tuple[str, Callable[[Tensor], Tensor]], dict[str, Tensor]] = defaultdict(dict)
    for entry, tensor in state.items():
        name, _, key = entry.rpartition("/")
        if tensor.dim() == 0:  # a step counter
            result[entry] = tensor.clone()
        elif key in _FACTOR:
            # RMSprop's momentum is of gradients over their size: the same for every copy, but for the share's sign.
            ratio = key == "momentum_buffer" and f"{name}/square_avg" in state
            by_factor[key, torch.sign if ratio else _FACTOR[key]][name] = tensor
        else:
            raise InputError(
                f"optimiser state {key!r} of {name!r} can't be carried through a split; known: {sorted(_FACTOR)}"
            )
    for (key, factor), tensors in by_factor.items():
        columns = torch.ones_like if factor is _of_square else _read
        for name, tensor in carried(net, maps, tensors, factor, columns).items():
            result[f"{name}/{key}"] = tensor
    return {entry: result[entry] for entry in state}
