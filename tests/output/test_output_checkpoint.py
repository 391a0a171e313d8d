"""Checkpoints come back as the same function, and damage or a stranger's file is refused by name."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import branched
import onnxruntime
import pytest
import torch
from torch import nn

from energysplit.errors import CheckpointError, InputError
from energysplit.graph import Network, trace
from energysplit.models import build
from energysplit.output.checkpoint import NETWORK_FILE, WEIGHTS_FILE, load, save, write
from energysplit.output.onnx_export import export_with_parity
from energysplit.surgery import split


def randomised(module: nn.Module) -> nn.Module:
    """The module in eval mode with random batch-norm state."""
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=generator) * 0.2)
            layer.running_var.copy_(torch.rand(layer.num_features, generator=generator) + 0.5)
            layer.num_batches_tracked.fill_(17)
    return module.eval()


def grown(dtype: torch.dtype = torch.float32) -> Network:
    """A small built-in network after one split of its first group."""
    torch.manual_seed(0)
    module = randomised(build("mobilenet_v1_cifar", blocks=3, channels=4)).to(dtype)
    net = trace(module, torch.randn(2, 3, 16, 16, dtype=dtype))
    group = next(name for name, found in net.groups.items() if found.splittable)
    return split(net, {group: [0, 2]})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roundtrip_gives_equal_logits(tmp_path: Path, dtype: torch.dtype) -> None:
    net = grown(dtype)
    folder = save(net, tmp_path / "checkpoint")
    assert sorted(entry.name for entry in folder.iterdir()) == [NETWORK_FILE, WEIGHTS_FILE]
    loaded = load(folder)
    assert loaded.widths == net.widths
    assert loaded.groups == net.groups
    assert loaded.example_input.shape == net.example_input.shape
    assert loaded.example_input.dtype == dtype
    assert torch.equal(loaded.module(net.example_input), net.module(net.example_input))
    assert not any(module.training for module in loaded.module.modules())
    assert loaded.module.energysplit_builder == net.module.energysplit_builder
    assert all(parameter.requires_grad for parameter in loaded.module.parameters())


class OfTokens(nn.Module):
    """A classifier of sequences of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.hidden(self.embedding(x).mean(1))))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_networks_of_whole_numbers_are_read_back_and_exported(tmp_path: Path, dtype: torch.dtype) -> None:
    tokens = torch.arange(10, dtype=dtype).view(2, 5)
    net = split(trace(OfTokens(), tokens), {"hidden": [0, 2]})
    loaded = load(save(net, tmp_path / "net"), model=OfTokens())
    assert (loaded.widths, loaded.example_input.dtype) == (net.widths, dtype)
    assert torch.equal(loaded.module(tokens), net.module.eval()(tokens))
    parity = export_with_parity(net, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(None, {"input": tokens.numpy()})
    assert parity.relative < 1e-5
    torch.testing.assert_close(torch.from_numpy(found), loaded.module(tokens).detach())


class Root(nn.Module):
    """An activation with no number for what is below 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sqrt()


class Rewritten(nn.Module):
    """A model whose code changes without a change to any weight's shape."""

    def __init__(self, activation: nn.Module, padding: int = 1) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, padding=padding)
        self.activation, self.out = activation, nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.activation(self.b(self.activation(self.a(x)))).mean((2, 3)))


def test_a_model_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = split(trace(Rewritten(nn.SiLU()), torch.randn(2, 3, 9, 9)), {"a": [1]})
    folder = save(net, tmp_path / "net")
    assert load(folder, model=Rewritten(nn.SiLU())).widths == net.widths
    for other in (Rewritten(nn.ReLU()), Rewritten(nn.SiLU(), padding=2), Rewritten(Root())):
        with pytest.raises(CheckpointError, match=r"net: the model computes something else .*was its code changed"):
            load(folder, model=other)


def test_a_file_is_no_place_for_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("kept")
    with pytest.raises(InputError, match=r"net.py is a file; a checkpoint is a folder"):
        save(grown(), tmp_path / "net.py")
    assert (tmp_path / "net.py").read_text() == "kept"


def test_a_loaded_network_can_be_saved_and_split_again(tmp_path: Path) -> None:
    net = grown()
    save(net, tmp_path / "one")
    again = load(tmp_path / "one")
    save(again, tmp_path / "two")
    assert (tmp_path / "one" / WEIGHTS_FILE).read_bytes() == (tmp_path / "two" / WEIGHTS_FILE).read_bytes()
    more = split(again, {next(iter(again.groups)): [1]})
    torch.testing.assert_close(more.module(net.example_input), net.module(net.example_input))


def test_loading_leaves_random_state_alone(tmp_path: Path) -> None:
    save(grown(), tmp_path / "c")
    before = torch.get_rng_state()
    load(tmp_path / "c")
    assert torch.equal(torch.get_rng_state(), before)


