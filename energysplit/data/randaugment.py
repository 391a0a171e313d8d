"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719) on batches: two random operations an image, magnitude 9 of 30.

The operations are torchvision's. It draws one for all images it is given: for a batch that is poor variety, and image
by image it is slow (20 s for 50,000 images of 32x32 on one processor; 6 s as here). So for each of the two operations a
batch is dealt at random into 16 hands, each hand gets an operation of its own, and the hands are dealt anew for the
second: up to 256 pairs in a batch.

Torchvision draws from the process's random state. It is set from the seed for the draw and put back after it, so that
dropout goes on undisturbed and the same seed gives the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Num, UInt8
from torch import Tensor
from torchvision.transforms import v2

OPERATIONS = 2
HANDS = 16


class RandAugment:
    """Changes one batch after another.

    Args:
        seed: of all that is random; batches in the same order are changed in the same way.
        white: the brightest pixel. The operations are made for 255; images of another are stretched to it and back.
    """

    def __init__(self, seed: int, white: int = 255) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._white = white
        self._operation = v2.RandAugment(num_ops=1)

    def __call__(
        self, pixels: UInt8[Tensor, "images channels height width"]
    ) -> Num[Tensor, "images channels height width"]:
        """The images changed, between 0 and `white`: bytes if that is 255, float32 otherwise."""
        if self._white != 255:
            pixels = (pixels.to(torch.float32) * (255 / self._white)).round_().to(torch.uint8)
        changed = pixels
        for _ in range(OPERATIONS):
            hand = torch.randint(HANDS, (len(pixels),), generator=self._generator)
            seed = int(torch.randint(2**62, (), generator=self._generator))
            with _drawing_from(seed):
                source, changed = changed, torch.empty_like(changed)
                for number in range(HANDS):
                    members = (hand == number).nonzero().squeeze(1).to(pixels.device)
                    if len(members):
                        changed[members] = self._operation(source[members])
        return changed if self._white == 255 else changed.to(torch.float32) * (self._white / 255)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """The CPU's random state set from a seed while the context is open; other devices' are left alone."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
