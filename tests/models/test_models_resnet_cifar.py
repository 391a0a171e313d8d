"""ResNet for CIFAR: torchvision's resnet18 with another first convolution, every width free."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import energysplit as es
from energysplit import models
from energysplit.errors import InputError


def test_it_is_torchvisions_resnet18_with_a_3x3_first_convolution_and_no_pooling():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs = theirs.double().eval()
    ours = models.build("resnet_cifar").double().eval()
    given = theirs.state_dict()
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in given.values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), given.values(), strict=True)))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_each_trunk_is_one_group_and_each_block_has_hidden_channels_of_its_own():
    args = {"blocks": [1, 2, 1], "trunk": [3, 4, 5], "hidden": [6, 7, 8, 9]}
    net = es.trace(models.build("resnet_cifar", **args), torch.zeros(1, 3, 16, 16))
    assert list(net.widths.values()) == [3, 6, 7, 4, 8, 9, 5, 10]
    assert net.groups["stem.conv"].producers == ("stem.conv", "blocks.0.second.conv")
    assert set(net.groups["blocks.1.second.conv"].producers) == {
        "blocks.1.second.conv",
        "blocks.1.shortcut.conv",
        "blocks.2.second.conv",
    }
    assert all(group.splittable for name, group in net.groups.items() if name != "classifier")


def test_channels_double_with_each_stage_and_counts_are_the_usual_ones():
    net = es.trace(models.build("resnet_cifar"), torch.zeros(1, 3, 32, 32))
    assert es.price(net, "params").value == 11_173_962
    assert es.price(net, "macs").value == 555_422_720
    module = models.build("resnet_cifar", channels=5, blocks=[1, 1])
    assert [block.second.conv.out_channels for block in module.blocks] == [5, 10]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"trunk": [8]}, "1 widths in trunk given, 4 expected, one for each stage"),
        ({"hidden": [8]}, "1 widths in hidden given, 8 expected, one for each block"),
        ({"blocks": []}, "argument blocks"),
    ],
)
def test_other_widths_are_refused(args, message):
    with pytest.raises(InputError, match=message):
        models.build("resnet_cifar", **args)
