"""Building models by name: what is stored, what is refused and how the message reads."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from energysplit import models
from energysplit.errors import InputError
from energysplit.models.activations import ACTIVATIONS

CHAINS = ["cnn", "mlp", "mobilenet_v1", "mobilenet_v1_cifar", "vgg"]
BUILT_IN = [*CHAINS, "mobilenet_v2", "mobilenet_v2_cifar", "resnet_cifar"]
SMALL = {
    "mobilenet_v1": {"width_multiplier": 0.25, "classes": 10},
    "mobilenet_v2": {"width_multiplier": 0.25, "classes": 10},
    "mobilenet_v2_cifar": {"width_multiplier": 0.25},
    "resnet_cifar": {"channels": 4},
    "vgg": {"widths": [4, "M", 4, "M", 8]},
}


def test_names_lists_the_built_in_models():
    assert set(BUILT_IN) <= set(models.names())
    assert all(models.built_in(name) for name in BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_model_runs_on_its_default_image_and_can_be_traced(name):
    args = SMALL.get(name, {})
    module = models.build(name, **args).eval()
    image = torch.randn(2, *models.default_image(name, args))
    with torch.no_grad():
        output = module(image)
        traced = torch.fx.symbolic_trace(module)
        assert torch.equal(traced(image), output)
    assert output.shape == (2, 10)
    joins = [node for node in traced.graph.nodes if len(node.all_input_nodes) > 1]
    assert bool(joins) == (name not in CHAINS)


@pytest.mark.parametrize("name", BUILT_IN)
def test_nothing_works_in_place(name):
    module = models.build(name, **SMALL.get(name, {}))
    assert not any(getattr(layer, "inplace", False) for layer in module.modules())


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_builder_is_stored_survives_a_copy_and_builds_the_same_shapes_again(name):
    module = copy.deepcopy(models.build(name, **SMALL.get(name, {})))
    builder = json.loads(json.dumps(module.energysplit_builder))
    again = models.build(builder["name"], **builder["args"])
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [
        (k, v.shape) for k, v in module.state_dict().items()
    ]


def test_weights_come_from_the_global_seed_only():
    torch.manual_seed(5)
    first = models.build("cnn")
    torch.manual_seed(5)
    second = models.build("cnn")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_can_be_chosen(activation):
    module = models.build("cnn", widths=[4], activation=activation)
    assert type(module.blocks[0].act) is type(ACTIVATIONS[activation]())


def test_own_models_are_built_by_module_and_callable():
    module = models.build("torch.nn:Linear", in_features=3, out_features=2)
    assert isinstance(module, nn.Linear)
    assert module.energysplit_builder == {"name": "torch.nn:Linear", "args": {"in_features": 3, "out_features": 2}}


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("mobilnet_v1", {}, "unknown model 'mobilnet_v1'; did you mean 'mobilenet_v1'"),
        ("mobilenet_v1", {"width": 3}, "no argument 'width'; did you mean 'widths'"),
        ("mobilenet_v1", {"widths": [8, 8]}, "2 widths given, 14 expected"),
        ("mobilenet_v1", {"widths": [8] * 14, "width_multiplier": 0.5}, "widths or width_multiplier, not both"),
        ("mobilenet_v1", {"classes": "10"}, "argument classes = '10': input should be a valid integer"),
        ("mobilenet_v1", {"classes": True}, "argument classes = True"),
        ("mobilenet_v1", {"width_multiplier": -1.0}, "argument width_multiplier = -1.0: .*greater than 0"),
        ("mobilenet_v1_cifar", {"blocks": 2}, "argument blocks = 2: .*greater than or equal to 3"),
        ("mobilenet_v1_cifar", {"widths": [8] * 4}, "4 widths given, 5 expected"),
        ("vgg", {"widths": ["M", 8]}, 'each "M" must follow'),
        ("vgg", {"widths": []}, "at least one convolution"),
        ("vgg", {"kernel": 4}, "kernel 4 is even"),
        ("cnn", {"strides": [1]}, "1 strides given, 3 expected"),
        ("cnn", {"widths": [8, 0]}, "argument widths"),
        ("cnn", {"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        ("mlp", {"image": [8, 8]}, "argument image"),
        ("cnn", {"widths": torch.ones(3)}, "so that checkpoints can hold them"),
        ("torch.nn:Linea", {}, "has no 'Linea'; did you mean 'Linear'"),
        ("torch.nn:Linear", {"in_feature": 3}, "no argument 'in_feature'; did you mean 'in_features'"),
        ("torch.nn:Linear", {"in_features": 3}, "missing a required argument: 'out_features'"),
        ("no_such_module_here:Net", {}, "module 'no_such_module_here' can't be imported"),
        ("torch.nn:", {}, "expected 'module:callable'"),
        ("json:dumps", {"obj": 1}, "expected it to make a torch.nn.Module, got str"),
    ],
)
def test_wrong_input_is_refused_with_one_clear_message(name, args, message):
    with pytest.raises(InputError, match=message):
        models.build(name, **args)


def test_what_the_users_builder_raises_is_said_with_its_place(tmp_path, monkeypatch):
    (tmp_path / "their_nets.py").write_text(
        "from torch import nn\n\ndef make(**options):\n    return nn.Flatten(**options)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = (
        r"model 'their_nets:make': their_nets.py, line 4: TypeError: .*'widths'.*does it take widths = 3 \(model.args\)"
    )
    with pytest.raises(InputError, match=said):
        models.build("their_nets:make", widths=3)
    (tmp_path / "their_weights.py").write_text(
        "import torch\n\ndef make(file):\n    net = torch.nn.Linear(2, 3)\n"
        "    net.load_state_dict(torch.load(file) if file else {})\n    return net\n"
    )
    for file, error in (
        ("none.pt", "line 5: FileNotFoundError: .*none.pt"),
        ("", "line 5: RuntimeError: .*Missing key"),
    ):
        with pytest.raises(InputError, match=rf"(?s)model 'their_weights:make': their_weights.py, {error}"):
            models.build("their_weights:make", file=file)
    with pytest.raises(InputError, match=r"torch.nn:Linear': linear.py, line \d+: TypeError"):
        models.build("torch.nn:Linear", in_features="three", out_features=2)


def test_default_image_follows_the_arguments():
    assert models.default_image("mobilenet_v1") == (3, 224, 224)
    assert models.default_image("cnn", {"in_channels": 1}) == (1, 32, 32)
    assert models.default_image("mlp", {"image": [1, 28, 28]}) == (1, 28, 28)
    with pytest.raises(InputError, match="give channels, height and width"):
        models.default_image("torch.nn:Linear")
    with pytest.raises(InputError, match="did you mean 'vgg'"):
        models.default_image("vg")
