"""Named tensors and a little JSON in one safetensors file, with a digest that notices any changed byte.

safetensors holds plain numbers: reading a file runs no code from it. It checks its own structure but not its numbers,
so a digest over names, types, shapes, bytes and metadata is kept beside them.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from energysplit.errors import CheckpointError
from energysplit.output.atomic import write_bytes
from energysplit.plain_data import parse_json, read_file

_KEY = "energysplit"


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> str:
    """Write tensors and JSON metadata atomically; the same content gives the same bytes.

    Args:
        path: file to write.
        tensors: name -> tensor of any shape (0-dim too), layout, device and dtype; shared memory is written twice.
        metadata: anything `json` can write.

    Returns:
        SHA-256 of the file.
    """
    flat = {name: _plain(tensor) for name, tensor in tensors.items()}
    meta = dict(metadata or {})
    # One metadata key only: safetensors writes several in random order, and equal content must give equal files.
    header = json.dumps({"metadata": meta, "sha256": _digest(flat, meta)}, sort_keys=True)
    data = safetensors.save(flat, {_KEY: header})
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_tensors(path: Path | str, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the metadata of a file that `save_tensors` wrote.

    The file is read once, whole; memory is bounded by its size.

    Args:
        path: file to read.
        sha256: digest the whole file must have, if the caller knows it.

    Returns:
        Name -> tensor, and the metadata.

    Raises:
        CheckpointError: the file is missing, truncated, damaged or another than expected; the message names it.
    """
    path = Path(path)
    try:
        data = read_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}; {_ADVICE}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} can't be read: {error}; {_ADVICE}") from error
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise CheckpointError(
            f"{path} is damaged or another file: its SHA-256 is {found}, {sha256} expected; {_ADVICE}"
        )
    try:
        tensors = safetensors.load(data)
        (length,) = struct.unpack_from("<Q", data)
        header = parse_json(parse_json(data[8 : 8 + length])["__metadata__"][_KEY])
        meta, digest = header["metadata"], header["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, struct.error) as error:
        raise CheckpointError(
            f"{path} is no tensor file of energysplit, or it is damaged ({type(error).__name__}: {error}); {_ADVICE}"
        ) from error
    if not isinstance(meta, dict) or _digest(tensors, meta) != digest:
        raise CheckpointError(f"{path} is damaged: its content does not match the digest it carries; {_ADVICE}")
    return tensors, meta


_ADVICE = "restore it from a copy, or go back to the stage before it"


def _plain(tensor: Tensor) -> Tensor:
    """The tensor on the CPU in memory of its own, row by row (channels-last tensors are contiguous otherwise)."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 over metadata and every tensor's name, dtype, shape and bytes, names sorted."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(errors="surrogatepass"))
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
