"""MobileNetV2: torchvision's function at its widths, the published counts, the paper's seed, every width free."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import energysplit as es
from energysplit import models
from energysplit.errors import InputError

# Widths of the authors' program for ImageNet, in its order; it counts 0.039 G multiply-accumulates.
PAPERS_SEED = {
    "stem": 11,
    "trunk": [6, 8, 8, 11, 11, 11, 22, 22, 22, 22, 33, 33, 33, 56, 56, 56, 112],
    "hidden": [30, 40, 40, 55, 55, 55, 110, 110, 100, 110, 165, 165, 165, 280, 280, 280],
    "last": 448,
    "shortcut": "projection",
    "activation": "silu",
}
SMALL = {"stem": 3, "trunk": [4, 5, 3, 6, 4, 5, 7], "hidden": list(range(3, 19)), "last": 9}


def counted_macs(module, side):
    """Multiply-accumulates by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2


def randomised(module):
    """The module in float64 with its batch norms' statistics and scales random, so that an output shows them."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.running_var, layer.weight.data):
                tensor.uniform_(0.5, 1.5)
            for tensor in (layer.running_mean, layer.bias.data):
                tensor.normal_(std=0.1)
    return module.double().eval()


@pytest.mark.parametrize("multiplier", [1.4, 1.0, 0.75, 0.5, 0.35])
def test_it_is_torchvisions_function_with_its_layers_in_their_order(multiplier):
    torch.manual_seed(0)
    theirs = randomised(torchvision.models.mobilenet_v2(width_mult=multiplier))
    ours = models.build("mobilenet_v2", width_multiplier=multiplier).double().eval()
    given = theirs.state_dict()
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in given.values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), given.values(), strict=True)))
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("args", "millions", "parameters"),
    [
        ({}, 300.77, 3_504_872),
        ({"width_multiplier": 0.75}, 209.07, 2_636_424),
        ({"width_multiplier": 0.5}, 97.13, 1_968_680),
        (PAPERS_SEED, 39.11, 710_760),
    ],
)
def test_counts_are_the_published_ones(args, millions, parameters):
    module = models.build("mobilenet_v2", **args)
    macs = counted_macs(module, 224)
    assert round(macs / 1e6, 2) == millions
    assert sum(p.numel() for p in module.parameters()) == parameters
    net = es.trace(module, torch.zeros(1, 3, 224, 224))
    assert es.price(net, "macs").value == macs


def test_the_cifar_layout_keeps_the_resolution_until_the_third_stage():
    module = models.build("mobilenet_v2_cifar", width_multiplier=0.25).eval()
    sizes = {}

    def note(name, output):
        sizes[name] = output.shape[-1]

    for name, layer in module.named_modules():
        layer.register_forward_hook(lambda layer, _, output, name=name: note(name, output))
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert [sizes[f"blocks.{block}"] for block in range(17)] == [32] * 3 + [16] * 3 + [8] * 7 + [4] * 4
    assert sizes["stem"] == 32
    assert (type(module.stem.act), type(module.blocks[3].depthwise.act)) == (nn.SiLU, nn.SiLU)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v2_cifar"])
def test_every_channel_space_has_a_width_of_its_own(name):
    net = es.trace(models.build(name, **SMALL, classes=10).double(), torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    assert [group for group in net.groups if not net.groups[group].splittable] == ["classifier"]
    hidden = [net.widths[f"blocks.{block}.expand.conv"] for block in range(1, 17)]
    assert hidden == SMALL["hidden"]
    first = [0, 1, 3, 6, 10, 13, 16]  # blocks that begin a stage
    assert [net.widths[f"blocks.{block}.project.conv"] for block in first] == SMALL["trunk"]
    assert (net.widths["stem.conv"], net.widths["last.conv"]) == (3, 9)
    assert len(net.widths) == 16 + 7 + 2 + 1


def test_projected_shortcuts_give_every_block_a_trunk_of_its_own():
    trunk = list(range(3, 20))
    args = {**SMALL, "trunk": trunk, "shortcut": "projection", "classes": 10}
    module = models.build("mobilenet_v2_cifar", **args)
    projected = [block for block in range(17) if module.blocks[block].shortcut is not None]
    assert projected == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    net = es.trace(module, torch.zeros(1, 3, 32, 32))
    found = [group for group in net.groups.values() if any(".project." in name for name in group.producers)]
    assert [group.channels for group in found] == trunk
    assert {len(group.producers) for group in found} == {1, 2}
    assert all(group.splittable for group in found)


@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_all_its_groups_split_without_changing_the_function(shortcut):
    torch.manual_seed(1)
    trunk = SMALL["trunk"] if shortcut == "identity" else [3] * 17
    module = models.build("mobilenet_v2_cifar", **{**SMALL, "trunk": trunk, "shortcut": shortcut})
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    net = es.trace(randomised(module), images)
    chosen = {name: [0, group.channels - 1] for name, group in net.groups.items() if group.splittable}
    grown = es.split(net, chosen)
    with torch.no_grad():
        expected = net.module(images)
        assert (grown.module(images) - expected).abs().max() < 1e-9 * expected.abs().max()
    assert grown.widths == {name: width + 2 * (name in chosen) for name, width in net.widths.items()}


def test_hidden_widths_follow_the_trunk_if_not_given():
    module = models.build("mobilenet_v2_cifar", trunk=[2, 3, 4, 5, 6, 7, 8])
    hidden = [block.expand.conv.out_channels for block in module.blocks if block.expand is not None]
    assert hidden == [12, 18, 18, 24, 24, 24, 30, 30, 30, 30, 36, 36, 36, 42, 42, 42]
    assert module.stem.conv.out_channels == 32


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"trunk": [8] * 6}, "6 widths in trunk given, 7 expected, one for each stage"),
        ({"trunk": [8] * 7, "shortcut": "projection"}, "7 widths in trunk given, 17 expected, one for each block"),
        ({"hidden": [8] * 17}, "17 widths in hidden given, 16 expected, one for each block but block 0"),
        ({"stem": 8, "last": 8, "width_multiplier": 0.5}, "give stem and last or width_multiplier, not both"),
        ({"shortcut": "none"}, "argument shortcut = 'none'"),
        ({"stem": 0}, "argument stem = 0"),
    ],
)
def test_other_widths_are_refused(args, message):
    with pytest.raises(InputError, match=message):
        models.build("mobilenet_v2", **args)


def test_the_first_loss_is_near_log_classes_and_gradients_reach_the_first_layer():
    torch.manual_seed(0)
    for args in ({}, {"shortcut": "projection"}):
        module = models.build("mobilenet_v2_cifar", width_multiplier=0.25, **args)
        loss = nn.functional.cross_entropy(module(torch.randn(16, 3, 32, 32)), torch.arange(16) % 10)
        loss.backward()
        assert abs(loss.item() - 2.303) < 0.6
        assert module.stem.conv.weight.grad.abs().max() > 1e-4
