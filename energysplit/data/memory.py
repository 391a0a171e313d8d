"""Small images held in memory as bytes, batched without a loader.

Images are stored once, with a border around them. A crop is a window into the stored bytes: rows of a window start at
known addresses, so a whole batch of crops at different places is one gather of rows. Batches are made on the device
the bytes are on; random numbers come from the CPU, so they are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from energysplit.data.split import Batch, Split


@dataclass(frozen=True)
class Augmentation:
    """Random shifts by up to `shift` pixels each way, over a border that is black or mirrored, and mirroring."""

    shift: int
    border: Literal["zero", "reflect"]
    mirror: bool


class MemorySplit(Split):
    """Images in memory.

    Args:
        images: pixels between 0 and `white`.
        targets: labels.
        mean, std: per channel, of pixels divided by `white`.
        augmentation: what `augment=True` does; None for a part that is never augmented, which stores no border.
        white: the brightest pixel, 255 for most.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "images channels height width"],
        targets: Int[Tensor, " images"],
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augmentation: Augmentation | None = None,
        white: int = 255,
    ) -> None:
        self._augmentation = augmentation
        self._shift = augmentation.shift if augmentation else 0
        self._shape = tuple(images.shape[1:])
        self._white = white
        stored = images.contiguous() if augmentation is None else _bordered(images, augmentation)
        self._bytes = {torch.device("cpu"): stored}
        self._targets = targets.to(torch.int64)
        scale = torch.tensor(std, dtype=torch.float64) * white
        offset = torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / scale).float().view(1, -1, 1, 1)
        self._offset = offset.float().view(1, -1, 1, 1)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._targets)

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
            Inputs and targets of one batch.
        """
        device = torch.device(device)
        stored = self._on(device)
        scale, offset = self._scale.to(device), self._offset.to(device)
        # Another stream than the order's, which was drawn from the same seed.
        generator = None if seed is None else torch.Generator().manual_seed(seed ^ 0x5EED)
        changes = None
        if seed is not None and randaugment:
            from energysplit.data.randaugment import RandAugment

            # A third stream: shifts and mirroring are the same with it and without it.
            changes = RandAugment(seed ^ 0xA06, self._white)
        for chosen in order.split(batch_size):
            shift = torch.full((2, len(chosen)), self._shift)
            mirrored = None
            if generator is not None and self._augmentation is not None:
                shift = torch.randint(0, 2 * self._shift + 1, (2, len(chosen)), generator=generator)
                if self._augmentation.mirror:
                    mirrored = (torch.rand(len(chosen), generator=generator) < 0.5).nonzero().squeeze(1)
            pixels = self._windows(stored, chosen, shift)
            if mirrored is not None:
                mirrored = mirrored.to(device)
                pixels[mirrored] = pixels[mirrored].flip(3)
            if changes is not None:
                pixels = changes(pixels)
            yield pixels.to(torch.float32).mul_(scale).sub_(offset), self._targets[chosen].to(device)

    def _windows(self, stored: Tensor, chosen: Tensor, shift: Tensor) -> Tensor:
        """Pixels (images, channels, height, width) of the chosen images, `shift` = (down, right) into the border."""
        if self._shift == 0:
            return stored.index_select(0, chosen.to(stored.device))
        channels, height, width = self._shape
        per_image, per_channel, per_row = stored.stride()[:3]
        first = chosen * per_image + shift[0] * per_row + shift[1]
        rows = torch.arange(channels)[:, None] * per_channel + torch.arange(height) * per_row
        start = (first[:, None, None] + rows).view(-1)
        windows = stored.view(-1).unfold(0, width, 1)[start.to(stored.device)]
        return windows.view(len(chosen), channels, height, width)

    def _on(self, device: torch.device) -> Tensor:
        """The bytes on that device, copied there once."""
        if device not in self._bytes:
            self._bytes[device] = self._bytes[torch.device("cpu")].to(device)
        return self._bytes[device]


def _bordered(images: Tensor, augmentation: Augmentation) -> Tensor:
    """The images with a border of `shift` pixels on each side."""
    count, channels, height, width = images.shape
    border = augmentation.shift
    if augmentation.border == "zero":
        stored = images.new_zeros(count, channels, height + 2 * border, width + 2 * border)
        stored[:, :, border : border + height, border : border + width] = images
        return stored
    rows, columns = (_reflected(size, border) for size in (height, width))
    return images[:, :, rows][:, :, :, columns].contiguous()


def _reflected(size: int, border: int) -> Tensor:
    """Positions read by a border that mirrors the image at its outermost pixels: 2 1 | 0 1 2 ... ."""
    position = torch.arange(-border, size + border).abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)
