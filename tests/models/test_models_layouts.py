"""Layouts of the built-in models: published MAC counts, layer counts, free widths, images they refuse."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from energysplit import models
from energysplit.errors import DataError


def counted_macs(module, image):
    """Multiply-accumulates of convolutions and linear layers, without biases, by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(1, *image))
    return counter.get_total_flops() / 2


def macs_by_hand(widths):
    """MobileNetV1's MACs from Howard et al., table 1, in a second way: sizes and strides written out."""
    sizes = (112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7)
    total = 112 * 112 * 9 * 3 * widths[0]
    for (a, b), size in zip(pairwise(widths), sizes[1:], strict=True):
        total += size * size * (9 * a + a * b)
    return total + widths[-1] * 1000


# The 0.75x count is 325.400 M by both ways here (the reference list we were given says 325.39 M).
@pytest.mark.parametrize(("multiplier", "millions"), [(1.0, 568.74), (0.75, 325.40), (0.5, 149.50), (0.25, 41.03)])
def test_mobilenet_v1_has_the_published_macs(multiplier, millions):
    module = models.build("mobilenet_v1", width_multiplier=multiplier)
    macs = counted_macs(module, (3, 224, 224))
    assert round(macs / 1e6, 2) == millions
    assert macs == macs_by_hand([round(w * multiplier) for w in models.mobilenet_v1.IMAGENET_WIDTHS])


@pytest.mark.parametrize(("blocks", "convs", "strides"), [(3, 9, [2, 2, 2, 1]), (6, 15, [1, 2, 1, 2, 1, 2, 1])])
def test_cifar_variants_have_the_papers_layers(blocks, convs, strides):
    module = models.build("mobilenet_v1_cifar", blocks=blocks)
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == convs
    assert {layer.out_channels for layer in layers} == {8}
    assert [block.depthwise.stride[0] for block in module.blocks] == strides
    assert module.stem.conv.stride == (1, 1)


def test_module_names_say_what_they_are():
    convs = [
        name
        for name, layer in models.build("mobilenet_v1_cifar").named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    assert convs[:3] == ["stem.conv", "blocks.0.depthwise", "blocks.0.pointwise"]
    assert convs[-1] == "classifier"


def test_widths_are_free_and_the_depthwise_follows_its_input():
    widths = [5, 7, 11, 3, 9]
    module = models.build("mobilenet_v1_cifar", widths=widths)
    assert module.stem.conv.out_channels == 5
    assert [block.pointwise.out_channels for block in module.blocks] == widths[1:]
    assert [block.depthwise.groups for block in module.blocks] == widths[:-1]
    assert module(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_first_losses_are_near_log_classes_and_gradients_reach_the_first_layer():
    torch.manual_seed(0)
    for name in ("mobilenet_v1_cifar", "cnn", "vgg"):
        module = models.build(name)
        loss = nn.functional.cross_entropy(module(torch.randn(16, 3, 32, 32)), torch.arange(16) % 10)
        loss.backward()
        first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        assert abs(loss.item() - 2.303) < 0.6
        assert first.weight.grad.abs().max() > 1e-4


def test_vgg_and_cnn_options_reach_the_layers():
    vgg = models.build("vgg", widths=[4, 6, "M", 8], kernel=5, batch_norm=False)
    assert [hasattr(block, "pool") for block in vgg.blocks] == [False, True, False]
    assert all(block.conv.bias is not None and block.conv.kernel_size == (5, 5) for block in vgg.blocks)
    cnn = models.build("cnn", widths=[4, 6], strides=[2, 1], kernels=[1, 3], dropout=0.5)
    assert [block.conv.kernel_size[0] for block in cnn.blocks] == [1, 3]
    assert [block.conv.stride[0] for block in cnn.blocks] == [2, 1]
    assert cnn.dropout.p == 0.5


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("mobilenet_v1_cifar", (3, 4, 4), r"blocks.2.depthwise, of stride 2, only 1x1 is left. Images of 8x8 would do"),
        ("vgg", (3, 16, 16), r"3x16x16 .*blocks.6.pool.* Images of 32x32 would do"),
        ("cnn", (1, 32, 32), r"blocks.0.conv takes 3 channels.*model.args.in_channels = 1"),
        ("mlp", (1, 28, 28), r"blocks.0.linear takes 64 numbers, images of 1x28x28 bring 784"),
    ],
)
def test_images_the_model_cannot_take_are_refused(name, image, message):
    module = models.build(name, **({"widths": [4, "M"] * 3 + [4, 4, "M", 4, 4, "M"]} if name == "vgg" else {}))
    with pytest.raises(DataError, match=message):
        models.check_image(module, image)


def test_the_smallest_image_named_in_the_message_is_taken():
    models.check_image(models.build("mobilenet_v1_cifar"), (3, 8, 8), classes=10)
    models.check_image(models.build("mobilenet_v1", width_multiplier=0.25), (3, 32, 32), classes=1000)


def test_check_image_leaves_the_module_as_it_was():
    module = models.build("cnn").train()
    module.blocks[0].eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    models.check_image(module, (3, 32, 32))
    with pytest.raises(DataError, match=r"set model.args.classes = 100"):
        models.check_image(module, (3, 32, 32), classes=100)
    assert module.training
    assert not module.blocks[0].training
    assert not any(layer._forward_pre_hooks for layer in module.modules())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_errors_inside_a_users_forward_are_told_with_the_layer():
    class Odd(nn.Sequential):
        def forward(self, x):
            return super().forward(x).reshape(3, 7)

    with pytest.raises(DataError, match=r"'Odd' can't take images of 1x8x8 .* at 0: shape '\[3, 7\]' is invalid"):
        models.check_image(Odd(nn.Conv2d(1, 2, 3)), (1, 8, 8))
