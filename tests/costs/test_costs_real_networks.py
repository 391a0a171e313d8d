"""Prices of traced networks against what torch counts, and against networks really split."""

from __future__ import annotations

import branched
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import energysplit as es
from energysplit.costs import NetworkPricer
from energysplit.models import build


def mobilenet(multiplier: float) -> es.Network:
    return es.trace(build("mobilenet_v1", width_multiplier=multiplier), torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize(("multiplier", "expected"), [(1.0, 568.74), (0.5, 149.50), (0.25, 41.03)])
def test_mobilenet_v1_has_the_published_macs(multiplier: float, expected: float) -> None:
    net = mobilenet(multiplier)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.module.eval()(net.example_input)
    macs = es.price(net, "macs")
    assert macs.value == counter.get_total_flops() / 2
    assert f"{macs.value / 1e6:.2f}" == f"{expected:.2f}"
    assert es.price(net, "params").value == sum(weight.numel() for weight in net.module.parameters())


SMALL = {
    "mobilenet_v1_cifar": ((3, 32, 32), {}),
    "vgg": ((3, 16, 16), {"widths": [4, "M", 6, "M"]}),
    "cnn": ((3, 16, 16), {}),
    "mlp": ((3, 4, 4), {"image": [3, 4, 4], "batch_norm": True}),
}


@pytest.mark.parametrize("name", SMALL)
def test_marginal_prices_are_those_of_networks_really_split(name: str) -> None:
    shape, arguments = SMALL[name]
    net = es.trace(build(name, **arguments), torch.zeros(1, *shape))
    for provider in ("macs", "params"):
        before, marginal = es.price(net, provider).value, es.marginal_price(net, provider)
        for group in (group for group in net.groups.values() if group.splittable):
            grown = es.trace(es.split(net, {group.name: [0]}).module, net.example_input)
            assert es.price(grown, provider).value - before == marginal[group.name], (provider, group.name)
    assert es.price(grown, "params").value == sum(weight.numel() for weight in grown.module.parameters())


@pytest.mark.parametrize("family", branched.FAMILIES)
def test_branched_networks_are_priced_whole(family: str) -> None:
    """Shared dimensions, several runs, blocks, shared weights: counted as torch does, before and after splits."""
    net = branched.network(family)
    grown = es.split(net, {name: [0, net.widths[name] - 1] for name in branched.splittable(net)})
    for each in (net, grown):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            each.module.eval()(each.example_input[:1])
        assert es.price(each, "macs").value == counter.get_total_flops() / 2
        assert es.price(each, "params").value == sum(weight.numel() for weight in each.module.parameters())
    for provider in ("macs", "params"):
        assert NetworkPricer(net, provider).price(grown.widths) == es.price(grown, provider)
        before, marginal = es.price(net, provider).value, es.marginal_price(net, provider)
        for name in branched.splittable(net):
            assert es.price(es.split(net, {name: [0]}), provider).value - before == marginal[name], (provider, name)


def test_params_of_batch_norms_without_scale() -> None:
    layers = [
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.Flatten(),
    ]
    net = es.trace(nn.Sequential(*layers, nn.BatchNorm1d(64), nn.Linear(64, 2)), torch.zeros(2, 3, 4, 4))
    assert es.price(net, "params").value == sum(parameter.numel() for parameter in net.module.parameters())


class SharedNorm(nn.Module):
    """Two branches that one batch norm normalises, in front of an activation or not."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.activation, self.fc = activation, nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = (self.activation(self.norm(conv(x))) for conv in (self.a, self.b))
        return self.fc((a + b).mean((2, 3)))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Identity()])
def test_a_batch_norm_behind_two_layers_is_counted_once(activation: nn.Module) -> None:
    net = es.trace(SharedNorm(activation), torch.zeros(2, 3, 8, 8))
    for each in (net, es.split(net, {"a": [0, 3]})):
        assert es.price(each, "params").value == sum(weight.numel() for weight in each.module.parameters())
