"""Data sets in folders: real ones where they are at hand, and what is said of missing or damaged ones."""

from __future__ import annotations

import errno
import shutil
import struct

import numpy as np
import pytest
import torch
from faults.guard import bounded_memory
from PIL import Image

from energysplit import data
from energysplit.data import image_folder
from energysplit.errors import DataError


def write_idx(path, array):
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def tiny_fashion(tmp_path):
    """A Fashion-MNIST folder with 40 + 20 made-up images."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        write_idx(raw / f"{part}-images-idx3-ubyte", random.integers(0, 255, (count, 28, 28), dtype=np.uint8))
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return tmp_path


def test_fashion_mnist_is_read_from_torchvisions_folder(tiny_fashion):
    splits = data.load("fashion_mnist", root=tiny_fashion, validation=0.25)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 10, 20)
    inputs, targets = next(splits.train.batches(8, seed=0, augment=True))
    assert inputs.shape == (8, *splits.image_shape) == (8, 1, 28, 28)
    assert targets.dtype == torch.int64
    assert torch.equal(splits.test.targets, torch.arange(20) % 10)


def test_images_of_the_wrong_size_are_refused(tiny_fashion):
    raw = tiny_fashion / "FashionMNIST" / "raw"
    write_idx(raw / "train-images-idx3-ubyte", np.zeros((40, 20, 28), np.uint8))
    with pytest.raises(DataError, match=r"40 images of \(1, 20, 28\).*files are damaged"):
        data.load("fashion_mnist", root=tiny_fashion)


def test_a_truncated_file_is_refused(tiny_fashion):
    file = tiny_fashion / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(
        DataError, match=r"fashion_mnist: the folder .* has no complete copy of it, or .* \(.+\); expected"
    ):
        data.load("fashion_mnist", root=tiny_fashion)


@pytest.mark.parametrize(
    ("name", "files"),
    [("cifar10", "data_batch_1"), ("cifar100", "cifar-100-python"), ("fashion_mnist", "train-images-idx3-ubyte")],
)
def test_absent_and_empty_folders_are_refused_and_nothing_is_made(name, files, tmp_path):
    absent = tmp_path / "none"
    with pytest.raises(
        DataError, match=rf"{name}: the folder .*none does not exist; exp.*{files}.*data.download = true"
    ):
        data.load(name, root=absent)
    assert not absent.exists()
    with pytest.raises(DataError, match=rf"the folder .* is empty; expected.*{files}"):
        data.load(name, root=tmp_path)
    with pytest.raises(DataError, match=r"needs data\.root"):
        data.load(name)


def test_damaged_cifar_files_are_refused_before_they_are_unpickled(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        # A pickle that would raise if it were loaded.
        (folder / name).write_bytes(b"cos\nabort\n(tR.")
    with pytest.raises(DataError, match="has no complete copy of it, or a damaged one; expected"):
        data.load("cifar10", root=tmp_path)


def test_a_download_that_fails_says_so(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(DataError, match=r"cifar10 could not be downloaded.*network is unreachable"):
        data.load("cifar10", root=tmp_path, download=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar"}, r"unknown data set 'cifar' .*did you mean 'cifar10'"),
        ({"name": "digits", "validation": 0.0}, "a share between 0 and 1"),
        ({"name": "digits", "limit": 0}, "at least one training image"),
        ({"name": "digits", "image_size": 16}, "images of digits are 8x8; leave the key out"),
        ({"name": "digits", "validation": 1e-9}, "no images for validation"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        data.load(**arguments)


def test_real_cifar10_has_its_images_labels_and_statistics(cifar10_root):
    splits = data.load("cifar10", root=cifar10_root, seed=3)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (45_000, 5_000, 10_000)
    assert splits.validation.targets.bincount().tolist() == [500] * 10
    assert splits.test.targets[:5].tolist() == [3, 8, 8, 0, 6]
    # Ten batches of 5,000 images, so the mean over images is the mean over batches.
    parts = [x for split in (splits.train, splits.validation) for x, _ in split.batches(5000)]
    mean = torch.stack([x.mean((0, 2, 3)) for x in parts]).mean(0)
    square = torch.stack([x.square().mean((0, 2, 3)) for x in parts]).mean(0)
    assert mean.abs().max() < 1e-3
    assert ((square - mean**2).sqrt() - 1).abs().max() < 1e-3


def test_real_fashion_mnist_has_the_statistics_used(fashion_mnist_root):
    splits = data.load("fashion_mnist", root=fashion_mnist_root)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (54_000, 6_000, 10_000)
    parts = [x for split in (splits.train, splits.validation) for x, _ in split.batches(10_000)]
    inputs = torch.cat(parts)
    assert abs(inputs.mean().item()) < 1e-3
    assert abs(inputs.std().item() - 1) < 1e-3


def test_image_folder_parts_sizes_and_labels(folder_root):
    splits = data.load("image_folder", root=folder_root, image_size=16, validation=0.2, workers=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (25, 6, 12)
    assert (splits.classes, splits.image_shape) == (3, (3, 16, 16))
    inputs, targets = map(torch.cat, zip(*splits.test.batches(5), strict=True))
    assert inputs.shape == (12, 3, 16, 16)
    # A class's colour is its brightest channel: blue, green, red are labels 0, 1, 2.
    assert torch.equal(2 - inputs.mean((2, 3)).argmax(1), targets)


def test_image_folder_batches_are_the_same_with_any_number_of_workers(folder_root):
    parts = [
        data.load("image_folder", root=folder_root, image_size=16, validation=0.2, workers=workers).train
        for workers in (0, 2)
    ]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    runs = [
        list(part.batches(4, seed=seed, augment=True)) for part, seed in zip([*parts, parts[0]], (7, 7, 8), strict=True)
    ]
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(runs[0], runs[1], strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    assert not torch.equal(runs[0][0][0], runs[2][0][0])
    plain = list(parts[0].batches(4, seed=7))
    assert torch.equal(plain[0][1], runs[0][0][1])
    assert not torch.equal(plain[0][0], runs[0][0][0])


def test_image_folder_messages(folder_root, tmp_path):
    with pytest.raises(DataError, match=r"image_folder: .*train can't be used .*<class>/\*.jpg.*data.root"):
        data.load("image_folder", root=tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(folder_root, copy)
    (copy / "val" / "red").rename(copy / "val" / "rot")
    with pytest.raises(DataError, match=r"same class folders; only one of them has red, rot"):
        data.load("image_folder", root=copy)
    shutil.rmtree(copy / "val" / "rot")
    (copy / "val" / "red").mkdir()
    with pytest.raises(DataError, match=r"val can't be used .*red"):
        data.load("image_folder", root=copy)


def test_16_bits_are_read_as_8_are_and_32_are_refused(folder_root, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
    wide = pixels.astype(np.uint16) * 257

    def first(image, name):
        copy = tmp_path / name
        shutil.copytree(folder_root, copy)
        (copy / "val" / "blue" / "0.png").unlink()
        image.save(copy / "val" / "blue" / f"0.{name}")
        (x, _), *_ = data.load("image_folder", root=copy, image_size=16, workers=0).test.batches(1)
        return x

    expected = first(Image.fromarray(pixels), "bmp")
    assert expected.std() > 0.1
    for name in ("png", "tiff"):
        assert torch.equal(first(Image.fromarray(wide), name), expected), name
    for kind in (np.int32, np.float32):
        with pytest.raises(
            DataError, match=r"0.tif can't be read \(numbers of 32 bits, mode '[IF]', where 8 or 16 bits"
        ):
            first(Image.fromarray(pixels.astype(kind)), "tif")
        shutil.rmtree(tmp_path / "tif")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(folder_root, tmp_path, workers):
    copy = tmp_path / "copy"
    shutil.copytree(folder_root, copy)
    (copy / "val" / "blue" / "0.png").write_bytes(b"not an image")
    splits = data.load("image_folder", root=copy, image_size=16, workers=workers)
    with pytest.raises(DataError, match=r"^image .*blue/0.png can't be read .*replace or remove it$"):
        list(splits.test.batches(4))


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (MemoryError(), MemoryError, "^$"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            DataError,
            r"^image .*\.png: Too many open files; raise the limit on open files .*$",
        ),
    ],
)
def test_no_image_is_blamed_for_the_machine(folder_root, monkeypatch, error, raised, message):
    monkeypatch.setattr(image_folder, "_PHOTOGRAPH", 2**62)  # no memory has it

    def fail(*_, **__):
        raise error

    splits = data.load("image_folder", root=folder_root, image_size=16, workers=0)
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(raised, match=message):
        list(splits.test.batches(4))


def test_an_image_that_asks_for_more_memory_than_there_is_is_named(folder_root, tmp_path):
    """A chunk of a PNG that says it has two thousand million bytes, more than the process may map."""
    copy = tmp_path / "copy"
    shutil.copytree(folder_root, copy)
    image = copy / "val" / "blue" / "0.png"
    content = image.read_bytes()
    at = content.index(b"IDAT")
    image.write_bytes(content[: at - 4] + (2**31 - 1).to_bytes(4, "big") + content[at:])
    splits = data.load("image_folder", root=copy, image_size=16, workers=0)
    with bounded_memory(2**30), pytest.raises(DataError, match=r"^image .*blue/0\.png can't be read .*remove it$"):
        list(splits.test.batches(4))


def test_grey_images_become_rgb(folder_root):
    splits = data.load("image_folder", root=folder_root, image_size=16, workers=0)
    grey = [name for name, _ in splits.train._files if name.endswith("grey.png")]
    assert len(grey) <= 1
    with Image.open(folder_root / "train" / "red" / "grey.png") as file:
        assert file.mode == "L"
    shapes = {tuple(x.shape[1:]) for split in (splits.train, splits.validation) for x, _ in split.batches(1)}
    assert shapes == {(3, 16, 16)}
