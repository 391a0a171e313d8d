"""Data sets that fit in memory: scikit-learn's digits, and CIFAR and Fashion-MNIST from torchvision's folders.

Torchvision checks the CIFAR files against known MD5 sums before it unpickles them, so nothing unknown is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from energysplit.data.memory import Augmentation, MemorySplit
from energysplit.data.split import Splits, divide
from energysplit.errors import DataError

_DAMAGED = (ValueError, TypeError, KeyError, EOFError, AssertionError, UnpicklingError)
_DIGITS_TEST_SHARE = 0.2
_DIGITS_TEST_SEED = 0


@dataclass(frozen=True)
class SmallSet:
    """A data set in torchvision's layout.

    mean, std: of the official training images, pixels between 0 and 1. files: what torchvision looks for under root.
    """

    kind: str
    classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: str
    augmentation: Augmentation


_COLOUR = Augmentation(shift=4, border="reflect", mirror=True)

# Means and deviations: counted on the training images (a test counts CIFAR-10's and Fashion-MNIST's again where the
# files are at hand; CIFAR-100's are the published ones).
SMALL_SETS = {
    "cifar10": SmallSet(
        kind="CIFAR10",
        classes=10,
        image_shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        files="cifar-10-batches-py/ with data_batch_1 to data_batch_5, test_batch and batches.meta",
        augmentation=_COLOUR,
    ),
    "cifar100": SmallSet(
        kind="CIFAR100",
        classes=100,
        image_shape=(3, 32, 32),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        files="cifar-100-python/ with train, test and meta",
        augmentation=_COLOUR,
    ),
    "fashion_mnist": SmallSet(
        kind="FashionMNIST",
        classes=10,
        image_shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        files="FashionMNIST/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k- files",
        augmentation=Augmentation(shift=4, border="zero", mirror=True),
    ),
}


def digits(*, validation: float, seed: int, limit: int | None) -> Splits:
    """scikit-learn's handwritten digits: 1,797 grey images of 8x8; 20 % of each class, always the same, are the test.

    Augmentation shifts by one pixel; digits are not mirrored.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).to(torch.uint8).unsqueeze(1)
    targets = torch.from_numpy(data.target).to(torch.int64)
    rest, test = divide(targets, _DIGITS_TEST_SHARE, seed=_DIGITS_TEST_SEED)
    return _splits(
        "digits",
        (images[rest], targets[rest]),
        (images[test], targets[test]),
        classes=10,
        mean=(0.3053,),
        std=(0.3761,),
        augmentation=Augmentation(shift=1, border="zero", mirror=False),
        white=16,
        validation=validation,
        seed=seed,
        limit=limit,
    )


def from_torchvision(
    name: str, root: Path, *, validation: float, seed: int, download: bool, limit: int | None
) -> Splits:
    """CIFAR-10, CIFAR-100 or Fashion-MNIST from the folder torchvision's classes read.

    Files that are absent or damaged, or could not be downloaded, are a DataError.
    """
    known = SMALL_SETS[name]
    parts = [_read(name, known, root, train=train, download=download) for train in (True, False)]
    return _splits(
        name,
        *parts,
        classes=known.classes,
        mean=known.mean,
        std=known.std,
        augmentation=known.augmentation,
        white=255,
        validation=validation,
        seed=seed,
        limit=limit,
    )


def _read(name: str, known: SmallSet, root: Path, *, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, known.kind)
    try:
        data = make(root, train=train, download=download)
    # RuntimeError: torchvision did not find the files; OSError: network or disk; the others: damaged files.
    except (RuntimeError, OSError, *_DAMAGED) as error:
        expected = f"expected in {root}: {known.files}"
        # Torchvision's own hint is one for its callers, and says nothing that is not said here.
        why = "" if "download=True" in str(error) else f" ({error})"
        if download:
            raise DataError(f"{name} could not be downloaded to {root}{why}; {expected}") from error
        state = (
            "is empty" if root.is_dir() and not any(root.iterdir()) else "has no complete copy of it, or a damaged one"
        )
        state = state if root.is_dir() else "does not exist"
        raise DataError(
            f"{name}: the folder {root} {state}{why if root.is_dir() else ''}; {expected}. "
            "Set data.root to the folder that holds them, or data.download = true"
        ) from error
    images = torch.as_tensor(data.data)
    # CIFAR: (N, 32, 32, 3); Fashion-MNIST: (N, 28, 28).
    images = images.permute(0, 3, 1, 2).contiguous() if images.dim() == 4 else images.unsqueeze(1)
    targets = torch.as_tensor(data.targets).to(torch.int64)
    right = images.dtype == torch.uint8 and int(targets.min()) >= 0 and int(targets.max()) < known.classes
    if tuple(images.shape[1:]) != known.image_shape or len(images) != len(targets) or not right:
        raise DataError(
            f"{name} in {root}: {len(images)} images of {tuple(images.shape[1:])} with {len(targets)} labels; images "
            f"of {known.image_shape} in bytes with one label from 0 to {known.classes - 1} each are expected. The "
            "files are damaged: get them again"
        )
    return images, targets


def _splits(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augmentation: Augmentation,
    white: int,
    validation: float,
    seed: int,
    limit: int | None,
) -> Splits:
    images, targets = train
    keep, held = divide(targets, validation, seed=seed)
    keep = limited(keep, targets, limit, seed=seed)

    def part(images: Tensor, targets: Tensor, augmentation: Augmentation | None = None) -> MemorySplit:
        return MemorySplit(images, targets, mean=mean, std=std, augmentation=augmentation, white=white)

    channels, height, width = images.shape[1:]
    return Splits(
        train=part(images[keep], targets[keep], augmentation),
        validation=part(images[held], targets[held]),
        test=part(*test),
        classes=classes,
        image_shape=(channels, height, width),
        name=name,
        mean=mean,
        std=std,
    )


def limited(keep: Tensor, targets: Tensor, limit: int | None, *, seed: int) -> Tensor:
    """At most `limit` of the numbers in `keep`, the same share of each class; the validation images stay the same."""
    if limit is None or limit >= len(keep):
        return keep
    _, chosen = divide(targets[keep], limit / len(keep), seed=seed)
    return keep[chosen]
