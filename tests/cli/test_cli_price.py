"""`energysplit price`: the reference numbers, and every kind of target."""

from __future__ import annotations

import io
import re
from pathlib import Path

import device_tables
import pytest
from typer.testing import CliRunner

from energysplit.cli import app
from energysplit.types import Cost

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def _price(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["price", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _rows(text: str) -> dict[str, str]:
    """First word of a line -> the rest, blanks squeezed."""
    rows: dict[str, str] = {}
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        rows.setdefault(first, " ".join(rest.split()))
    return rows


def test_mobilenet_v1_has_the_published_macs():
    rows = _rows(_price("mobilenet_v1"))
    assert rows["macs"] == "568.74 M MACs, counted"
    assert rows["1x"].startswith("568.74 M MACs")
    assert rows["0.5x"].startswith("149.50 M MACs")
    assert rows["0.25x"].startswith("41.03 M MACs")
    assert rows["params"] == "4.23 M parameters, counted"


def test_groups_show_channels_and_one_more_neuron_priced_by_hand():
    rows = _rows(_price("mlp", "--provider", "params"))
    # One more neuron of the first hidden layer (64 inputs, 32 followers): 64 + 1 bias, and 32 columns.
    assert rows["blocks.0.linear"] == "yes 1 32 97 parameters"
    assert rows["classifier"] == "no 1 10 -"
    assert "MACs" not in rows["blocks.0.linear"]


def test_why_a_group_cannot_be_split_is_a_sentence_below():
    text = _price("mlp")
    assert re.search(r"^groups that can't be split, and why$", text, re.MULTILINE)
    assert re.search(r"^classifier +its channels are the network's outputs$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "label", "macs"),
    [
        ("mobilenet_v2", "model mobilenet_v2, image 3 x 224 x 224", "300.77 M MACs, counted"),
        ("resnet18", "model torchvision:resnet18, image 3 x 224 x 224", "1.81 G MACs, counted"),
        ("torchvision:mobilenet_v2", "model torchvision:mobilenet_v2, image 3 x 224 x 224", "300.77 M MACs, counted"),
        ("torchvision:inception_v3", "model torchvision:inception_v3, image 3 x 299 x 299", "5.71 G MACs, counted"),
    ],
)
def test_any_name_of_torchvisions_is_priced_as_torch_counts_it(name, label, macs):
    text = _price(name)
    assert label in text
    assert _rows(text)["macs"] == macs
    assert "warning" not in text


def test_the_producers_of_a_trunk_are_counted():
    rows = _rows(_price("resnet_cifar"))
    assert rows["stem.conv"].startswith("yes 3 64 ")
    assert rows["blocks.2.second.conv"].startswith("yes 3 128 ")


def test_any_name_of_timms_is_priced():
    pytest.importorskip("timm", reason="needs timm: pip install timm")
    for name in ("timm:repvgg_a0", "repvgg_a0"):
        text = _price(name)
        assert "model timm:repvgg_a0, image 3 x 224 x 224" in text
        assert "warning" not in text
    assert "image 3 x 64 x 64" in _price("timm:mobilenetv3_small_050", "--image", "3,64,64")


def test_without_timm_a_name_of_its_own_says_how_to_get_it(monkeypatch):
    from energysplit.models import timm_models

    monkeypatch.setattr(timm_models, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["price", "timm:repvgg_a0"])
    assert result.exit_code == 2
    assert "need timm, which is not installed: pip install timm" in result.stderr


def test_a_model_of_the_users_own_is_priced_at_an_image_of_theirs():
    text = _price("torchvision.models:squeezenet1_1", "--image", "3,64,64")
    assert "model torchvision.models:squeezenet1_1, image 3 x 64 x 64" in text


ATTENTION = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.latent, self.query = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 8)
        self.classes = nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 5))

    def forward(self, x):
        x = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        query = self.query(self.latent.expand(x.size(0), -1, -1))
        pooled, _ = self.attention(query, x, x, need_weights=False)
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.classes((x + pooled).mean(1))
"""


def test_attention_is_counted_as_torch_does_without_its_fused_operation(tmp_path, monkeypatch):
    (tmp_path / "cli_test_attention.py").write_text(ATTENTION)
    monkeypatch.syspath_prepend(tmp_path)
    text = _price("cli_test_attention:Net", "--image", "3,16,16")
    # 16 positions of 8 channels: convolution, query, two layers for the classes; attention of one query and of 16:
    # projections of queries and results, of keys and values, scores and sums.
    attention = sum(2 * queries * 8 * 8 + 2 * 16 * 8 * 8 + 2 * queries * 16 * 8 for queries in (1, 16))
    assert 16 * 48 * 8 + 8 * 8 + 8 * 9 + 9 * 5 + attention == 16_949
    assert _rows(text)["macs"] == "16.95 k MACs, counted"
    assert "warning" not in text


def test_a_count_that_is_not_torchs_is_told(monkeypatch):
    monkeypatch.setattr("energysplit.costs.macs.Macs.price", lambda self, case: Cost.exact(1.0, self.unit))
    assert "warning: 3 MACs counted here, 3,392 by torch.utils.flop_counter" in _price("mlp")


def test_a_narrow_terminal_wraps_names_and_loses_nothing(monkeypatch):
    from energysplit.cli import console, groups
    from energysplit.types import SplitGroup

    out = console.Console(width=50, file=io.StringIO(), highlight=False)
    name = "encoder.layers.encoder_layer_0.mlp.3"
    shown = {name: SplitGroup(name, 3072, (name,), (), ("b",), splittable=False, reason="a sentence " * 9)}
    groups.show_groups(
        out, shown | {"b": SplitGroup("b", 7, ("b",), (), ("c",))}, {"macs": {"b": 5e3}}, {"macs": "MAC"}
    )
    text = out.file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert all(word in text for word in ("3072", "5.00 k MACs", "yes", "no"))
    letters = "".join(line.split(" ")[0] for line in text.splitlines())
    assert letters.count(name) == 2
    assert text.count("sentence") == 9


def test_recipes_for_branched_networks_are_priced():
    for recipe, macs in (
        ("mbv2_imagenet", "39.11 M"),
        ("mbv2_cifar10", "1.83 M"),
        ("mbv2_cifar10_cpu", "1.83 M"),
        ("resnet18_cifar10", "8.87 M"),
        ("torchvision_any", "55.50 M"),
    ):
        assert _rows(_price(str(RECIPES / f"{recipe}.toml")))["macs"] == f"{macs} MACs, counted"


def test_a_recipe_is_priced_without_its_trained_weights(tmp_path):
    recipe = (RECIPES / "torchvision_any.toml").read_text()
    assert "{ num_classes = 10 }\n" in recipe
    (tmp_path / "trained.toml").write_text(
        recipe.replace("{ num_classes = 10 }\n", '{ num_classes = 10, weights = "absent.pth" }\n')
    )
    assert _rows(_price(str(tmp_path / "trained.toml")))["macs"] == "55.50 M MACs, counted"


def test_output_in_a_pipe_is_plain_and_whole():
    text = _price("mobilenet_v1")
    assert "\x1b" not in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert len(re.findall(r"^blocks\.\d+\.pointwise +yes", text, re.MULTILINE)) == 13


def test_a_recipe_is_priced_without_its_data():
    rows = _rows(_price(str(RECIPES / "mbv1_cifar10.toml")))
    assert rows["recipe"].endswith("image 3 x 32 x 32")
    assert rows["macs"] == "269.14 k MACs, counted"


def test_a_run_is_priced_from_its_last_stage(tmp_path):
    import torch

    from energysplit.graph import trace
    from energysplit.models import build
    from energysplit.output.checkpoint import save

    run = tmp_path / "run"
    for stage, width in ((0, 4), (2, 6), (10, 7)):
        folder = run / "stages" / str(stage)
        folder.parent.mkdir(parents=True, exist_ok=True)
        save(trace(build("mlp", image=[1, 4, 4], widths=[width]), torch.zeros(1, 1, 4, 4)), folder)
    (run / "stages" / "11").mkdir()
    text = _price(str(run))
    assert f"run {run}, stage 10, image 1 x 4 x 4" in text
    assert _rows(text)["params"] == f"{16 * 7 + 7 + 7 * 10 + 10} parameters, counted"
    lost = run / "stages" / "10" / "network.json"
    lost.unlink()
    result = CliRunner().invoke(app, ["price", str(run)])
    assert result.exit_code == 2
    assert result.stderr == f"error: {lost} is missing; `energysplit grow` with --resume trains that stage again\n"


def test_image_changes_the_price_of_a_model():
    assert "image 3 x 64 x 64" in _price("mobilenet_v1_cifar", "--image", "3, 64, 64")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A made-up table of an MLP on this machine, up to 48 neurons."""
    import torch

    from energysplit.graph import trace
    from energysplit.models import build

    folder = tmp_path_factory.mktemp("tables") / "mlp"
    device_tables.write_table(folder, trace(build("mlp"), torch.zeros(1, 1, 8, 8)), widths=(8, 16, 24, 32, 40, 48))
    return folder


