"""What is given in place of a network or of chosen neurons is named, or understood."""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from typing import Any

import cases
import pytest
import torch
import torch.nn.functional as F

import energysplit as es

BUDGETS = [es.Budget("macs", "1.5x")]
# Without the checks of types that tests put around functions of splitting and surgery.
CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "price": lambda net, _: es.price(net, "macs"),
    "marginal_price": lambda net, _: es.marginal_price(net, "macs"),
    "splitting_index": lambda net, _: unwrap(es.splitting_index)(net, [cases.images(2)], F.cross_entropy),
    "allocate": lambda net, _: es.allocate(net, {}, BUDGETS),
    "split": lambda net, _: unwrap(es.split)(net, {}),
    "save": lambda net, folder: es.save(net, folder / "checkpoint"),
    "export_onnx": lambda net, folder: es.export_onnx(net, folder / "model.onnx"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_model_in_place_of_a_network_is_named(name: str, tmp_path: Path) -> None:
    model = cases.network("cnn").module
    said = rf"a {type(model).__name__} is given as the network; expected what energysplit.trace\(model, example_input\)"
    with pytest.raises(es.InputError, match=said):
        CALLS[name](model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signed", [False, True])
def test_an_allocation_is_split_as_what_it_chose(signed: bool) -> None:
    net = cases.network("cnn")
    index = es.splitting_index(net, [cases.images(8)], F.cross_entropy, signed=signed)
    found = es.allocate(net, index, BUDGETS, mass=3.0 if signed else 1.0)
    assert any(found.chosen.values())
    whole = es.split(net, found, index, step=0.1).module.state_dict()
    parts = es.split(net, found.chosen, index, step=0.1, mass=found.mass).module.state_dict()
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in parts.items())
