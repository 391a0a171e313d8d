"""Torchvision's and timm's models by name: what is built, what is refused, and what a file may make them do."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torchvision
from torch import nn

import energysplit as es
from energysplit import models
from energysplit.errors import CheckpointError, DataError, InputError, MissingExtra
from energysplit.models import timm_models

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm: pip install timm")


def test_a_torchvision_model_is_built_with_its_own_arguments_and_says_how():
    module = models.build("torchvision:resnet18", num_classes=7, width_per_group=64)
    assert isinstance(module, torchvision.models.ResNet)
    assert module.fc.out_features == 7
    args = {"num_classes": 7, "width_per_group": 64}
    assert module.energysplit_builder == {"name": "torchvision:resnet18", "args": args}


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out_unless_asked_for(name, recwarn):
    module = models.build(f"torchvision:{name}", num_classes=5)
    assert not any("aux" in key.lower() for key in module.state_dict())
    assert [str(w.message) for w in recwarn if "init_weights" in str(w.message)] == []
    models.check_image(module, models.default_image(f"torchvision:{name}"), classes=5)
    asked = models.build(f"torchvision:{name}", num_classes=5, aux_logits=True)
    assert any("aux" in key.lower() for key in asked.state_dict())
    with pytest.raises(DataError, match=r"in training mode; one tensor .* \(model.args.aux_logits = false\)"):
        models.check_image(asked, models.default_image(f"torchvision:{name}"), classes=5)


def test_nothing_is_fetched_by_models_that_take_trained_backbones(monkeypatch):
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("something is fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    assert models.build("torchvision:lraspp_mobilenet_v3_large", num_classes=3)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("torchvision:resnet50", (3, 224, 224)),
        ("torchvision:inception_v3", (3, 299, 299)),
        ("mobilenet_v2_cifar", (3, 32, 32)),
    ],
)
def test_images_are_those_the_model_is_meant_for(name, image):
    assert models.default_image(name) == image


def test_an_image_size_in_the_arguments_is_the_models():
    assert models.default_image("torchvision:vit_b_16", {"image_size": 96}) == (3, 96, 96)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("mobilenet_v2", "mobilenet_v2"),
        ("resnet50", "torchvision:resnet50"),
        ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2"),
        ("my_models:Net", "my_models:Net"),
    ],
)
def test_short_names_are_registered_ones_then_torchvisions(short, full):
    assert models.resolve(short) == full


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("resnet50", {}, "unknown model 'resnet50'; did you mean 'torchvision:resnet50'\\? "),
        ("resnt50", {}, "did you mean 'torchvision:resnet50' or 'torchvision:resnet"),
        ("torchvision:resnt50", {}, "unknown model 'torchvision:resnt50'; did you mean 'torchvision:resnet50'"),
        ("torchvision:get_model", {}, "unknown model 'torchvision:get_model'"),
        ("torchvision:7", {}, "torchvision.models.list_models\\(\\) lists those it has"),
        (
            "torchvision:resnet18",
            {"numclasses": 3},
            "unexpected keyword argument 'numclasses' \\(arguments: num_classes",
        ),
        ("torchvision:resnet18", {"num_classes": "three"}, "can't be built with {'num_classes': 'three'}"),
        ("torchvision:fcn_resnet50", {"weights_backbone": "DEFAULT"}, "takes no argument 'weights_backbone' here"),
    ],
)
def test_wrong_names_and_arguments_are_refused(name, args, message):
    with pytest.raises(InputError, match=message):
        models.build(name, **args)


def test_without_timm_its_models_say_how_to_get_it_and_nothing_else_needs_it(monkeypatch):
    monkeypatch.setattr(timm_models, "find_spec", lambda name: None)
    for call in (models.build, models.default_image):
        with pytest.raises(MissingExtra, match="timm, which is not installed: pip install timm"):
            call("timm:repvgg_a0")
    with pytest.raises(InputError, match="unknown model 'repvgg_a0'; \\(built in: "):
        models.resolve("repvgg_a0")


@needs_timm
def test_a_timm_model_is_built_with_its_own_arguments():
    module = models.build("timm:mobilenetv3_small_050", num_classes=4, in_chans=1)
    assert module.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 4)
    assert module.energysplit_builder["name"] == "timm:mobilenetv3_small_050"
    assert models.resolve("repvgg_a0") == "timm:repvgg_a0"
    assert models.default_image("timm:efficientnet_lite4") == (3, 380, 380)
    assert models.default_image("timm:vit_tiny_patch16_224", {"img_size": 96, "in_chans": 1}) == (1, 96, 96)


@needs_timm
@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("timm:repvgg_a", {}, "unknown model 'timm:repvgg_a'; did you mean 'timm:repvgg_a"),
        ("timm:hf_hub:somebody/something", {}, "timm.list_models\\(\\) lists those it has"),
        ("timm:create_model", {}, "unknown model 'timm:create_model'"),
        ("timm:resnet18", {"pretrained": True}, "takes no argument 'pretrained' here; set weights"),
        ("timm:resnet18", {"pretrained_cfg_overlay": {"file": "x"}}, "takes no argument 'pretrained_cfg_overlay' here"),
        ("timm:resnet18", {"checkpoint_path": "x.pth"}, "takes no argument 'checkpoint_path' here"),
        ("timm:resnet18", {"num_clases": 3}, "can't be built with {'num_clases': 3}"),
    ],
)
def test_wrong_timm_names_and_arguments_are_refused(name, args, message):
    with pytest.raises(InputError, match=message):
        models.build(name, **args)


STOCK = [
    ("torchvision:regnet_y_400mf", {"num_classes": 3}),
    ("torchvision:swin_t", {}),
    ("torchvision:googlenet", {"transform_input": True}),
    ("mobilenet_v2", {"width_multiplier": 0.25}),
    pytest.param("timm:ghostnet_100", {"num_classes": 3}, marks=needs_timm),
    pytest.param("timm:vit_small_patch16_rope_mixed_ape_224", {}, marks=needs_timm),
]


@pytest.mark.parametrize(("name", "args"), STOCK)
def test_shapes_are_known_without_memory_and_without_touching_the_random_state(name, args):
    state = torch.random.get_rng_state()
    shapes = models.shapes(name, args)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert shapes == {key: tensor.shape for key, tensor in models.build(name, **args).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "torch.nn:Linear",
            {"in_features": 2, "out_features": 2},
            "is not built in, and code that a file names is not",
        ),
        ("torchvision:resnet18", {"weights": "any.pth"}, "a file of weights that another file names is not read"),
        ("mobilenet_v2", {"weights": "any.pth"}, "a file of weights that another file names is not read"),
        ("torchvision:resnet18", {"name": "x"}, "unexpected keyword argument 'name'"),
    ],
)
def test_what_a_file_names_runs_no_code_and_reads_no_file(name, args, message):
    for call in (models.rebuild, models.shapes):
        with pytest.raises(InputError, match=message):
            call(name, args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("torchvision:mobilenet_v3_small", {"num_classes": 3}),
        ("torchvision:regnet_x_400mf", {"num_classes": 3}),
        pytest.param("timm:ghostnet_100", {"num_classes": 3}, marks=needs_timm),
    ],
)
def test_a_grown_one_is_saved_and_loaded_without_its_seed(name, args, tmp_path):
    net = es.trace(models.build(name, **args), torch.randn(2, 3, 64, 64))
    chosen = {group: [0] for group in net.groups if net.groups[group].splittable}
    grown = es.split(net, chosen)
    loaded = es.load(es.save(grown, tmp_path / "grown"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.module(images), grown.module.eval()(images))


def test_a_checkpoint_that_names_a_file_or_code_is_refused(tmp_path):
    module = models.build("torchvision:squeezenet1_1", num_classes=3)
    net = es.trace(module, torch.zeros(1, 3, 64, 64))
    for number, (name, args) in enumerate(
        [("torchvision:squeezenet1_1", {"weights": "DEFAULT"}), ("torchvision.models:squeezenet1_1", {})]
    ):
        module.energysplit_builder = {"name": name, "args": args}
        folder = es.save(net, tmp_path / str(number))
        with pytest.raises(CheckpointError):
            es.load(folder)


def test_images_a_stock_model_cannot_take_are_refused_in_its_own_words():
    with pytest.raises(DataError, match="torchvision's models take colour images only"):
        models.check_image(models.build("torchvision:resnet18"), (1, 32, 32))
    with pytest.raises(DataError, match=r"set model.args.num_classes = 10"):
        models.check_image(models.build("torchvision:resnet18"), (3, 32, 32), classes=10)
    with pytest.raises(DataError, match="Wrong image height"):
        models.check_image(models.build("torchvision:vit_b_16", num_classes=3), (3, 64, 64))
    with pytest.raises(DataError, match="gives a OrderedDict in eval mode"):
        models.check_image(models.build("torchvision:lraspp_mobilenet_v3_large"), (3, 64, 64), classes=21)


def test_a_model_of_the_users_own_may_still_live_in_torchvision():
    module = models.build("torchvision.models:resnet18", num_classes=3)
    assert isinstance(module.fc, nn.Linear)
    assert not models.built_in("torchvision.models:resnet18")
