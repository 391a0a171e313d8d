"""What a run holds on to of things outside its folder: the images of a folder of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import growth_runs
import numpy as np
import pytest
from PIL import Image

from energysplit import growth
from energysplit.errors import RunError
from energysplit.growth.compared import read_run
from energysplit.growth.noted import DATA_FILE
from energysplit.output.comparison_doubts import compared
from energysplit.recipe import Recipe


def images(root: Path, classes: tuple[str, str]) -> Path:
    """A folder of a few small images in two classes."""
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 4)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def recipe(root: Path) -> Recipe:
    return growth_runs.tiny(
        model={"args": {**growth_runs.TINY["model"]["args"], "in_channels": 3, "classes": 2}},
        data={"name": "image_folder", "root": str(root), "image_size": 8},
        train={"epochs": 1, "batch_size": 16},
        index={"images": 16, "held_out_images": 16},
        growth={"stages": 0},
    )


def test_a_run_goes_on_with_its_own_images_only_and_others_are_doubted(tmp_path: Path) -> None:
    pets, fruits = images(tmp_path / "pets", ("cat", "dog")), images(tmp_path / "fruits", ("apple", "pear"))
    for root in (pets, fruits):
        growth.grow(recipe(root), run_dir=tmp_path / f"run-{root.name}")
    run = tmp_path / "run-pets"
    assert json.loads((run / DATA_FILE).read_text())["root"] == str(pets)
    growth.grow(recipe(pets), run_dir=run, resume=True)
    for part in ("train", "val"):
        (pets / part / "cat").rename(pets / part / "lynx")
    with pytest.raises(
        RunError, match=r"run-pets was started with other images than .*/pets holds now: other files, or"
    ):
        growth.grow(recipe(pets), run_dir=run, resume=True)
    doubts = compared([read_run(tmp_path / f"run-{name}") for name in ("pets", "fruits")]).warnings
    assert [text for text in doubts if "images (digest of the files' names) differs" in text]
