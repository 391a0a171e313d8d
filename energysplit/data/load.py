"""Data sets by name."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from energysplit.cores import usable_cores
from energysplit.data.small_sets import SMALL_SETS, digits, from_torchvision
from energysplit.data.split import Split, Splits
from energysplit.errors import DataError, nearest

_FOLDER_SIZE = 224


def names() -> list[str]:
    """Names of the data sets, sorted."""
    return sorted(["digits", *SMALL_SETS, "image_folder"])


def image_shape(name: str, image_size: int | None = None) -> tuple[int, int, int]:
    """Channels, height and width of a data set's images, known without its files.

    Raises:
        DataError: unknown name.
    """
    _check_name(name)
    if name == "digits":
        return 1, 8, 8
    if name == "image_folder":
        return 3, image_size or _FOLDER_SIZE, image_size or _FOLDER_SIZE
    return SMALL_SETS[name].image_shape


def load(
    name: str,
    *,
    root: str | Path | None = None,
    image_size: int | None = None,
    validation: float = 0.1,
    seed: int = 0,
    download: bool = False,
    limit: int | None = None,
    workers: int | None = None,
) -> Splits:
    """The training, validation and test images of a data set.

    Args:
        name: "digits" (comes with scikit-learn), "cifar10", "cifar100", "fashion_mnist" (torchvision's folders) or
            "image_folder" (root/train/<class>/ and root/val/<class>/).
        root: folder of the data set; not for digits.
        image_size: height and width of the inputs; for image_folder, 224 if not given. The others have one size.
        validation: share of each class of the training images that becomes the validation part.
        seed: which images these are, and which `limit` keeps.
        download: whether torchvision may fetch files that are missing.
        limit: training images to keep; validation and test images are the same with or without it.
        workers: processes that decode the images of folders; one less than the processors, at most 8, if not given.

    Raises:
        DataError: unknown name, folder absent, empty or damaged, an image size the set does not have, or a share or
            limit that leaves a part empty. The message says what is expected and what to do.

    Example:
        >>> splits = load("digits", validation=0.1, seed=0)
        >>> len(splits.train), len(splits.validation), len(splits.test), splits.image_shape
        (1294, 144, 359, (1, 8, 8))
    """
    _check_name(name)
    if not 0 < validation < 1:
        raise DataError(f"data.validation = {validation}: a share between 0 and 1 is expected, such as 0.1")
    if limit is not None and limit < 1:
        raise DataError(f"data.limit = {limit}: at least one training image is expected")
    if image_size is not None and image_size < 1:
        raise DataError(f"data.image_size = {image_size}: a positive number of pixels is expected")
    if name == "image_folder":
        from energysplit.data.image_folder import image_folder

        splits = image_folder(
            _root(name, root),
            image_size=image_size or _FOLDER_SIZE,
            validation=validation,
            seed=seed,
            limit=limit,
            workers=_workers() if workers is None else workers,
        )
    elif name == "digits":
        splits = digits(validation=validation, seed=seed, limit=limit)
    else:
        splits = from_torchvision(
            name, _root(name, root), validation=validation, seed=seed, download=download, limit=limit
        )
    if image_size is not None and splits.image_shape[1:] != (image_size, image_size):
        height, width = splits.image_shape[1:]
        raise DataError(
            f"data.image_size = {image_size}: images of {name} are {height}x{width}; leave the key out "
            "(other sizes can be had with image_folder)"
        )
    for part in ("train", "validation", "test"):
        images: Split = getattr(splits, part)
        if len(images) == 0:
            raise DataError(f"{name}: no images for {part}; change data.validation = {validation} or add images")
        _check_labels(images.targets, splits.classes, f"{name}, {part}")
    return splits


def _check_labels(targets: Int[Tensor, " images"], classes: int, where: str) -> None:
    """Refuse labels that no output of a network stands for; on a GPU they would end the process without a word."""
    wrong = ((targets < 0) | (targets >= classes)).nonzero().flatten().tolist()
    if wrong:
        raise DataError(
            f"{where}: the label of image {wrong[0]} is {int(targets[wrong[0]])}, 0 to {classes - 1} expected "
            f"({len(wrong)} such labels); is a file damaged? Fetch the data set anew (data.root)"
        )


def _check_name(name: str) -> None:
    if name not in names():
        raise DataError(f"unknown data set {name!r} (data.name); {nearest(name, names())}")


def _root(name: str, root: str | Path | None) -> Path:
    if root is None:
        raise DataError(f"{name} needs data.root, the folder its files are in (or shall be downloaded to)")
    return Path(root).expanduser()


def _workers() -> int:
    return min(8, (usable_cores() or 1) - 1)
