"""Trained weights from files: which files are read, what must fit, and what may differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from energysplit import models
from energysplit.errors import InputError


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A module with weights of its own."""
    torch.manual_seed(3)
    return torchvision.models.squeezenet1_1(num_classes=1000).eval()


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether both compute the same."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(a.eval()(images), b.eval()(images))


@pytest.mark.parametrize("form", ["plain.pth", "inside.pt", "parallel.pth", "tensors.safetensors"])
def test_every_usual_form_of_file_is_read(form, trained, tmp_path):
    state, file = trained.state_dict(), tmp_path / form
    if form == "tensors.safetensors":
        save_file(state, file)
    elif form == "inside.pt":
        torch.save({"epoch": 3, "state_dict": state, "best": 0.7}, file)
    else:
        torch.save({f"module.{k}": v for k, v in state.items()} if form == "parallel.pth" else state, file)
    module = models.build("torchvision:squeezenet1_1", weights=str(file))
    assert same(module, trained)
    assert module.energysplit_builder == {"name": "torchvision:squeezenet1_1", "args": {}}


def test_a_classifier_of_other_classes_starts_fresh_and_all_else_is_taken(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    module = models.build("torchvision:squeezenet1_1", num_classes=5, weights=str(tmp_path / "weights.pth"))
    given, own = trained.state_dict(), module.state_dict()
    differ = [name for name in own if own[name].shape != given[name].shape]
    assert differ == ["classifier.1.weight", "classifier.1.bias"]
    assert all(torch.equal(own[name], given[name]) for name in own if name not in differ)
    assert own["classifier.1.weight"].std() > 0


def test_registered_models_take_files_too(tmp_path):
    source = models.build("mobilenet_v2_cifar", width_multiplier=0.25)
    torch.save(source.state_dict(), tmp_path / "own.pth")
    module = models.build("mobilenet_v2_cifar", width_multiplier=0.25, weights=str(tmp_path / "own.pth"))
    assert same(module, source)
    finer = models.build("mobilenet_v2_cifar", width_multiplier=0.25, classes=3, weights=str(tmp_path / "own.pth"))
    assert torch.equal(finer.stem.conv.weight, source.stem.conv.weight)


@pytest.mark.parametrize(
    ("name", "side"), [("squeezenet1_1", 64), ("googlenet", 64), ("inception_v3", 96), ("densenet121", 64)]
)
def test_torchvisions_own_weights_are_taken_from_its_cache(name, side, cache):
    """The files of old: auxiliary heads in them, inputs scaled, DenseNet's tensors under other names."""
    torch.manual_seed(4)
    auxiliary = name in ("googlenet", "inception_v3")
    options = {"aux_logits": True, "init_weights": False, "transform_input": True} if auxiliary else {}
    source = torchvision.models.get_model(name, **options).eval()
    state = source.state_dict()
    if name == "densenet121":
        state = {re.sub(r"(denselayer\d+\.)(norm|conv)([12])\.", r"\1\2.\3.", key): t for key, t in state.items()}
        state = {key: tensor for key, tensor in state.items() if "num_batches_tracked" not in key}
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    torch.save(state, cache / Path(url).name)
    module = models.build(f"torchvision:{name}", weights="DEFAULT").eval()
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(module(images), source(images))
    # What the weights imply for the input is part of how to build it; the weights themselves are in the checkpoint.
    args = {"transform_input": True} if auxiliary else {}
    assert module.energysplit_builder == {"name": f"torchvision:{name}", "args": args}
    seed = models.build_seed(f"torchvision:{name}", {"weights": "elsewhere.pth"})
    assert seed.energysplit_builder == module.energysplit_builder


def test_nothing_is_fetched_and_the_message_says_what_would_be(cache):
    with pytest.raises(InputError, match=r"not in torch's cache \(.*squeezenet1_1-b8a52dc0.pth\), .* fetch https://"):
        models.build("torchvision:squeezenet1_1", weights="IMAGENET1K_V1")
    with pytest.raises(InputError, match="'V1' is neither a file .* nor weights of torchvision's; known: DEFAULT"):
        models.build("torchvision:squeezenet1_1", weights="V1")


def test_timms_weights_are_taken_from_the_local_cache_only(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm", reason="needs timm: pip install timm")
    source = timm.create_model("resnet18", pretrained=False)
    file = tmp_path / "model.safetensors"
    save_file(source.state_dict(), file)
    asked = []

    def cached(repository: str, name: str) -> str | None:
        asked.append((repository, name))
        return str(file) if repository == "timm/resnet18.a2_in1k" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    assert same(models.build("timm:resnet18", weights="a2_in1k"), source)
    with pytest.raises(InputError, match="weights = 'DEFAULT' are not in a local cache, and nothing is fetched"):
        models.build("timm:resnet18", weights="DEFAULT")
    assert asked == [("timm/resnet18.a2_in1k", "model.safetensors"), ("timm/resnet18.a1_in1k", "model.safetensors")]
    with pytest.raises(InputError, match="nor weights of timm's; did you mean 'a._in1k'"):
        models.build("timm:resnet18", weights="a9_in1k")


def test_weights_that_do_not_fit_are_refused_by_name(trained, tmp_path):
    state = trained.state_dict()
    cases = {
        "lack classifier.1.bias, classifier.1.weight, features.0.bias and 49 more": {"weight": torch.ones(2)},
        "have unknown extra, more": {**state, "more": torch.ones(1), "extra": torch.ones(1)},
        ": features.0.bias holds numbers that are not finite \\(1 of 52 tensors do\\)": {
            **state,
            "features.0.bias": state["features.0.bias"] / 0,
        },
        "have tensors of another shape: features.0.bias 3 for 64": {**state, "features.0.bias": torch.ones(3)},
    }
    # A classifier that the file lacks is one of other classes; here all is missing.
    del cases["lack classifier.1.bias, classifier.1.weight, features.0.bias and 49 more"]
    cases["lack features.0.bias, features.0.weight, features.10.expand1x1.bias and 47 more"] = {}
    for number, (message, content) in enumerate(cases.items()):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(InputError, match=message):
            models.build("torchvision:squeezenet1_1", weights=str(tmp_path / f"{number}.pth"))


class Payload:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_files_that_are_no_tensors_are_refused_and_nothing_in_them_runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(trained, "whole.pth")
    torch.save({"features.0.bias": Payload()}, "payload.pth")
    torch.save([1, 2], "list.pth")
    Path("text.pth").write_text("hello")
    Path("text.safetensors").write_text("hello")
    for file, message in (
        ("whole.pth", "hold more than tensors .a whole module. its code is not run"),
        ("payload.pth", "hold more than tensors"),
        ("list.pth", "hold no state dictionary"),
        ("text.pth", "can't be read"),
        ("text.safetensors", "can't be read"),
        ("./absent.pth", "No such file"),
    ):
        with pytest.raises(InputError, match=message):
            models.build("torchvision:squeezenet1_1", weights=file)
    assert not Path("ran").exists()
    with pytest.raises(InputError, match="weights = 3: the path of a file expected"):
        models.build("torchvision:squeezenet1_1", weights=3)
