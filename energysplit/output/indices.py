"""Splitting indices on disk: enough to solve again under another budget without estimating again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from energysplit.errors import CheckpointError, nearest
from energysplit.graph import Network
from energysplit.kinds import FRESH, PAIR
from energysplit.output.tensors import load_tensors, save_tensors
from energysplit.types import SplitIndex

INDEX_FILE = "index.safetensors"

_KINDS = ("direction", "outgoing")


def save_index(path: Path | str, index: Mapping[str, SplitIndex]) -> str:
    """Write the indices of all groups, both ends of the spectrum if they have them; returns the file's SHA-256."""
    tensors: dict[str, Tensor] = {}
    facts = {name: _written(tensors, name, found) for name, found in index.items()}
    return save_tensors(path, tensors, {"groups": facts})


def load_index(path: Path | str) -> dict[str, SplitIndex]:
    """The indices that `save_index` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else; the message names it.
    """
    tensors, metadata = load_tensors(path)
    try:
        return {name: _read(tensors, name, facts) for name, facts in metadata["groups"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} holds no splitting indices ({type(error).__name__}: {error})") from error


def check_index(index: Mapping[str, SplitIndex], net: Network, where: Path | str) -> None:
    """Refuse indices of another network: to be called by whoever loads an index for a network.

    Args:
        index: indices, of any of the network's groups.
        net: the network they are to be used with.
        where: the file they come from, for the message.

    Raises:
        CheckpointError: a group is not the network's, has other neurons there, or directions of other layers or shapes.
    """
    for name, found in index.items():
        if name not in net.groups:
            raise CheckpointError(
                f"{where}: holds indices of a group {name!r}, which this network does not have "
                f"({nearest(name, net.groups)}); {_ADVICE}"
            )
        group = net.groups[name]
        for end in (found, found.upper):
            if end is None:
                continue
            for values in (end.value, end.stderr, end.residual, end.same_images):
                if values is not None and values.shape != (group.channels,):
                    raise CheckpointError(
                        f"{where}: group {name!r} has {values.numel()} neurons there, {group.channels} in this "
                        f"network; {_ADVICE}"
                    )
            for kind, layers in (("direction", group.movers), ("outgoing", group.consumers)):
                what = "direction" if kind == "direction" else "outgoing direction"
                given: dict[str, Tensor] = getattr(end, kind)
                if (kind == "direction" and set(given) != set(layers)) or not set(given) <= set(layers):
                    raise CheckpointError(
                        f"{where}: group {name!r} has {what}s for the layers {sorted(given)} there; in this network it "
                        f"has {sorted(layers)}; {_ADVICE}"
                    )
                for layer, tensor in given.items():
                    if tensor.shape != (expected := net.weight(layer).shape):
                        raise CheckpointError(
                            f"{where}: group {name!r} has {what} of shape {tuple(tensor.shape)} for {layer!r} there, "
                            f"whose weight is {tuple(expected)} in this network; {_ADVICE}"
                        )


_ADVICE = "use the indices of this very network, or estimate them again"


def _written(tensors: dict[str, Tensor], name: str, found: SplitIndex) -> dict[str, Any]:
    """Puts one index, and its other end, among the tensors; returns what is no tensor."""
    tensors[f"{name}/value"] = found.value
    tensors[f"{name}/residual"] = found.residual
    for key in ("stderr", "same_images"):
        values = getattr(found, key)
        if values is not None:
            tensors[f"{name}/{key}"] = values
    for kind in _KINDS:
        for layer, direction in getattr(found, kind).items():
            tensors[f"{name}/{kind}/{layer}"] = direction
    facts: dict[str, Any] = {
        "images": found.images,
        "solver": found.solver,
        "held_out": found.held_out,
        "sweeps": found.sweeps,
    }
    if found.kind != PAIR:
        facts["kind"] = found.kind
    if found.upper is not None:
        facts["upper"] = _written(tensors, f"{name}/upper", found.upper)
    return facts


def _read(tensors: Mapping[str, Tensor], name: str, facts: Mapping[str, Any]) -> SplitIndex:
    """One index, with its other end where the file has one."""
    return SplitIndex(
        value=tensors[f"{name}/value"],
        **{kind: _by_layer(tensors, f"{name}/{kind}/") for kind in _KINDS},
        stderr=tensors.get(f"{name}/stderr"),
        residual=tensors[f"{name}/residual"],
        images=int(facts["images"]),
        solver=str(facts["solver"]),
        held_out=bool(facts["held_out"]),
        same_images=tensors.get(f"{name}/same_images"),
        sweeps=float(facts["sweeps"]),
        kind=_kind(facts),
        upper=_read(tensors, f"{name}/upper", facts["upper"]) if "upper" in facts else None,
    )


def _kind(facts: Mapping[str, Any]) -> str:
    """What is grown by an index; the file says so where it is no pair.

    Raises:
        ValueError: it is none of what there is.
    """
    kind = facts.get("kind", PAIR)
    if kind not in (PAIR, FRESH):
        raise ValueError(f"kind {kind!r}; {PAIR!r} or {FRESH!r} expected")
    return str(kind)


def _by_layer(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Layer -> the tensor stored for it."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
