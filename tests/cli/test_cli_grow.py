"""`energysplit grow` and the commands that read its run folder, on a network of a few neurons."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import energysplit as es
from energysplit.cli import app
from energysplit.recipe.saved import saved_recipe

RECIPE = """
[model]
name = "mlp"
args = { widths = [3], batch_norm = true, activation = "silu" }
[data]
name = "digits"
limit = 200
[train]
epochs = 1
batch_size = 50
[index]
images = 64
held_out_images = 64
batch_size = 32
[growth]
stages = 1
[[budget]]
provider = "macs"
limit = "1.5x"
scope = "stage"
[run]
device = "cpu"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A recipe that runs in a second."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    """A finished run of it."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    result = CliRunner().invoke(app, ["grow", str(recipe), "--run", str(run)])
    assert result.exit_code == 0, result.output
    (run / "said.txt").write_text(result.stdout)
    return run


def test_a_run_says_in_plain_lines_what_it_did(finished):
    said = (finished / "said.txt").read_text()
    assert "stage 0 (last: 1)" in said
    assert "train stage 1: 1/1: loss " in said
    assert f"report: {finished / 'report.html'}" in said
    assert "\x1b" not in said
    assert (finished / "report.html").is_file()
    assert (finished / "model.onnx").is_file()


def test_quiet_prints_the_result_only(recipe, tmp_path):
    arguments = ["grow", str(recipe), "--run", str(tmp_path / "run"), "--quiet"]
    result = CliRunner().invoke(app, [*arguments, "--set", "export.onnx=false", "--set", "growth.stages=0"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("stages\n")
    assert "train stage" not in result.stdout
    assert not (tmp_path / "run" / "model.onnx").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["grow", str(recipe), "--dry-run"])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "macs 222 MACs, counted" in lines
    assert "macs stage 333 MACs 222 MACs" in lines
    assert "blocks.0.linear yes 1 3 74 MACs 77 parameters" in lines
    assert "classifier its channels are the network's outputs" in lines
    assert "0 1 200 222 MACs" in lines
    assert "1 1 200 333 MACs" in lines
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_starts_without_torchs_compiler_and_without_plots(recipe):
    heavy = ("torch._dynamo", "torch._inductor", "triton", "matplotlib")
    code = (
        "import gc, sys\n"
        "from energysplit.cli import app\n"
        f"app(['grow', {str(recipe)!r}, '--dry-run'], standalone_mode=False)\n"
        f"print(gc.isenabled(), [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True []"


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("3", "widths of the first growth become multiples of 3"),
        ('{"blocks.0.linear" = 4}', "widths of the first growth become multiples of 4"),
        ("auto", None),
    ],
)
def test_a_dry_run_says_what_widths_become_multiples_of(recipe, setting, line):
    result = CliRunner().invoke(app, ["grow", str(recipe), "--dry-run", "--set", f"growth.multiple_of={setting}"])
    assert result.exit_code == 0, result.output
    found = [text for text in result.stdout.splitlines() if "multiples of" in text]
    assert found == ([] if line is None else [line])


