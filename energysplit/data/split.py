"""A part of a data set: images drawn and batched by a seed alone.

What is common to images in memory and images in folders is here: orders, draws without overlap, and the three parts
together. How a list of image numbers becomes tensors is left to the subclass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energysplit.errors import DataError

Augment = bool | Literal["randaugment"]
"""Whether images are shifted and mirrored at random; "randaugment": and changed by RandAugment."""

Batch = tuple[Float[Tensor, "images channels height width"], Int[Tensor, " images"]]


class Split(ABC):
    """Images with labels, numbered from 0. Inputs are float32, normalised; targets int64."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @property
    @abstractmethod
    def targets(self) -> Int[Tensor, " images"]:
        """The label of each image, in order."""

    @abstractmethod
    def batches_of(
        self,
        order: Int[Tensor, " drawn"],
        batch_size: int,
        *,
        seed: int | None,
        device: torch.device | str,
        randaugment: bool = False,
    ) -> Iterator[Batch]:
        """The images of these numbers, in this order; augmented by `seed` unless it is None, also by RandAugment."""

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: Augment = False,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """All images once, in batches.

        Args:
            batch_size: images in a batch; the last one may be smaller.
            seed: None keeps the order; a number shuffles. The same number gives the same batches, bit for bit.
            augment: shift and mirror at random; "randaugment": and apply RandAugment; needs a seed.
            device: where the batches are wanted.
            drop_last: leave out a last batch that is not full.

        Raises:
            DataError: augmentation without a seed, or drop_last with fewer images than one batch.
        """
        if augment and seed is None:
            raise DataError("augmented batches need a seed: batches(..., seed=epoch_seed, augment=True)")
        if drop_last and len(self) < batch_size:
            raise DataError(
                f"{len(self)} images make no full batch of {batch_size}; use a smaller batch_size (train.batch_size)"
            )
        order = torch.arange(len(self)) if seed is None else torch.randperm(len(self), generator=_generator(seed))
        if drop_last:
            order = order[: len(self) // batch_size * batch_size]
        # Not a generator itself, so that wrong arguments are refused at once, not at the first batch.
        return self.batches_of(
            order,
            batch_size,
            seed=seed if augment else None,
            device=device,
            randaugment=augment == "randaugment",
        )

    def draw(
        self, images: int, *, seed: int, exclude: Int[Tensor, " excluded"] | Iterable[int] = ()
    ) -> Int[Tensor, " drawn"]:
        """Numbers of `images` images, drawn without replacement from those not excluded.

        With the same seed and exclusions, a smaller draw is the beginning of a larger one: samples can grow.

        Raises:
            DataError: fewer images are left than asked for.
        """
        taken = exclude if isinstance(exclude, Tensor) else torch.tensor(list(exclude), dtype=torch.int64)
        free = torch.ones(len(self), dtype=torch.bool)
        free[taken] = False
        if not 0 < images <= int(free.sum()):
            raise DataError(
                f"{images} images asked for, {int(free.sum())} left of {len(self)}; ask for 1 to {int(free.sum())} "
                "(index.images, index.held_out_images), or use more images (data.limit, data.validation)"
            )
        order = torch.randperm(len(self), generator=_generator(seed))
        return order[free[order]][:images]

    def take(self, indices: Int[Tensor, " drawn"], batch_size: int, device: torch.device | str = "cpu") -> list[Batch]:
        """The images of these numbers as a list of batches, in this order, never augmented."""
        return list(self.batches_of(indices, batch_size, seed=None, device=device))

    def sample(
        self,
        images: int,
        *,
        seed: int,
        batch_size: int,
        exclude: Int[Tensor, " excluded"] | Iterable[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> list[Batch]:
        """`draw` and `take` in one: fixed images, never augmented."""
        return self.take(self.draw(images, seed=seed, exclude=() if exclude is None else exclude), batch_size, device)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, and what is the same for all.

    image_shape: (channels, height, width). mean, std: per channel, of pixels between 0 and 1; inputs are
    (pixel - mean) / std. files: SHA-256 of the names of classes and files where the set is a folder of the user's own.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    image_shape: tuple[int, int, int]
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: str = ""


def divide(targets: Int[Tensor, " images"], share: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Image numbers (rest, part), both ascending; `part` holds `share` of each class, drawn by the seed.

    Each class gives its share rounded down; the classes with the largest remainders give one more each, until the
    whole part has round(share * images) images.
    """
    generator = _generator(seed)
    classes, counts = targets.unique(return_counts=True)
    exact = counts.double() * share
    quota = exact.floor().long()
    missing = round(share * len(targets)) - int(quota.sum())
    # Stable, so that ties go to the first classes on every machine.
    most = torch.sort(exact - quota, descending=True, stable=True).indices[:missing]
    quota[most] += 1
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label, count in zip(classes.tolist(), quota.tolist(), strict=True):
        members = (targets == label).nonzero().squeeze(1)
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~chosen).nonzero().squeeze(1), chosen.nonzero().squeeze(1)


def _generator(seed: int) -> torch.Generator:
    # On the CPU whatever the device: the same images everywhere.
    return torch.Generator().manual_seed(seed)
