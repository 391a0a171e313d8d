"""The optimiser, and its state as named tensors: what a checkpoint stores and surgery edits.

Torch numbers an optimiser's state by the order of its parameters. Here it is named by parameter, so that it survives
another grouping and can be stored as safetensors without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from energysplit.errors import CheckpointError, InputError, nearest

OPTIMISERS = ("sgd",)


def make_optimiser(
    module: nn.Module,
    *,
    optimizer: str = "sgd",
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """A new optimiser for the module's parameters, without state.

    Two parameter groups: weights that mix or filter channels are decayed; batch norms and biases are not, as decaying
    them only shifts scales (He et al. 2018, arXiv 1812.01187, section 3.1).

    Raises:
        InputError: an unknown optimiser, or settings it does not take.
    """
    if optimizer not in OPTIMISERS:
        raise InputError(f"unknown optimiser {optimizer!r} (train.optimizer); {nearest(optimizer, OPTIMISERS)}")
    decayed = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in module.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    try:
        return torch.optim.SGD(
            [group for group in groups if group["params"]], lr=learning_rate, momentum=momentum, nesterov=nesterov
        )
    except ValueError as error:
        raise InputError(
            f"train: learning_rate = {learning_rate}, momentum = {momentum} and nesterov = {nesterov} can't go "
            f"together: {error}"
        ) from error


def state_tensors(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """A copy of the optimiser's state, by "parameter name/state key"; empty before the first step.

    Raises:
        CheckpointError: the optimiser holds state for a parameter that the module does not have.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    tensors = {}
    for parameter, state in optimiser.state.items():
        if parameter not in names:
            raise CheckpointError(
                f"the optimiser's state belongs to a parameter of shape {tuple(parameter.shape)} that the module does "
                "not have; make a new optimiser after surgery and load the edited tensors into it"
            )
        for key, value in state.items():
            if isinstance(value, Tensor):
                # Contiguous, whatever the memory format in use: safetensors stores nothing else.
                tensors[f"{names[parameter]}/{key}"] = value.detach().clone(memory_format=torch.contiguous_format)
    return dict(sorted(tensors.items()))


def load_state_tensors(optimiser: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the optimiser's state to these tensors; what it had before is dropped. Nothing is changed on an error.

    Raises:
        CheckpointError: a name that is no parameter, a missing parameter, or another shape or type than it has.
    """
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    state: dict[Tensor, dict[str, Tensor]] = {}
    for label, tensor in tensors.items():
        name, _, key = label.rpartition("/")
        if name not in parameters or not key:
            raise CheckpointError(
                f"optimiser state {label!r} belongs to no parameter of the module; {nearest(name, parameters)}. "
                "Was it saved with another network?"
            )
        parameter = parameters[name]
        if tensor.dim() > 0 and (tensor.shape != parameter.shape or tensor.dtype != parameter.dtype):
            raise CheckpointError(
                f"optimiser state {label!r} is {tensor.dtype} of shape {tuple(tensor.shape)}; its parameter is "
                f"{parameter.dtype} of shape {tuple(parameter.shape)}. Was it saved at other widths?"
            )
        # Into the parameter's own memory format and device.
        held = torch.empty_like(parameter) if tensor.dim() > 0 else torch.empty_like(tensor)
        state.setdefault(parameter, {})[key] = held.detach().copy_(tensor)
    missing = [name for name in parameters if parameters[name] not in state]
    if state and missing:
        raise CheckpointError(
            f"optimiser state is missing for {missing[0]!r} and {len(missing) - 1} other parameters: the file is "
            "incomplete; resume from the stage before it"
        )
    optimiser.state.clear()
    optimiser.state.update(state)