def test_a_latency_is_shown_with_its_interval_and_its_source(tables):
    rows = _rows(_price("mlp", "--provider", "latency", "--tables", str(tables)))
    value, low, high, source = re.fullmatch(
        r"([\d.]+) µs \(([\d.]+) µs to ([\d.]+) µs\), (.*)", rows["latency"]
    ).groups()
    assert float(low) == pytest.approx(0.96 * float(value), abs=0.01)
    assert float(high) == pytest.approx(1.04 * float(value), abs=0.01)
    assert source.startswith("interpolated")
    assert source.endswith(" + measured: fitted to whole networks")
    assert rows["blocks.0.linear"].startswith("yes 1 32 ")


def test_a_profile_prices_what_was_not_measured():
    rows = _rows(_price("mlp", "--provider", "energy", "--provider", "macs", "--profile", "generic_45nm"))
    assert re.search(r"[nµ]J \(.* to .*\), estimated: .*generic_45nm", rows["energy"])
    assert rows["macs"] == "3.39 k MACs, counted"


def test_where_a_table_ends_there_is_no_price_and_a_reason(tmp_path):
    import torch

    from energysplit.graph import trace
    from energysplit.models import build

    device_tables.write_table(tmp_path, trace(build("mlp"), torch.zeros(1, 1, 8, 8)), widths=(16, 24, 32))
    text = _price("mlp", "--provider", "latency", "--tables", str(tmp_path))
    assert _rows(text)["blocks.0.linear"] == "yes 1 32 -"
    assert "latency, -: " in text
    assert "outside what was measured" in " ".join(text.split())


