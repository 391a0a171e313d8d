"""Modules that hold computed tensors, which torch refuses to copy."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune, weight_norm

import energysplit as es


def pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.3)


def normed(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old way; the new one computes nothing ahead
        weight_norm(layer)


@pytest.mark.parametrize("change", [pruned, normed])
def test_a_network_grows_and_is_read_again_after_a_training_step(change, tmp_path):
    def seed() -> nn.Sequential:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.SiLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
        change(model[4])
        return model

    model, x, y = seed(), torch.randn(4, 3, 12, 12), torch.arange(4)
    net = es.trace(model, x)
    F.cross_entropy(model(x), y).backward()
    assert not model[4].weight.is_leaf  # what torch refuses to copy
    grown = es.split(net, {"0": [0, 3]})
    assert grown.widths["0"] == 8
    torch.testing.assert_close(grown.module(x), model(x))
    F.cross_entropy(grown.module(x), y).backward()
    es.save(grown, tmp_path / "grown")
    start = seed()
    F.cross_entropy(start(x), y).backward()
    torch.testing.assert_close(es.load(tmp_path / "grown", model=start).module(x), grown.module(x))
    assert es.split(grown, {"0": [1]}).widths["0"] == 9
