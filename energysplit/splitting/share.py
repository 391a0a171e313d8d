"""One process's share of a sample, and how shares add up to the whole.

Every process is given the same batches and takes every n-th image of each. The loss is a mean over images, so S of a
batch is the mean of its shares' S, weighted by images: solvers see sums over all processes and need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from energysplit.memory import within_memory

T = TypeVar("T")


def _alone(tensor: Tensor) -> Tensor:
    return tensor


def _here(work: Callable[[], Any]) -> Any:
    return work()


@dataclass(frozen=True)
class Share:
    """This process's share; by default there is one process, which takes all.

    rank: of this process, from 0. processes: how many there are. total: the sum of a tensor over all processes, the
    same bits on each. everyone: runs some work on all processes; an error on one is raised on all.
    """

    rank: int = 0
    processes: int = 1
    total: Callable[[Tensor], Tensor] = _alone
    everyone: Callable[[Callable[[], Any]], Any] = _here

    def done(self, work: Callable[[], T]) -> T:
        """What `work` returns here, once it is done on all processes; each may then wait for the others' sums.

        Raises:
            OutOfMemory: memory ran out, here or on another process.
        """
        found: T = self.everyone(lambda: within_memory(work))
        return found

    def of(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """This process's images of a batch; none where it has fewer images than there are processes.

        Example:
            >>> Share(1, 2).of(torch.arange(5), torch.arange(5))[0].tolist()
            [1, 3]
        """
        if self.processes == 1:
            return x, target
        return x[self.rank :: self.processes], target[self.rank :: self.processes]

    def totals(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of several tensors of one type over all processes, exchanged in one message."""
        if self.processes == 1 or not tensors:
            return list(tensors)
        whole = self.total(torch.cat([each.flatten() for each in tensors]))
        parts = whole.split([each.numel() for each in tensors])
        return [part.view_as(each) for part, each in zip(parts, tensors, strict=True)]
