"""Trained weights from a file into a freshly built module: every tensor must have its place.

Files from strangers are expected: safetensors, or torch's own format read without running anything from it. Only the
classifier may differ, where the number of classes does; it then keeps its initial weights.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from energysplit.errors import InputError

SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt", ".safetensors")

# Where training programs put the tensors among other things, and what data-parallel training puts before names.
_INSIDE = ("state_dict", "model")
_WRAPPED = "module."

_LONGEST_TEXT = 20_000
_PICKLES = 4
"""Of a file in torch's format before 1.6: a number that says so, the version, the system, and the dictionary."""


def is_file(weights: str) -> bool:
    """Whether `weights` is meant as a path, not as a name."""
    return weights.endswith(SUFFIXES) or "/" in weights


def load_weights(
    module: nn.Module,
    file: Path,
    *,
    classifier: Collection[str] = (),
    unused: tuple[str, ...] = (),
    renamed: Callable[[str], str] = str,
) -> list[str]:
    """Fill the module in place; returns the tensors of the classifier that the file has none for.

    Args:
        module: freshly built.
        file: safetensors, or what `torch.save` wrote of a state dictionary, alone or under "state_dict" or "model".
        classifier: names of tensors whose shape depends on the number of classes; where the file's are missing or of
            another shape, the module keeps its own.
        unused: beginnings of names that the file may have and the module not.
        renamed: a name in the file -> a name in the module.

    Raises:
        InputError: the file can't be read as tensors, or tensors are missing, left over, of another shape
            or not finite.
    """
    given = {renamed(name): tensor for name, tensor in _read(file).items()}
    own = module.state_dict()
    kept = [name for name in classifier if name not in given or given[name].shape != own[name].shape]
    # Counters that files older than torch 0.4.1 lack; only a batch norm without momentum reads them.
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - given.keys() - set(kept) - optional)
    extra = sorted(name for name in given.keys() - own.keys() if not name.startswith(unused))
    wrong = sorted(
        f"{name} {_shape(given[name])} for {_shape(own[name])}"
        for name in own.keys() & given.keys()
        if name not in kept and given[name].shape != own[name].shape
    )
    for what, found in (("lack", missing), ("have unknown", extra), ("have tensors of another shape:", wrong)):
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise InputError(
                f"weights {file} {what} {', '.join(found[:3])}{more}; "
                "expected: those of this model with these arguments"
            )
    broken = sorted(name for name in given.keys() & own.keys() if not given[name].isfinite().all())
    if broken:
        raise InputError(
            f"weights {file}: {broken[0]} holds numbers that are not finite ({len(broken)} of {len(given)} "
            "tensors do); expected: those of a training that did not diverge"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if name in given and name not in kept:
                tensor.copy_(given[name])
    return kept


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    try:
        if file.exists() and not file.is_file():
            raise OSError("it is no ordinary file")
        if file.suffix == ".safetensors":
            return load_file(file)
        _check_archive(file)
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"weights {file} can't be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged file can make the reader stumble anywhere
        raise InputError(
            f"weights {file} can't be read: they are damaged, or hold more than tensors (a whole module? its code is "
            "not run); expected safetensors, or a state dictionary that torch.save wrote"
        ) from error
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"weights {file} hold no state dictionary: names with a tensor each expected")
    wrapped = bool(content) and all(str(name).startswith(_WRAPPED) for name in content)
    return {str(name).removeprefix(_WRAPPED) if wrapped else str(name): tensor for name, tensor in content.items()}


def _check_archive(file: Path) -> None:
    """Refuse what would keep torch busy without end; tensors are stored as they are, under short names.

    Raises:
        ValueError: the file is a zip that unpacks to more than itself, or holds texts so long that torch, whose search
            in its own message takes their square, would not come to its error.
    """
    if not zipfile.is_zipfile(file):
        with open(file, "rb") as content:
            for _ in range(_PICKLES):
                _check_texts(content)
        return
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > file.stat().st_size:
            raise ValueError("compressed")
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                _check_texts(io.BytesIO(archive.read(name)))


def _check_texts(content: IO[bytes]) -> None:
    """Read the opcodes of one pickle, without doing what they say."""
    for _, value, _ in pickletools.genops(content):
        if isinstance(value, str | bytes) and len(value) > _LONGEST_TEXT:
            raise ValueError("a text too long")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
