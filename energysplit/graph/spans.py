"""Where channels stand along a dimension, and where they stand after some of them were split.

A dimension may hold the channels of several groups (concatenation), several runs of one group (the groups of a grouped
convolution) and several indices a channel (a flattened 7x7 image has 49). Copies stand next to their originals, so
every run stays a run and only its start moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A group's channels along dimension `dim`: channel c of a run takes `block` indices from start + c * block."""

    group: str
    dim: int
    starts: tuple[int, ...] = (0,)
    block: int = 1

    @property
    def multiple(self) -> int:
        """Indices a channel takes in all runs together."""
        return len(self.starts) * self.block

    def index(self, channels: int) -> Int[Tensor, "channels multiple"]:
        """The indices of each channel, run by run."""
        starts = torch.tensor(self.starts)[None, :, None]
        inside = torch.arange(self.block)[None, None, :]
        return (starts + torch.arange(channels)[:, None, None] * self.block + inside).flatten(1)


def moved(spans: Iterable[Span], before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Span, ...]:
    """The spans that share one dimension, after groups changed their widths from `before` to `after`."""
    spans = tuple(spans)
    gains = sorted(
        (start, (after[span.group] - before[span.group]) * span.block) for span in spans for start in span.starts
    )

    def shift(start: int) -> int:
        return start + sum(gain for other, gain in gains if other < start)

    return tuple(replace(span, starts=tuple(map(shift, span.starts))) for span in spans)