def test_a_dry_run_says_which_groups_are_bounded(tmp_path, recipe):
    bounded = tmp_path / "bounded.toml"
    text = RECIPE.replace("widths = [3]", "widths = [3, 4, 5]")
    bounds = (
        '"*.1.*" = { frozen = true }\n"blocks.0.linear" = { max_channels = 2 }\n"blocks.2.*" = { max_channels = 6 }\n'
    )
    bounded.write_text(f"{text}\n[growth.bounds]\n{bounds}")
    result = CliRunner().invoke(app, ["grow", str(bounded), "--dry-run"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    said = (
        "groups bounded by the recipe: frozen: blocks.1.linear; channels at most: blocks.0.linear 2, blocks.2.linear 6"
    )
    assert said in lines
    assert any(line.startswith("warning: group 'blocks.0.linear' has 3 channels") for line in lines)
    assert "bounded" not in CliRunner().invoke(app, ["grow", str(recipe), "--dry-run"]).stdout


def test_a_dry_run_reads_limits_with_a_unit_and_prices_both_ends_of_the_spectrum(recipe):
    settings = ["--set", "budget.0.limit=0.5 k MACs", "--set", "growth.signed=true"]
    result = CliRunner().invoke(app, ["grow", str(recipe), "--dry-run", *settings])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "macs stage 500 MACs 222 MACs" in lines
    assert "1 1 200 500 MACs" in lines, "an amount does not multiply from stage to stage"
    assert any("of both ends of the spectrum (a sweep over an image costs about twice the training" in x for x in lines)


def test_the_run_folder_is_named_after_the_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--quiet", "--set", "growth.stages=0", "--set", "export.onnx=false", "--set", "name=other"]
    result = CliRunner().invoke(app, ["grow", str(recipe), *arguments])
    assert result.exit_code == 0, result.output
    assert saved_recipe(tmp_path / "runs" / "other")["name"] == "other"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.epohcs=3"], "--set train.epohcs: train.epohcs: unknown key; did you mean 'epochs'?"),
        (["train.epochs=many"], "expected a whole number >= 1"),
        (["model.name=mpl"], "unknown model 'mpl'; did you mean 'mlp'"),
        (["model.args.width=[3]"], "takes no argument 'width'; did you mean 'widths'"),
        (["data.name=digit"], "did you mean 'digits'"),
        (["data.name=cifar10", "data.root=nowhere", "data.limit=100"], "nowhere"),
        (["data.name=image_folder", "data.root=nowhere"], "nowhere"),
        (["data.image_size=12"], "image"),
        (["budget.0.limit=100.0", "budget.0.scope=network"], "below the price of the network"),
        (["budget.0.provider=mac"], "budget 'mac': unknown cost provider 'mac'; did you mean 'macs'"),
        (["budget.0.limit=6 ms"], "budget 'macs': limit '6 ms' is in seconds (s), but its prices are in MAC; expected"),
        (["budget.0.limit=100m"], "budget 'macs': limit '100m' does not fit prices in MAC; did you mean '100M'?"),
        (["budget.0.limit=-1 MAC"], "--set budget.0.limit: budget.0.limit: limit '-1 MAC' is not a finite number"),
        (['budget.0.limit="nan"'], "limit 'nan' is not a finite number of at least 0"),
        (["growth.bounds.blok.frozen=true"], "growth.bounds: no group of this network matches 'blok'"),
        (["growth.signed=true", "growth.mass=1"], "growth: signed = true needs mass > 1"),
        (["index.images=5000"], "index.images + index.held_out_images = 5064"),
    ],
)
def test_wrong_input_is_exit_2_one_message_and_nothing_written(recipe, tmp_path, settings, message):
    run = tmp_path / "run"
    arguments = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, ["grow", str(recipe), "--run", str(run), *arguments])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not run.exists()


