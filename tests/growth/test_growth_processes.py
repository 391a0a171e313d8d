"""Growth in several processes on one machine (gloo, CPU): the same as in one, written once, and no hang when one fails.

Batch norm makes training itself depend on how batches are shared, so what is compared with one process is a network
without it; one with it is compared between the processes of a run.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import growth_runs
import pytest
import tomli_w
import torch
from launched import LONGEST_S, environment, launched

from energysplit import growth
from energysplit.errors import RecipeError
from energysplit.growth.setup import _check_images
from energysplit.output.atomic import write_text
from energysplit.output.indices import load_index

PLAIN = {"model": {"name": "mlp", "args": {"widths": [5, 6], "activation": "silu"}}, "index": {"sweeps": 40}}
ALL_ON = {
    "train": {"ema": 0.9, "patience": 1, "accumulate": 2},
    "run": {"precision": "bf16", "channels_last": True},
    "growth": {"stages": 1},
}


def recipe_file(folder: Path, **sections: dict) -> Path:
    """The tiny recipe with some keys changed, as a file."""
    keys = {}
    for key, value in {**growth_runs.TINY, **sections}.items():
        keys[key] = {**growth_runs.TINY.get(key, {}), **value} if isinstance(value, dict) else value
    if "model" in sections:
        keys["model"] = sections["model"]
    (folder / "recipe.toml").write_text(tomli_w.dumps(keys))
    return folder / "recipe.toml"


def grow(recipe, run, processes, what="whole"):
    return launched(["-m", "growth_processes", what, "grow", str(recipe), "--run", str(run)], processes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The recipe and the run folders of one and of two processes."""
    folder = tmp_path_factory.mktemp("processes")
    recipe = recipe_file(folder, **PLAIN)
    found = {}
    for processes in (1, 2):
        ended = grow(recipe, folder / str(processes), processes)
        assert [each.code for each in ended] == [0] * processes, ended
        found[processes] = (folder / str(processes), ended)
    return recipe, found


def test_two_processes_grow_as_one(runs):
    """The same widths in every stage; indices within rounding.

    Stage 0: 1e-5 of the largest. Later an eigenvector's sign may turn with rounding, and with it which copy comes
    first, so values are compared in order of size, after sweeps enough that the random start is forgotten: 1e-3.
    """
    _, found = runs
    (one, _), (two, _) = found[1], found[2]
    first, second = growth_runs.journal(one), growth_runs.journal(two)
    assert len(first) == len(second) == 3
    assert [line["widths"] for line in first] == [line["widths"] for line in second]
    assert first[0]["widths"] != first[2]["widths"]
    for a, b in zip(first, second, strict=True):
        assert b["train"]["loss"] == pytest.approx(a["train"]["loss"], rel=1e-3)
    for stage, tolerance in ((0, 1e-5), (1, 1e-3)):
        a, b = (load_index(folder / "stages" / str(stage) / "index.safetensors") for folder in (one, two))
        assert a.keys() == b.keys()
        for name in a:
            x, y = a[name].value, b[name].value
            if stage:
                x, y = x.sort().values, y.sort().values
            torch.testing.assert_close(x, y, rtol=0, atol=tolerance * float(x.abs().max()))
    a, b = first[0]["growth"]["step"], second[0]["growth"]["step"]
    for key in ("predicted_change", "predicted_stderr", "realised_change", "loss_before"):
        assert b[key] == pytest.approx(a[key], rel=1e-4), key


def test_two_processes_choose_the_same_fresh_neurons(tmp_path):
    """Training apart but for rounding, values to 1e-4 of the largest."""
    sections = {**PLAIN, "index": {"method": "fresh"}, "growth": {"stages": 1}}
    recipe = recipe_file(tmp_path, **sections)
    for processes in (1, 2):
        ended = grow(recipe, tmp_path / str(processes), processes)
        assert [each.code for each in ended] == [0] * processes, ended
    one, two = (growth_runs.journal(tmp_path / str(processes)) for processes in (1, 2))
    assert [line["widths"] for line in one] == [line["widths"] for line in two]
    assert one[0]["widths"] != one[1]["widths"]
    a, b = (load_index(tmp_path / str(processes) / "stages" / "0" / "index.safetensors") for processes in (1, 2))
    for name in a:
        assert torch.equal(a[name].value < 0, b[name].value < 0)
        for values in ("value", "stderr", "same_images"):
            first, second = getattr(a[name], values), getattr(b[name], values)
            assert float((first - second).abs().max()) < 1e-4 * float(first.abs().max())