def test_mixed_dtypes_come_back_as_saved(tmp_path: Path) -> None:
    net = grown()
    name = next(name for name, parameter in net.module.named_parameters() if parameter.dim() == 4)
    owner, _, key = name.rpartition(".")
    layer = net.module.get_submodule(owner)
    setattr(layer, key, nn.Parameter(getattr(layer, key).to(torch.bfloat16)))
    save(net, tmp_path / "c")
    assert load(tmp_path / "c").module.state_dict()[name].dtype == torch.bfloat16


def test_write_returns_the_digest_of_the_weights(tmp_path: Path) -> None:
    digest = write(grown(), tmp_path)
    assert digest == hashlib.sha256((tmp_path / WEIGHTS_FILE).read_bytes()).hexdigest()


def test_save_replaces_a_checkpoint_but_never_other_files(tmp_path: Path) -> None:
    net = grown()
    folder = save(net, tmp_path / "c")
    save(load(folder), folder)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files \(c, thesis\.tex\); give a new folder"):
        save(net, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def own_model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.SiLU(), nn.Flatten(), nn.Linear(width * 36, 4))


def test_a_users_own_model_needs_a_seed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = split(trace(own_model().eval(), torch.randn(1, 1, 8, 8)), {"0": [1]})
    folder = save(net, tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"network\.json: .*pass model= a freshly built seed"):
        load(folder)
    seed = own_model()
    before = {name: value.clone() for name, value in seed.state_dict().items()}
    loaded = load(folder, seed)
    assert torch.equal(loaded.module(net.example_input), net.module(net.example_input))
    assert all(torch.equal(value, before[name]) for name, value in seed.state_dict().items())
    with pytest.raises(CheckpointError, match="is model= the seed this checkpoint was grown from"):
        load(folder, nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))


@pytest.mark.parametrize("family", branched.FAMILIES)
def test_branched_networks_come_back_whole(tmp_path: Path, family: str) -> None:
    """Several groups in one dimension, tied weights, buffers that a module does not save."""
    seed = branched.network(family)
    net = split(seed, {name: [0, seed.widths[name] - 1] for name in branched.splittable(seed)})
    next(iter(net.module.parameters())).requires_grad_(False)
    folder = save(net, tmp_path / "c")
    fresh = branched.FAMILIES[family]()
    next(iter(fresh.parameters())).requires_grad_(False)
    loaded = load(folder, fresh)
    x = torch.randn_like(net.example_input)
    assert torch.equal(loaded.module(x), net.module(x))
    assert loaded.groups == net.groups
    assert loaded.layers == net.layers
    assert set(loaded.slots) == set(net.slots)
    assert [name for name, _ in loaded.module.named_parameters()] == [name for name, _ in net.module.named_parameters()]
    assert [p.requires_grad for p in loaded.module.parameters()] == [p.requires_grad for p in net.module.parameters()]
    more = split(loaded, {branched.splittable(loaded)[0]: [1]})
    torch.testing.assert_close(more.module(x), net.module(x))


def test_tied_weights_that_differ_in_the_file_are_refused(tmp_path: Path) -> None:
    net = branched.network("tied")
    net.module.other.weight = nn.Parameter(net.module.one.weight + 1)
    save(net, tmp_path / "c")
    with pytest.raises(
        CheckpointError, match=r"'other\.weight' and 'one\.weight' are one tensor, but the file has two"
    ):
        load(tmp_path / "c", branched.Tied())


