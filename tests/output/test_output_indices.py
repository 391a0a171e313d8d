"""Index files come back as they were, both ends of them, and those of another network are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cases
import pytest
import torch
import torch.nn.functional as F

import energysplit as es
from energysplit.errors import CheckpointError
from energysplit.output.indices import check_index, load_index, save_index
from energysplit.output.tensors import load_tensors, save_tensors
from energysplit.types import SplitIndex

BATCH = cases.images(12)


def indices(signed: bool, **options: object) -> dict[str, SplitIndex]:
    net = cases.network("cnn")
    return es.splitting_index(net, [BATCH], F.cross_entropy, sweeps=2, linear="outgoing", signed=signed, **options)


def same(one: SplitIndex, other: SplitIndex) -> None:
    for key in ("value", "stderr", "residual", "same_images"):
        a, b = getattr(one, key), getattr(other, key)
        assert (a is None and b is None) or torch.equal(a, b), key
    for key in ("direction", "outgoing"):
        a, b = getattr(one, key), getattr(other, key)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[layer], b[layer]) for layer in a), key
    for key in ("images", "solver", "held_out", "sweeps"):
        assert getattr(one, key) == getattr(other, key), key
    assert (one.upper is None) == (other.upper is None)
    if one.upper is not None and other.upper is not None:
        same(one.upper, other.upper)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("held_out", [None, [cases.images(1)]])
def test_round_trip(tmp_path: Path, signed: bool, held_out: object) -> None:
    index = indices(signed, held_out=held_out)
    digest = save_index(tmp_path / "one", index)
    again = load_index(tmp_path / "one")
    assert again.keys() == index.keys()
    for name, found in index.items():
        assert (found.upper is not None) == signed
        same(again[name], found)
    assert save_index(tmp_path / "two", again) == digest


def test_files_from_before_there_were_two_ends_still_load(tmp_path: Path) -> None:
    """An unsigned index is written as it always was: these keys and facts, and no others."""
    index = indices(signed=False)
    save_index(tmp_path / "new", index)
    tensors, metadata = load_tensors(tmp_path / "new")
    old = {}
    for name, found in index.items():
        old |= {f"{name}/{key}": getattr(found, key) for key in ("value", "residual", "stderr", "same_images")}
        old |= {f"{name}/direction/{layer}": tensor for layer, tensor in found.direction.items()}
        old |= {f"{name}/outgoing/{layer}": tensor for layer, tensor in found.outgoing.items()}
    assert tensors.keys() == old.keys()
    facts = {name: {"images": 12, "solver": "lobpcg", "held_out": False, "sweeps": 2.0} for name in index}
    assert metadata == {"groups": facts}
    save_tensors(tmp_path / "old", old, metadata)
    for name, found in load_index(tmp_path / "old").items():
        assert found.upper is None
        same(found, index[name])


def test_a_file_with_half_an_upper_end_is_refused(tmp_path: Path) -> None:
    save_index(tmp_path / "whole", indices(signed=True))
    tensors, metadata = load_tensors(tmp_path / "whole")
    del tensors["0/upper/value"]
    save_tensors(tmp_path / "half", tensors, metadata)
    with pytest.raises(CheckpointError, match=r"half holds no splitting indices \(KeyError: '0/upper/value'\)"):
        load_index(tmp_path / "half")
    metadata["groups"]["0"]["upper"] = 3
    save_tensors(tmp_path / "odd", tensors, metadata)
    with pytest.raises(CheckpointError, match="odd holds no splitting indices"):
        load_index(tmp_path / "odd")


def test_indices_of_a_network_belong_to_it() -> None:
    net = cases.network("cnn")
    for index in (indices(signed=False), indices(signed=True)):
        check_index(index, net, "index.safetensors")
        check_index({"0": index["0"]}, net, "index.safetensors")


def changed(index: dict[str, SplitIndex], upper: bool, **changes: object) -> dict[str, SplitIndex]:
    """The first group's index with something changed, at one of its ends."""
    first = index["0"]
    if upper:
        return {"0": replace(first, upper=replace(first.upper, **changes))}
    return {"0": replace(first, **changes)}


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": torch.zeros(6)}, "group '0' has 6 neurons there, 4 in this network"),
        ({"direction": {}}, r"directions for the layers \[\] there; in this network it has \['0'\]"),
        ({"direction": {"0": torch.zeros(4, 3, 3, 3)}}, r"shape \(4, 3, 3, 3\) for '0' there, .* is \(4, 3, 5, 5\)"),
        ({"outgoing": {"5": torch.zeros(1)}}, r"outgoing directions for the layers \['5'\] there; .* has \['2'\]"),
        (
            {"outgoing": {"2": torch.zeros(5)}},
            r"outgoing direction of shape \(5,\) for '2' there, .* is \(5, 4, 1, 1\)",
        ),
    ],
)
def test_indices_of_another_network_are_named(changes: dict[str, object], message: str, upper: bool) -> None:
    with pytest.raises(CheckpointError, match=f"run/index.safetensors: .*{message}.*; use the indices of this very"):
        check_index(changed(indices(signed=True), upper, **changes), cases.network("cnn"), "run/index.safetensors")


def test_indices_of_another_family_and_of_a_grown_network() -> None:
    with pytest.raises(CheckpointError, match=r"x: .*group '2', which this network does not have \(known: "):
        check_index({"2": indices(signed=False)["2"]}, cases.network("mlp"), "x")
    net = cases.network("cnn")
    with pytest.raises(CheckpointError, match="x: group '0' has 4 neurons there, 5 in this network"):
        check_index(indices(signed=False), es.split(net, {"0": [1]}), Path("x"))
    with pytest.raises(CheckpointError, match=r"outgoing direction of shape \(5, 4, 1, 1\) for '2' there"):
        check_index({"0": indices(signed=False)["0"]}, es.split(net, {"2": [1]}), "x")