def test_only_the_main_process_speaks_and_writes(runs):
    _, found = runs
    (one, alone), (two, ended) = found[1], found[2]
    shown = [line for line in ended[1].out.splitlines() if not line.startswith("network")]
    assert shown == []
    assert ended[0].out.count("stage 0 (last: 2)") == alone[0].out.count("stage 0 (last: 2)") == 1
    names = {path.name for path in two.iterdir()}
    assert names == {path.name for path in one.iterdir()}
    lines = (two / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == [0, 1, 2]


def test_processes_hold_one_network(runs, tmp_path):
    """With batch norm, a moving average, a plateau, bf16, channels last and accumulation: the same bits on both."""
    ended = grow(recipe_file(tmp_path, **ALL_ON), tmp_path / "run", 2)
    assert [each.code for each in ended] == [0, 0], ended
    told = [[line for line in each.out.splitlines() if line.startswith("network")] for each in ended]
    assert told[0] == told[1]
    assert [line.split()[1] for line in told[0]] == ["0"]
    lines = growth_runs.journal(tmp_path / "run")
    assert len(lines) == 2
    assert sum(lines[1]["widths"].values()) > sum(lines[0]["widths"].values())
    assert all(math.isfinite(line["validation"]["loss"]) for line in lines)


def test_processes_prune_one_network(tmp_path, monkeypatch):
    """A baseline with a penalty: decided once, the same bits on both, inside the reference run's prices."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
    growth.grow(growth_runs.tiny(growth={"stages": 1}), run_dir=tmp_path / "grown")
    baseline = {"kind": "morphnet", "sizes_of": str(tmp_path / "grown")}
    ended = grow(recipe_file(tmp_path, growth={"stages": 1}, baseline=baseline), tmp_path / "run", 2)
    assert [each.code for each in ended] == [0, 0], ended
    told = [[line for line in each.out.splitlines() if line.startswith("network")] for each in ended]
    assert told[0] == told[1] != []
    first, last = growth_runs.journal(tmp_path / "run")
    assert first["replacement"]["kept"]
    assert sum(last["widths"].values()) < sum(first["widths"].values())
    limit = growth_runs.journal(tmp_path / "grown")[1]["prices"]["macs"]["value"]
    assert last["prices"]["macs"]["value"] <= limit


def test_a_killed_process_ends_the_run_and_resume_finishes_it(runs, tmp_path):
    """The message, the exit code, and then torchrun: the files of an undisturbed run, bit for bit."""
    recipe, found = runs
    run = tmp_path / "run"
    survivor, killed = grow(recipe, run, 2, "killed")
    assert killed.code == -9
    assert survivor.code == 1
    assert "another process of this run ended" in survivor.err
    assert f"is in {run}; start all processes again with --resume" in survivor.err
    assert "Traceback" not in survivor.err
    assert len(growth_runs.journal(run)) == 1
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--",
         "energysplit", "grow", str(recipe), "--run", str(run), "--resume"],
        env=environment(), capture_output=True, text=True, timeout=LONGEST_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert growth_runs.journal(run) == growth_runs.journal(found[2][0])
    assert growth_runs.files(run) == growth_runs.files(found[2][0])
    assert done.stdout.count(f"run: {run}") == 1


@pytest.mark.parametrize(
    ("what", "codes", "message"),
    [
        ("full", [2, 1], "No space left on device; free some space there, then go on with --resume"),
        ("changed", [1, 1], "check failed: the split network's outputs differ by 0.5"),
        ("unreadable", [1, 2], "error: image 7 can't be read"),
    ],
)
def test_an_error_on_one_ends_all_with_one_message(runs, tmp_path, what, codes, message):
    ended = grow(runs[0], tmp_path / "run", 2, what)
    assert [each.code for each in ended] == codes, ended
    said = "".join(each.err for each in ended)
    assert said.count(message) == 1
    assert "Traceback" not in said


def test_a_wrong_recipe_is_refused_once(runs, tmp_path):
    recipe = recipe_file(tmp_path, index={"images": 100_000})
    ended = grow(recipe, tmp_path / "run", 2)
    assert [each.code for each in ended] == [2, 2], ended
    assert "".join(each.err for each in ended).count("error: index.images + index.held_out_images = 100128") == 1
    assert not (tmp_path / "run").exists()


def test_batches_too_small_for_the_processes_are_refused():
    recipe = growth_runs.tiny(train={"batch_size": 64})
    _check_images(recipe, 64 * 20 + 3, 1)
    _check_images(recipe, 64 * 20 + 4, 2)
    with pytest.raises(RecipeError, match="makes a batch of 3 of the 1283 training images, too few for 2 processes"):
        _check_images(recipe, 64 * 20 + 3, 2)
    with pytest.raises(RecipeError, match="makes a batch of 64 .* too few for 33 processes"):
        _check_images(recipe, 64 * 20, 33)
