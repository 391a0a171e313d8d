"""Splitting indices on disk: enough to solve again under another budget without estimating again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from energysplit.errors import CheckpointError
from energysplit.output.tensors import load_tensors, save_tensors
from energysplit.types import SplitIndex

INDEX_FILE = "index.safetensors"

_KINDS = ("direction", "outgoing")


def save_index(path: Path | str, index: Mapping[str, SplitIndex]) -> str:
    """Write the indices of all groups; returns the SHA-256 of the file."""
    tensors: dict[str, Tensor] = {}
    facts = {}
    for name, found in index.items():
        tensors[f"{name}/value"] = found.value
        tensors[f"{name}/residual"] = found.residual
        for key in ("stderr", "same_images"):
            values = getattr(found, key)
            if values is not None:
                tensors[f"{name}/{key}"] = values
        for kind in _KINDS:
            for layer, direction in getattr(found, kind).items():
                tensors[f"{name}/{kind}/{layer}"] = direction
        facts[name] = {
            "images": found.images,
            "solver": found.solver,
            "held_out": found.held_out,
            "sweeps": found.sweeps,
        }
    return save_tensors(path, tensors, {"groups": facts})


def load_index(path: Path | str) -> dict[str, SplitIndex]:
    """The indices that `save_index` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else; the message names it.
    """
    tensors, metadata = load_tensors(path)
    try:
        return {
            name: SplitIndex(
                value=tensors[f"{name}/value"],
                **{kind: _by_layer(tensors, f"{name}/{kind}/") for kind in _KINDS},
                stderr=tensors.get(f"{name}/stderr"),
                residual=tensors[f"{name}/residual"],
                images=int(facts["images"]),
                solver=str(facts["solver"]),
                held_out=bool(facts["held_out"]),
                same_images=tensors.get(f"{name}/same_images"),
                sweeps=float(facts["sweeps"]),
            )
            for name, facts in metadata["groups"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} holds no splitting indices ({type(error).__name__}: {error})") from error


def _by_layer(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Layer -> the tensor stored for it."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
