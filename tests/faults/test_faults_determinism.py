"""One recipe, one machine, the CPU: every run of it is the same to the last bit, whatever differs between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import growth_runs
import numpy as np
import pytest
from PIL import Image

from energysplit import growth
from energysplit.experiment.recipe_file import write_recipe
from energysplit.output.atomic import write_text

SAME = ("model.onnx", "recipe.json")
"""Files of a run folder, besides its stages, that hold no time."""

RUNS: dict[str, dict[str, Any]] = {
    "signed": {"growth": {"stages": 1, "signed": True}, "export": {"onnx": True, "measure": False}},
    "rmsprop": {"index": {"method": "rmsprop"}, "growth": {"stages": 1, "method": "greedy"}},
    "by chance": {"index": {"method": "random"}, "growth": {"stages": 1, "method": "random"}},
    "lp": {"index": {"linear": "outgoing"}, "growth": {"stages": 1, "method": "lp"}},
    "augmented": {"data": {"augment": "randaugment"}, "growth": {"stages": 1}, "train": {"ema": 0.9, "accumulate": 2}},
}  # fmt: skip


CHILD = """
import os, sys
from pathlib import Path
if cores := sys.argv[3:]:
    os.sched_setaffinity(0, map(int, cores))
from energysplit import growth
from energysplit.output.atomic import write_text
growth.loop.write_report = lambda path, *_: write_text(path / "report.html", "left out")
growth.grow(Path(sys.argv[1]), run_dir=sys.argv[2])
"""


def here(folder: Path, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> dict[str, Any]:
    """What a run in this process leaves."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
    growth.grow(growth_runs.tiny(**sections), run_dir=folder)
    return left(folder)


def in_child(folder: Path, cores: tuple[int, ...] = (), **sections: Any) -> dict[str, Any]:
    """What a run leaves in a process with another seed of Python's hashes, which may use these cores only."""
    recipe = write_recipe(folder.with_suffix(".toml"), growth_runs.tiny(**sections))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(recipe), str(folder), *map(str, cores)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return left(folder)


def left(folder: Path) -> dict[str, Any]:
    """The journal without times, and the content of the files that hold none."""
    files = {name: (folder / name).read_bytes() for name in SAME if (folder / name).exists()}
    return {"journal": growth_runs.journal(folder), **growth_runs.files(folder), **files}


def differing(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of what differs."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def test_two_processes_grow_the_same_run(tmp_path, in_full, monkeypatch):
    for name in RUNS if in_full else ["signed"]:
        first = here(tmp_path / name / "here", monkeypatch, **RUNS[name])
        second = in_child(tmp_path / name / "child", **RUNS[name])
        assert differing(first, second) == [], name
        assert {"stages/0/index.safetensors", "stages/1/weights.safetensors"} <= first.keys()
        assert ("model.onnx" in first) == (name == "signed")


def test_another_seed_grows_another_run(tmp_path, monkeypatch):
    """What is compared does differ where anything does."""
    first, second = (here(tmp_path / str(seed), monkeypatch, seed=seed, growth={"stages": 1}) for seed in (0, 1))
    assert differing(first, second) == sorted(first)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes can't be kept to cores here")
def test_the_number_of_data_workers_changes_nothing(tmp_path, in_full):
    """There is one worker less than cores: none in the first run, one in the second."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if not in_full or len(cores) < 2:
        pytest.skip("needs two cores and make faults")
    chance = np.random.default_rng(0)
    for part, images in (("train", 80), ("val", 8)):
        for label in "ab":
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = chance.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    sections: dict[str, Any] = {
        "data": {"name": "image_folder", "root": str(tmp_path / "images"), "image_size": 8},
        "model": {"args": {"widths": [3, 4], "in_channels": 3, "classes": 2, "activation": "silu"}},
        "train": {"epochs": 2, "batch_size": 16},
        "index": {"images": 64, "held_out_images": 64},
        "growth": {"stages": 1},
    }
    assert differing(*(in_child(tmp_path / str(n), tuple(cores[:n]), **sections) for n in (1, 2))) == []
