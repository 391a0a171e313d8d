"""Stock networks of torchvision and timm: split exactly, priced, saved, exported, trained, and predicted.

What takes long (all but one network of a family on disk, most ONNX exports, some families' predictions) runs with
ENERGYSPLIT_ALL_NETWORKS=1 only; the page docs/supported.md is checked by what runs.
"""

from __future__ import annotations

import gc
import os
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from adversarial.judge import difference
from real_networks import HEAD, PAGE, PREDICTIONS, families, row
from stock_networks import FAMILIES, KINKED, NETWORKS, Real, counted_macs
from stock_predictions import kinked_checks, smooth_checks
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import energysplit as es

KEPT = 1e-9
ALL = os.environ.get("ENERGYSPLIT_ALL_NETWORKS") == "1"
# Joined branches, residuals, shuffled and depthwise convolutions.
EXPORTED = ("squeezenet1_1", "resnet18", "shufflenet_v2_x1_0")
SLOW_FAMILIES = ("resnext", "densenet", "inception", "convnext", "vit", "repvgg", "mixer")


@pytest.mark.skipif(ALL, reason="everything runs")
def test_what_a_long_run_adds() -> None:
    pytest.skip("ENERGYSPLIT_ALL_NETWORKS=1 adds all networks on disk, all ONNX exports, all families' predictions")


def present(real: Real) -> Real:
    """The network; skips where its package is not installed."""
    if real.missing:
        pytest.skip("needs timm: pip install timm")
    return real


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NETWORKS)
def test_stock_network(name: str, tmp_path: Path) -> None:
    """Split in single groups, in all groups, in all groups twice; then priced, saved, exported and trained."""
    real = present(NETWORKS[name])
    net = real.trace()
    assert row(real, net) in PAGE.read_text().splitlines(), "python tests/real_networks.py > docs/supported.md"

    x = real.images(2, seed=1)
    before = outputs(net, x)
    macs = assert_price_is_counted(net, real)
    chosen = some(net, 3)
    assert chosen
    for group in list(chosen)[:: max(1, len(chosen) // 3)][: 1 if real.heavy and not ALL else 3]:
        assert difference(before, outputs(es.split(net, {group: chosen[group]}), x)) < KEPT, group
    net = es.split(net, chosen)
    assert difference(before, outputs(net, x)) < KEPT
    net = es.split(net, some(net, 4))
    gc.collect()  # cycles hold the first network: gigabytes, for some
    assert difference(before, outputs(net, x)) < KEPT
    assert assert_price_is_counted(net, real) > macs

    if ALL or (FAMILIES[real.family] is real and not real.heavy):
        es.save(net, tmp_path / "grown")
        loaded = es.load(tmp_path / "grown", real.build(real.size))
        assert loaded.widths == net.widths
        assert difference(before, outputs(loaded, x)) < KEPT
        del loaded
        gc.collect()
    if ALL or name in EXPORTED:
        es.export_onnx(net, tmp_path / "grown.onnx")  # raises unless ONNX Runtime computes the same
    train(net, real.images(2, seed=2, size=real.training))


def some(net: es.Network, count: int) -> dict[str, list[int]]:
    """A few channels of each group that can be split: from the first to the last."""
    return {
        name: sorted({round(n * (group.channels - 1) / (count - 1)) for n in range(count)})
        for name, group in net.groups.items()
        if group.splittable
    }


def outputs(net: es.Network, x: Tensor) -> list[Tensor]:
    """The outputs in eval mode, without a copy of the module: some are large."""
    with torch.no_grad():
        return [net.module.eval()(x)]


def assert_price_is_counted(net: es.Network, real: Real) -> float:
    """The price in multiply-accumulates, which is what torch counts."""
    price = es.price(net, "macs").value
    assert price == counted_macs(net.module, real.images(1, size=real.training))
    return price


def train(net: es.Network, x: Tensor) -> None:
    """One step of stochastic gradient descent, of all outputs there are in train mode."""
    module = net.module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-3)
    losses = [F.cross_entropy(logits, torch.arange(len(x))) for logits in tree_leaves(module(x))]
    torch.stack(losses).sum().backward()
    parameters = list(module.parameters())
    assert sum(p.grad is not None and bool(p.grad.abs().max() > 0) for p in parameters) > 0.9 * len(parameters)
    optimiser.step()
    assert all(bool(torch.isfinite(p).all()) for p in parameters)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
def test_predicted_loss_change_is_that_of_the_split(family: str) -> None:
    real = present(FAMILIES[family])
    if family in SLOW_FAMILIES and not ALL:
        pytest.skip("ENERGYSPLIT_ALL_NETWORKS=1 only")
    checks = smooth_checks(real)
    assert len(checks) == 4
    assert max(check.error for check in checks) < 0.01, checks
    assert max(check.step for check in checks) == 1e-3
    line = next(line for line in PAGE.read_text().splitlines() if re.match(rf"\| {real.name} \| below", line))
    if ALL and family in KINKED:
        stated = [float(cell) for cell in line.split("|")[4:6]]
        found = [check.realised / check.predicted for check in kinked_checks(real)]
        assert found == pytest.approx(stated, abs=0.1), "python tests/real_networks.py > docs/supported.md"


@pytest.mark.parametrize(
    ("name", "options", "millions"),
    [
        ("mobilenet_v2", {}, 300.77),
        ("mobilenet_v2", {"width_mult": 0.75}, 209.07),
        ("mobilenet_v2", {"width_mult": 0.5}, 97.13),
    ],
)
def test_published_macs(name: str, options: dict[str, float], millions: float) -> None:
    module = NETWORKS[name].build(224, num_classes=1000, **options)
    macs = es.price(es.trace(module, torch.zeros(1, 3, 224, 224)), "macs").value
    assert f"{macs / 1e6:.2f}" == f"{millions:.2f}"


def test_the_page_has_a_row_for_each_network_and_each_family() -> None:
    text = PAGE.read_text()
    assert text.startswith(HEAD)
    assert PREDICTIONS in text
    assert re.findall(r"^\| (\w+) \| (?:torchvision|timm) ", text, re.M) == list(NETWORKS)
    assert re.findall(r"^\| (\w+) \| below ", text, re.M) == [FAMILIES[name].name for name in families()]


class WithMap(nn.Module):
    """A learnt map of all channels and positions is added, as positional embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.added, self.scale = nn.Parameter(torch.randn(1, 4, 8, 8)), nn.Parameter(torch.randn(6, 1, 1))
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((torch.relu(self.next(torch.relu(self.conv(x) + self.added))) * self.scale).mean((2, 3)))


def test_parameters_of_several_dimensions_are_priced_with_the_channels_they_follow():
    """They were taken for fixed, so that a budget of parameters could be exceeded."""
    net = es.trace(WithMap(), torch.randn(2, 3, 8, 8))
    assert es.marginal_price(net, "params")["conv"] == 3 * 9 + 1 + 64 + 6
    for chosen in ({"conv": [1]}, {"conv": [0, 3], "next": [2]}, {"next": [0, 1, 2]}):
        grown = es.split(net, chosen)
        parameters = sum(p.numel() for p in grown.module.parameters())
        assert es.price(net, "params", grown.widths).value == parameters
        assert es.price(grown, "params").value == parameters
