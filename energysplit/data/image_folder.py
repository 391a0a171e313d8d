"""Images in folders, one a class: root/train/<class>/ and root/val/<class>/, as ImageNet is usually stored.

Files are decoded by worker processes. Each image is augmented with a seed of its own, drawn with the order, so batches
are the same bit for bit however many workers there are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from energysplit.data.small_sets import limited
from energysplit.data.split import Batch, Split, Splits, divide
from energysplit.errors import DataError, refusal

# ImageNet's, pixels between 0 and 1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Images are made this much larger than the crop taken from their centre: 256 for 224.
_RESIZE = 256 / 224
# What the names of the files promise. Pillow looks into the content, and knows formats that start other programs.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")

# Bytes of a photograph of 22 megapixels.
_PHOTOGRAPH = 64 * 2**20


class FolderSplit(Split):
    """Images read from files, in colour.

    Args:
        files: (path, label) of each image.
        image_size: height and width of the inputs.
        workers: processes that decode images; 0 decodes in this one.
    """

    def __init__(self, files: list[tuple[str, int]], *, image_size: int, workers: int) -> None:
        self._files = files
        self._targets = torch.tensor([label for _, label in files], dtype=torch.int64)
        self._workers = workers
        finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        self._plain = v2.Compose(
            [v2.Resize(math.ceil(image_size * _RESIZE), antialias=True), v2.CenterCrop(image_size), *finish]
        )
        crop = [v2.RandomResizedCrop(image_size, antialias=True), v2.RandomHorizontalFlip()]
        self._augmented = v2.Compose([*crop, *finish])
        self._randaugmented = v2.Compose([*crop, v2.RandAugment(), *finish])

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    @property
    def targets(self) -> Int[Tensor, " images"]:
        """The label of each image, in order."""
        return self._targets

    def batches_of(
        self,
        order: Int[Tensor, " drawn"],
        batch_size: int,
        *,
        seed: int | None,
        device: torch.device | str,
        randaugment: bool = False,
    ) -> Iterator[Batch]:
        """The images of these numbers, in this order; augmented by `seed` unless it is None, also by RandAugment.

        Yields:
            Inputs and targets of one batch. An image that can't be read is a DataError.
        """
        keys: list[tuple[int, int | None]] = [(index, None) for index in order.tolist()]
        if seed is not None:
            # Another stream than the order's, which was drawn from the same seed.
            generator = torch.Generator().manual_seed(seed ^ 0x5EED)
            seeds = torch.randint(0, 2**62, (len(keys),), generator=generator).tolist()
            keys = list(zip(order.tolist(), seeds, strict=True))
        device = torch.device(device)
        loader = DataLoader(
            _Decoder(self._files, self._plain, self._randaugmented if randaugment else self._augmented),
            batch_size=batch_size,
            sampler=keys,
            num_workers=min(self._workers, max(1, len(keys) // batch_size)) if self._workers else 0,
            pin_memory=device.type == "cuda",
            collate_fn=_collate,
            # Its own generator: the loader would otherwise draw its base seed from the global random state.
            generator=torch.Generator().manual_seed(0),
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            images, targets = batch
            yield images.to(device, non_blocking=True), targets.to(device, non_blocking=True)


class _Decoder(Dataset[tuple[Tensor, int] | DataError]):
    """Image by (number, seed); without a seed it is not augmented.

    An error is handed over, not raised: torch would wrap it in the worker's traceback.
    """

    def __init__(self, files: list[tuple[str, int]], plain: v2.Transform, augmented: v2.Transform) -> None:
        self.files, self.plain, self.augmented = files, plain, augmented

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Tensor, int] | DataError:
        index, seed = key
        path, label = self.files[index]
        try:
            with Image.open(path, formats=_FORMATS) as file:
                image = _coloured(file)
        except MemoryError:
            if not _room():
                raise
            return DataError(
                f"image {path} can't be read (it asks for more memory than there is); replace or remove it"
            )
        except Exception as error:  # a damaged file can make the decoder stumble anywhere
            if isinstance(error, OSError) and error.errno is not None:  # the system's, not the decoder's
                error.filename = path
                return DataError(f"image {refusal(error)}")
            return DataError(f"image {path} can't be read ({error}); replace or remove it")
        if seed is None:
            return self.plain(image), label
        # The transforms draw from the global state, which is put back: dropout of the training goes on undisturbed.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.augmented(image), label


def _coloured(file: Image.Image) -> Image.Image:
    """The image in 8-bit colour; an alpha channel is dropped.

    Raises:
        ValueError: its numbers are of 32 bits, and nobody says which of them is white.
    """
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):
        # Pillow's own conversion cuts off at 255, which makes a 16-bit image white.
        return Image.fromarray((np.asarray(file) // 257).astype(np.uint8)).convert("RGB")
    if file.mode in ("I", "F"):
        raise ValueError(f"numbers of 32 bits, mode {file.mode!r}, where 8 or 16 bits a channel are expected")
    return file.convert("RGB")


def _room() -> bool:
    """Whether there is memory for an ordinary photograph: then it is the file that asks for too much."""
    try:
        return bool(bytearray(_PHOTOGRAPH))
    except MemoryError:
        return False


def _collate(items: list[tuple[Tensor, int] | DataError]) -> Batch | DataError:
    """Inputs and targets of a batch, or the first error among its images."""
    for item in items:
        if isinstance(item, DataError):
            return item
    images, labels = zip(*items, strict=True)  # type: ignore[arg-type]
    return torch.stack(images), torch.tensor(labels)


def image_folder(
    root: Path, *, image_size: int, validation: float, seed: int, limit: int | None, workers: int
) -> Splits:
    """The images under root/train (training and validation) and root/val (test).

    Raises:
        DataError: a folder is absent or empty, a class has no images, or the two folders hold other classes.
    """
    train, test = (_listed(root, part) for part in ("train", "val"))
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise DataError(
            f"image_folder: {root / 'train'} and {root / 'val'} must hold the same class folders; only one of them "
            f"has {', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''}"
        )
    targets = torch.tensor(train.targets, dtype=torch.int64)
    keep, held = divide(targets, validation, seed=seed)
    keep = limited(keep, targets, limit, seed=seed)

    def part(files: list[tuple[str, int]]) -> FolderSplit:
        return FolderSplit(files, image_size=image_size, workers=workers)

    return Splits(
        train=part([train.samples[i] for i in keep.tolist()]),
        validation=part([train.samples[i] for i in held.tolist()]),
        test=part(test.samples),
        classes=len(train.classes),
        image_shape=(3, image_size, image_size),
        name="image_folder",
        mean=MEAN,
        std=STD,
        files=_digest(root, [*train.samples, *test.samples]),
    )


def _digest(root: Path, samples: list[tuple[str, int]]) -> str:
    """SHA-256 of the files' names inside the root, class folders included; contents are not read."""
    names = sorted(Path(path).relative_to(root).as_posix() for path, _ in samples)
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()


def _listed(root: Path, part: str) -> Any:
    folder = root / part
    try:
        return ImageFolder(folder)
    # FileNotFoundError: no such folder, no class folders in it, or one without images.
    except OSError as error:
        raise DataError(
            f"image_folder: {folder} can't be used ({str(error).rstrip('.')}); expected: {root}/train/<class>/*.jpg "
            f"and {root}/val/<class>/*.jpg, at least one image a class. Set data.root to the folder that holds both"
        ) from error
