"""Real images, where the shared folder beside the checkout is there; tiny made-up folders otherwise."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def _unpacked(name, tmp_path_factory):
    script = SHARED / "unpack.py"
    if not script.is_file():
        pytest.skip(f"needs the real images of {SHARED}")
    spec = importlib.util.spec_from_file_location("unpack", script)
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    root = tmp_path_factory.mktemp(name)
    unpack.unpack(root, [name])
    return root


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory):
    """Folder with the real CIFAR-10 as torchvision reads it."""
    return _unpacked("cifar10", tmp_path_factory)


@pytest.fixture(scope="session")
def fashion_mnist_root(tmp_path_factory):
    """Folder with the real Fashion-MNIST as torchvision reads it."""
    return _unpacked("fashion_mnist", tmp_path_factory)


@pytest.fixture(scope="session")
def folder_root(tmp_path_factory):
    """train/ and val/ with three classes of small images: noise around a class colour, sizes differ, one is grey."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 4)):
        for label, colour in enumerate(("blue", "green", "red")):
            folder = root / part / colour
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 120, (20 + i, 30, 3), dtype=np.uint8)
                pixels[:, :, 2 - label] += 130
                Image.fromarray(pixels).save(folder / f"{i}.png")
    Image.fromarray(random.integers(0, 255, (25, 25), dtype=np.uint8)).save(root / "train" / "red" / "grey.png")
    return root