class Versioned(nn.Sequential):
    """A model that asks which version of itself wrote the state it loads, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
        assert metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_modules_are_told_their_version(tmp_path: Path) -> None:
    net = split(trace(Versioned(*own_model()).eval(), torch.randn(1, 1, 8, 8)), {"0": [1]})
    loaded = load(save(net, tmp_path / "c"), Versioned(*own_model()))
    assert torch.equal(loaded.module(net.example_input), net.module(net.example_input))


LOGITS = [[-0.05524781718850136, 0.09108588099479675], [0.005089344456791878, -0.03241632506251335]]


def test_a_checkpoint_of_the_first_version_still_loads() -> None:
    """Written by version 0.1.0, when only chains of layers could grow."""
    net = load(Path(__file__).parent / "first_version")
    assert net.widths == {"blocks.0.conv": 4, "blocks.1.conv": 3, "classifier": 2}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 6, 6, generator=generator)
    expected = torch.tensor(LOGITS)
    torch.testing.assert_close(net.module(x), expected)
    assert [name for name, group in net.groups.items() if group.splittable] == ["blocks.0.conv", "blocks.1.conv"]


@pytest.mark.parametrize("file", [NETWORK_FILE, WEIGHTS_FILE])
def test_flipped_bytes_are_noticed(tmp_path: Path, file: str) -> None:
    save(grown(), tmp_path / "c")
    path = tmp_path / "c" / file
    whole = path.read_bytes()
    places = random.Random(0).sample(range(len(whole)), 50)
    messages: list[str] = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.Random(place).randrange(7)
        path.write_bytes(damaged)
        try:
            load(tmp_path / "c")
        except CheckpointError as error:
            messages.append(str(error))
            continue
        # Blanks between JSON's words mean nothing; everything that does is covered by the checksum.
        assert file == NETWORK_FILE
        assert json.loads(damaged) == json.loads(whole)
    assert len(messages) > 0.8 * len(places)
    assert all(file in message for message in messages)


@pytest.mark.parametrize("file", [NETWORK_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_missing_and_truncated(tmp_path: Path, file: str, damage: str) -> None:
    save(grown(), tmp_path / "c")
    path = tmp_path / "c" / file
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(whole[: 0 if damage == "empty" else len(whole) // 2])
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
        load(tmp_path / "c")


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit `network.json` as an attacker would: with a checksum that fits."""
    file = folder / NETWORK_FILE
    description = json.loads(file.read_text())
    change(description)
    del description["checksum"]
    text = json.dumps(description, sort_keys=True)
    description["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(description))


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "newer format": (lambda d: d.update(format_version=2), "checkpoint format 2 given, 1 expected"),
    "missing key": (lambda d: d.pop("widths"), "widths: Field required"),
    "unknown key": (lambda d: d.update(hook="os.system"), "hook: Extra inputs are not permitted"),
    "code in the builder": (lambda d: d["builder"].update(name="os:system"), "code that a file names is not run"),
    "unknown argument": (lambda d: d["builder"]["args"].update(chanels=3), "can't be built with"),
    "huge argument": (lambda d: d["builder"]["args"].update(channels=10**12), "larger than the weights"),
    "large seed": (lambda d: d["builder"]["args"].update(channels=2000), "larger than the weights"),
    "huge width": (
        lambda d: d["widths"].update({next(iter(d["widths"])): 10**12}),
        "has shape .* expected from the widths",
    ),
    "zero width": (lambda d: d["widths"].update({next(iter(d["widths"])): 0}), "greater than or equal to 1"),
    "unknown group": (lambda d: d["widths"].update(nowhere=3), "widths of groups"),
    "huge example": (lambda d: d["example_input"].update(shape=[1, 3, 10**6, 10**6]), "too large"),
    "odd dtype": (lambda d: d["example_input"].update(dtype="load"), "example_input.dtype"),
    "wrong channels": (lambda d: d["example_input"].update(shape=[1, 5, 16, 16]), "the seed can't be traced"),
    "other weights": (lambda d: d.update(weights_sha256="0" * 64), r"weights\.safetensors is damaged or another file"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_descriptions_are_refused(tmp_path: Path, forgery: str) -> None:
    save(grown(), tmp_path / "c")
    change, message = FORGERIES[forgery]
    forge(tmp_path / "c", change)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "c")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save(grown(), tmp_path / "c")
    torch.manual_seed(0)
    other = trace(build("mobilenet_v1_cifar", blocks=3, channels=5).eval(), torch.randn(1, 3, 16, 16))
    digest = write(other, save(other, tmp_path / "other"))
    (tmp_path / "c" / WEIGHTS_FILE).write_bytes((tmp_path / "other" / WEIGHTS_FILE).read_bytes())
    forge(tmp_path / "c", lambda d: d.update(weights_sha256=digest))
    with pytest.raises(
        CheckpointError, match=r"weights\.safetensors: tensor .* expected from the widths in network\.json"
    ):
        load(tmp_path / "c")


class Masked(nn.Module):
    """With a buffer of a type that nothing is trained in."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
        self.register_buffer("on", torch.tensor([[1, 0], [0, 1]]).repeat(4, 4).to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((torch.relu(self.conv(x)) * self.on).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32])
def test_masks_and_counters_are_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 8, 8)
    net = split(trace(Masked(dtype), x), {"conv": [1]})
    found = load(save(net, tmp_path / "net"), model=Masked(dtype))
    assert found.module.on.dtype == dtype
    assert torch.equal(found.module(x), net.module(x))


def test_what_would_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    module = Masked(torch.bool)
    module.register_buffer("odd", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(InputError, match="'odd' of the model's state is torch.complex64, which a checkpoint can't"):
        save(trace(module, torch.randn(2, 3, 8, 8)), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_builder_that_is_not_json_is_refused_when_saving(tmp_path: Path) -> None:
    net = grown()
    net.module.energysplit_builder = {"name": "mobilenet_v1_cifar", "args": {"act": nn.ReLU}}
    with pytest.raises(InputError, match="can't be written as JSON"):
        save(net, tmp_path / "c")
    assert not (tmp_path / "c").exists()