def test_a_missing_recipe_file_is_exit_2(tmp_path):
    result = CliRunner().invoke(app, ["grow", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "none.toml: no such recipe file" in result.stderr


def test_a_run_folder_in_use_is_refused_and_a_changed_recipe_named(recipe, finished):
    before = (finished / "journal.jsonl").read_bytes()
    again = CliRunner().invoke(app, ["grow", str(recipe), "--run", str(finished)])
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    changed = CliRunner().invoke(
        app, ["grow", str(recipe), "--run", str(finished), "--resume", "--set", "train.batch_size=20"]
    )
    assert changed.exit_code == 2
    assert "train.batch_size" in changed.stderr
    assert (finished / "journal.jsonl").read_bytes() == before


def test_ctrl_c_says_how_to_resume(recipe, tmp_path):
    run = tmp_path / "a run"
    command = ["grow", str(recipe), "--run", str(run), "--set", "train.epochs=100000"]
    main = [sys.executable, "-c", "from energysplit.cli import main; main()"]
    with subprocess.Popen([*main, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = next(line for line in process.stdout if "train stage 0" in line)
        error = ""
        for _ in range(4):  # Python drops an interrupt that falls into a destructor: a user presses again
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                error = process.communicate(timeout=40)[1]
                break
        code = process.poll()
    assert "/100000" in line
    assert code == 130
    resume = f"energysplit grow {recipe} --run '{run}' --resume --set train.epochs=100000"
    assert (
        error.splitlines()[-1]
        == f"interrupted: everything up to the last finished epoch is in {run}; to continue: {resume}"
    )
    assert (run / "progress").is_dir()


def test_export_and_report_write_their_files_again(finished, tmp_path):
    out = tmp_path / "again.onnx"
    result = CliRunner().invoke(app, ["export", str(finished), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.is_file()
    assert "stage 1; ONNX Runtime differs from torch by at most" in result.stdout
    (finished / "report.html").unlink()
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "real.onnx")
    result = CliRunner().invoke(app, ["export", str(finished), "--out", str(link)])
    assert result.exit_code == 0, result.output
    assert link.is_symlink()
    assert (tmp_path / "real.onnx").is_file()
    assert result.stdout.startswith(f"{link}: stage")
    result = CliRunner().invoke(app, ["report", str(finished)])
    assert result.exit_code == 0, result.output
    assert (finished / "report.html").is_file()


@pytest.mark.parametrize("command", ["export", "price"])
def test_a_stage_that_is_not_the_journal_s_is_refused(finished, tmp_path, command):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    stage = run / "stages" / "1"
    net = es.load(stage)
    with torch.no_grad():
        next(net.module.parameters()).add_(1)
    shutil.rmtree(stage)
    es.save(net, stage)  # whole, of the same widths, but not what was grown
    out = ["--out", str(tmp_path / "model.onnx")] if command == "export" else []
    result = CliRunner().invoke(app, [command, str(run), *out])
    assert result.exit_code == 2
    assert "is not what stage 1 left: its SHA-256 differs from the journal's" in result.stderr
    assert not (tmp_path / "model.onnx").exists()


def test_export_and_report_refuse_what_is_no_run(finished, tmp_path):
    for command in ("export", "report"):
        result = CliRunner().invoke(app, [command, str(tmp_path / "none")])
        assert result.exit_code == 2
        assert "expected a " in result.stderr
    result = CliRunner().invoke(app, ["export", str(finished), "--out", str(tmp_path / "no" / "x.onnx")])
    assert result.exit_code == 2
    assert "no folder" in result.stderr
    taken = tmp_path / "taken"
    shutil.copytree(finished, taken)
    (taken / "model.onnx").unlink(missing_ok=True)
    (taken / "model.onnx").mkdir()
    result = CliRunner().invoke(app, ["export", str(taken)])
    assert result.exit_code == 2
    assert f"{taken}/model.onnx (default of --out): is a folder; expected the name of a file" in result.stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "recipe.json").write_text("{")
    result = CliRunner().invoke(app, ["report", str(broken)])
    assert result.exit_code == 2
    assert "recipe.json is damaged" in result.stderr


OWN = """
from torch import nn


class Branched(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.act, self.classes = nn.SiLU(), nn.Linear(channels, 10)

    def forward(self, x):
        x = self.act(self.a(x))
        return self.classes((x + self.act(self.b(x))).mean((2, 3)))
"""


@pytest.fixture
def own_run(tmp_path, monkeypatch, recipe) -> Path:
    """A finished run of a model of the user's own, whose module can be imported."""
    (tmp_path / "cli_test_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # or the run's model would be a stranger's
    settings = [
        "model.name=cli_test_own:Branched",
        "model.args={ channels = 3 }",
        "budget.0.limit=3x",
        "index.shrinkage=none",  # three neurons and a few images: on average there is nothing to gain
        "export.onnx=false",
    ]
    words = [word for text in settings for word in ("--set", text)]
    result = CliRunner().invoke(app, ["grow", str(recipe), "--run", str(tmp_path / "run"), *words])
    yield tmp_path / "run"
    sys.modules.pop("cli_test_own", None)
    assert result.exit_code == 0, result.output


def test_a_run_of_the_users_own_model_is_priced_and_exported_again(own_run):
    priced = CliRunner().invoke(app, ["price", str(own_run)])
    assert priced.exit_code == 0, priced.output
    assert f"run {own_run}, stage 1, image 1 x 8 x 8" in priced.stdout
    journal = [json.loads(line) for line in (own_run / "journal.jsonl").read_text().splitlines()]
    macs = journal[-1]["prices"]["macs"]["value"]
    assert f"{macs / 1e3:.2f} k MACs, counted" in priced.stdout
    exported = CliRunner().invoke(app, ["export", str(own_run)])
    assert exported.exit_code == 0, exported.output
    assert (own_run / "model.onnx").is_file()


def test_a_run_whose_own_model_is_gone_says_which(own_run, monkeypatch):
    sys.modules.pop("cli_test_own")
    (own_run.parent / "cli_test_own.py").unlink()
    for command in ("price", "export"):
        result = CliRunner().invoke(app, [command, str(own_run)])
        assert result.exit_code == 2
        assert "module 'cli_test_own' can't be imported" in result.stderr


def test_the_recipe_for_any_network_grows_one_of_torchvisions(tmp_path):
    from PIL import Image

    for part, count in (("train", 20), ("val", 4)):
        for label in ("cat", "dog"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.effect_noise((32, 32), 10 + 40 * (label == "dog") + number).convert("RGB").save(
                    folder / f"{number}.png"
                )
    recipes = Path(__file__).resolve().parents[2] / "recipes"
    settings = [
        "model.name=torchvision:shufflenet_v2_x0_5",
        "model.args={ num_classes = 2 }",
        f"data.root={tmp_path}",
        "data.image_size=32",
        "train.epochs=2",
        "train.batch_size=18",
        "index.images=18",
        "index.held_out_images=18",
        "index.sweeps=2",
        "growth.stages=1",
        "run.device=cpu",
        "export.onnx=false",
    ]
    words = [word for text in settings for word in ("--set", text)]
    run = tmp_path / "run"
    result = CliRunner().invoke(app, ["grow", str(recipes / "torchvision_any.toml"), "--run", str(run), *words])
    assert result.exit_code == 0, result.output
    before, after = (json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines())
    assert (
        before["prices"]["macs"]["value"] < after["prices"]["macs"]["value"] <= 1.3 * before["prices"]["macs"]["value"]
    )
    priced = CliRunner().invoke(app, ["price", str(run)])
    assert priced.exit_code == 0, priced.output