def test_another_machine_s_table_is_a_warning_and_with_strict_an_error(tmp_path):
    import torch

    from energysplit.graph import trace
    from energysplit.models import build

    device_tables.write_table(tmp_path, trace(build("mlp"), torch.zeros(1, 1, 8, 8)), (16, 32, 64), machine="abacus")
    arguments = ["mlp", "--provider", "latency", "--tables", str(tmp_path)]
    assert re.search(r"^warning: .*'abacus'", _price(*arguments), re.MULTILINE)
    result = CliRunner().invoke(app, ["price", *arguments, "--strict"])
    assert result.exit_code == 2
    assert "'abacus'" in result.stderr


def test_a_recipe_and_a_run_bring_their_device(tables, tmp_path):
    text = (RECIPES / "digits.toml").read_text()
    recipe = tmp_path / "own.toml"
    recipe.write_text(f'{text}\n[hardware]\nprofile = "generic_45nm"\n')
    assert "generic_45nm" in _rows(_price(str(recipe), "--provider", "energy"))["energy"]
    recipe = recipe.rename(tmp_path / "own.txt")  # a recipe by any other name
    assert "generic_45nm" in _rows(_price(str(recipe), "--provider", "energy"))["energy"]
    other = _rows(_price(str(recipe), "--provider", "energy", "--profile", "stm32l4r5"))["energy"]
    assert "stm32l4r5" in other

    import json

    import torch

    from energysplit.graph import trace
    from energysplit.models import build
    from energysplit.output.checkpoint import save

    run = tmp_path / "run"
    (run / "stages").mkdir(parents=True)
    save(trace(build("mlp"), torch.zeros(1, 1, 8, 8)), run / "stages" / "0")
    said = {"model": {"name": "mlp", "args": {}}, "hardware": {"tables": str(tables)}}
    (run / "recipe.json").write_text(json.dumps(said))
    assert "µs" in _rows(_price(str(run), "--provider", "latency"))["latency"]
    (run / "recipe.json").write_text(json.dumps({**said, "hardware": {"tables": 3}}))
    result = CliRunner().invoke(app, ["price", str(run)])
    assert result.exit_code == 2
    assert "recipe.json is damaged: hardware" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilnet_v1"], "unknown model 'mobilnet_v1'; did you mean 'mobilenet_v1'"),
        (["mlp", "--provider", "mac"], "unknown cost provider 'mac'; did you mean 'macs'"),
        (["mlp", "--image", "3,224"], "--image 3,224: expected channels, height and width"),
        (["mlp", "--image", "3,0,1"], "expected channels, height and width"),
        (["nowhere.toml"], "nowhere.toml: no such recipe file"),
        (["no/such/run"], "no/such/run: no such file or folder; expected a model, a recipe file or a run folder"),
        ([str(RECIPES)], "no finished stage in"),
        ([str(RECIPES / "digits.toml"), "--image", "1,8,8"], "--image is for models given by name"),
        (["no_module:net"], "module 'no_module' can't be imported"),
        (["torch.nn:Identity"], "give channels, height and width (on the command line --image 3,224,224)"),
        (["resnt50"], "unknown model 'resnt50'; did you mean 'torchvision:resnet50'"),
        (["torchvision:resnt50"], "unknown model 'torchvision:resnt50'; did you mean 'torchvision:resnet50'"),
        (
            ["mlp", "--profile", "gap9"],
            "--profile: none of the providers macs, params takes it; add --provider and one of",
        ),
        (["mlp", "--provider", "latency", "--strict"], "give tables=FOLDER, which 'energysplit profile' wrote, or"),
        (["mlp", "--provider", "roofline", "--profile", "gap8"], "no hardware profile 'gap8'; did you mean 'gap9'?"),
        (["torchvision:r3d_18"], "does not run on an example input"),
    ],
)
def test_wrong_targets_are_exit_2_with_one_line(arguments, message):
    result = CliRunner().invoke(app, ["price", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
