"""An exponential moving average of a network's weights and floating buffers, kept beside the network that trains.

With a fixed decay d the average would hold d^t of the start after t updates, most of a short training. So the decay
rises from 0: it is min(d, t / (t + 9)), t = updates before. The weights of all iterates then sum to one at every
moment, the start has none, and until t / (t + 9) reaches d the average reaches back over about the last tenth of the
updates so far (a ramp like that of TensorFlow's ExponentialMovingAverage, whose start keeps a little weight).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from energysplit.errors import CheckpointError

RAMP = 9
"""Updates after which the decay is a half."""


def decay_after(updates: int, decay: float) -> float:
    """The decay of the next update, after that many.

    Example:
        >>> [round(decay_after(updates, 0.99), 3) for updates in (0, 1, 9, 891, 10_000)]
        [0.0, 0.1, 0.5, 0.99, 0.99]
    """
    return min(decay, updates / (updates + RAMP))


class Average:
    """The average of a module's parameters and floating buffers; integer buffers are not averaged.

    Args:
        module: where it is to train, already on its device.
        decay: of a long training, above 0 and below 1.
        tensors: the average so far, as `tensors()` gave it; empty: begin.
        updates: made so far.

    Tensors of other names or shapes than the module's are a CheckpointError.
    """

    def __init__(
        self, module: nn.Module, decay: float, tensors: Mapping[str, Tensor] | None = None, updates: int = 0
    ) -> None:
        self._module, self._decay, self._updates = module, decay, updates if tensors else 0
        live = _floating(module)
        # Clones keep the memory format, and what is loaded is copied into it.
        self._average = {name: tensor.detach().clone() for name, tensor in live.items()}
        if tensors:
            if wrong := sorted(
                name
                for name in live.keys() | tensors.keys()
                if name not in live or name not in tensors or live[name].shape != tensors[name].shape
            ):
                raise CheckpointError(
                    f"the average of the weights does not fit the network: {wrong[0]!r} is missing, unknown or of "
                    "another shape. Was it saved with another network?"
                )
            for name, tensor in tensors.items():
                self._average[name].copy_(tensor)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module as it is now."""
        live = _floating(self._module)
        weight = 1 - decay_after(self._updates, self._decay)
        torch._foreach_lerp_(list(self._average.values()), [live[name].detach() for name in self._average], weight)
        self._updates += 1

    def buffers(self) -> dict[str, Tensor]:
        """The average of the module's floating buffers itself, by name; what is written into it counts."""
        names = {name for name, _ in self._module.named_buffers()}
        return {name: tensor for name, tensor in self._average.items() if name in names}

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the average, by name."""
        return {
            name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in sorted(self._average.items())
        }

    @torch.no_grad()
    def write(self) -> None:
        """Put the average into the module, in place of what it trained to."""
        for name, tensor in _floating(self._module).items():
            tensor.copy_(self._average[name])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module with the average in it while the context is open; afterwards as before, bit for bit."""
        live = {name: tensor.detach().clone() for name, tensor in _floating(self._module).items()}
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _floating(self._module).items():
                    tensor.copy_(live[name])


def _floating(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating buffers as they are now, each once; a module may have put a new buffer in place."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}
