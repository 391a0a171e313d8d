"""The batches an operator works on: each is captured when it is needed, and kept while memory allows.

Captured batches stay on the device, so that a further sweep costs little more than two convolutions a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from energysplit.errors import InputError, OutOfMemory
from energysplit.memory import free, within_memory
from energysplit.splitting.capture import Pieces
from energysplit.splitting.plan import Segment
from energysplit.splitting.precision import check_precision, mixed
from energysplit.splitting.share import Share

Batches = Sequence[tuple[Tensor, Tensor]]
Kept = list[tuple[Segment, Pieces]]
Use = Callable[[Segment, Pieces, bool], None]
"""What is done with a segment on a batch; the last says whether the pieces are spent then, as nobody keeps them."""
T = TypeVar("T")

CPU_CACHE_BYTES = 3 * 2**30


class Sample:
    """Batches, with the captures of those that fit.

    Args:
        batches: (input, target) pairs; moved to the model's device when used.
        module: the model; what it holds itself costs no room.
        capture: (input, target, mixed=, use=) -> None, `capture.capture` of some network.
        share: this process's part of each batch.
        precision: see `precision`.
        cache_bytes: captured batches are kept up to this many bytes; None: half of the free device memory on CUDA,
            3 GiB on CPU.
    """

    def __init__(
        self,
        batches: Batches,
        module: nn.Module,
        capture: Callable[..., None],
        share: Share,
        precision: str,
        cache_bytes: int | None,
    ) -> None:
        self.batches, self.share = batches, share
        parameter = next(module.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        check_precision(precision, self.dtype)
        self._mixed = partial(mixed, precision, self.device)
        self.kept: dict[int, Kept] = {}
        self._capture = capture
        self._module = module
        self.room = _cache_room(self.device) if cache_bytes is None else cache_bytes

    def swept(self, sweep: Callable[[], T]) -> T:
        """What `sweep` returns; where memory runs out, it is done anew with nothing kept any more.

        Raises:
            OutOfMemory: nothing was kept.
        """
        try:
            return within_memory(sweep)
        except OutOfMemory:
            if not self.kept:
                raise
        self.kept, self.room = {}, 0
        free()
        return within_memory(sweep)

    def parts(self, batches: int | None = None) -> Iterator[Part]:
        """This process's part of each of the first `batches` batches, all by default."""
        for number, (x, target) in enumerate(self.batches[:batches]):
            yield Part(self, number, len(x), *self.share.of(x, target))

    def visit(self, part: Part, use: Use) -> None:
        """Use every segment on a part, from what is kept or captured anew, and keep that if it fits."""
        if part.number in self.kept:
            with self._mixed():
                for segment, pieces in self.kept[part.number]:
                    use(segment, pieces, False)
            return
        keeping = _Keeping(self._module, self.room)

        def both(segment: Segment, pieces: Pieces) -> None:
            keeping.take(segment, pieces)
            use(segment, pieces, keeping.kept is None)

        x, target = part.x, part.target
        x = x.to(self.device, self.dtype if x.is_floating_point() else x.dtype)
        self._capture(x, target.to(self.device), mixed=self._mixed, use=both)
        if keeping.kept is not None:
            self.room -= keeping.bytes
            self.kept[part.number] = keeping.kept


class Part:
    """This process's part of a batch.

    number: of the batch. images: of the part, which may have none. of: images of the whole batch.
    """

    def __init__(self, sample: Sample, number: int, of: int, x: Tensor, target: Tensor) -> None:
        self.sample, self.number, self.of = sample, number, of
        self.x, self.target = x, target
        self.images = len(x)

    def visit(self, use: Use) -> None:
        """Use every segment on this part, if it has images."""
        if self.images:
            self.sample.visit(self, use)


class _Keeping:
    """What is kept of a batch that is being captured; nothing any more once it is beyond the room."""

    def __init__(self, module: nn.Module, room: int) -> None:
        self.kept: Kept | None = []
        self.bytes = 0
        self._room = room
        self._counted = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}

    def take(self, segment: Segment, pieces: Pieces) -> None:
        """One more segment; memory that several pieces hold counts once, the module's own not at all."""
        if self.kept is None:
            return
        for storage in (tensor.untyped_storage() for piece in pieces for tensor in piece.held):
            if storage.data_ptr() not in self._counted:
                self._counted.add(storage.data_ptr())
                self.bytes += storage.nbytes()
        self.kept.append((segment, pieces))
        if self.bytes > self._room:
            self.kept = None


def count_images(batches: Batches) -> int:
    """Images in a sample.

    Raises:
        InputError: there is none.
    """
    images = sum(len(x) for x, _ in batches)
    if images == 0:
        raise InputError(
            "no images to estimate splitting indices on: a sequence of (input, target) batches is expected"
        )
    return images


def _cache_room(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free // 2
    return CPU_CACHE_BYTES
