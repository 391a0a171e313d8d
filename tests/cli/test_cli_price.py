"""`energysplit price`: the reference numbers, and every kind of target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from energysplit.cli import app

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
    assert rows["blocks.0.linear"] == "yes 32 97 parameters"
    assert rows["classifier"].startswith("no: ")
    assert "MACs" not in rows["blocks.0.linear"]


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


def test_image_changes_the_price_of_a_model():
    assert "image 3 x 64 x 64" in _price("mobilenet_v1_cifar", "--image", "3, 64, 64")


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
    ],
)
def test_wrong_targets_are_exit_2_with_one_line(arguments, message):
    result = CliRunner().invoke(app, ["price", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
