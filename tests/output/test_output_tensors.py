"""Tensor files come back equal, are the same bytes for the same content, and notice every changed byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energysplit.errors import CheckpointError
from energysplit.output.tensors import load_tensors, save_tensors


def some_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 5, 5, generator=generator)
    return {
        "weight": weight,
        "last": weight.to(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 7, generator=generator).T,
        "slice": weight[1:3, :, ::2],
        "shared": weight[0],
        "double": torch.randn(2, dtype=torch.float64, generator=generator),
        "half": torch.randn(2, 2, generator=generator).bfloat16(),
        "num_batches_tracked": torch.tensor(12345678901, dtype=torch.int64),
        "scalar": torch.tensor(0.25),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }


def test_roundtrip(tmp_path: Path) -> None:
    tensors = some_tensors()
    metadata = {"solver": "lobpcg", "images": 2048, "groups": ["a", "b"], "none": None}
    save_tensors(tmp_path / "x.safetensors", tensors, metadata)
    loaded, found = load_tensors(tmp_path / "x.safetensors")
    assert found == metadata
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.detach())


def test_loaded_tensors_can_be_written_to(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"a": torch.zeros(2), "b": torch.zeros(2)})
    loaded, _ = load_tensors(tmp_path / "x")
    loaded["a"] += 1
    assert loaded["b"].sum() == 0


def test_same_content_same_bytes(tmp_path: Path) -> None:
    first = save_tensors(tmp_path / "a", some_tensors(), {"b": 1, "a": 2})
    again = save_tensors(tmp_path / "b", dict(reversed(some_tensors().items())), {"a": 2, "b": 1})
    assert first == again
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}
    save_tensors(path, tensors, {"images": 2048})
    whole = path.read_bytes()
    messages: list[str] = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.Random(place).randrange(8)
        path.write_bytes(damaged)
        try:
            loaded, metadata = load_tensors(path)
        except CheckpointError as error:
            messages.append(str(error))
            continue
        # Padding blanks of the header mean nothing; what means something came back unchanged.
        assert metadata == {"images": 2048}
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert len(messages) > 0.9 * len(whole)
    assert all("index.safetensors" in message for message in messages)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 40, -1])
def test_truncated(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, some_tensors())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load_tensors(path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_garbage(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "garbage.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"garbage\.safetensors"):
        load_tensors(path)


def test_missing_folder_and_other_digest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere.*can't be read: No such file"):
        load_tensors(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="can't be read: Is a directory"):
        load_tensors(tmp_path)
    digest = save_tensors(tmp_path / "x", {"a": torch.zeros(1)})
    assert load_tensors(tmp_path / "x", digest)[0].keys() == {"a"}
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {digest}, 00 expected"):
        load_tensors(tmp_path / "x", "00")
