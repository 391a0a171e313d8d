"""What a set of samples says: median, its confidence interval, the middle half, and how many there were.

The interval is distribution-free: between two order statistics, chosen so that the chance that the true median lies
between them is at least what was asked, whatever the samples' distribution (for independent samples). Source: David and
Nagaraja, Order Statistics, section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from energysplit.errors import InputError

COVERAGE = 0.95


@dataclass(frozen=True)
class Summary:
    """Median, confidence interval `low` to `high` of the median, quartiles and count of samples, in the samples' unit.

    coverage: the chance the interval holds the true median; below the 0.95 asked for with fewer than six samples,
    where the interval is the smallest to the largest.
    """

    median: float
    low: float
    high: float
    p25: float
    p75: float
    count: int
    coverage: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """The summary of at least one finite sample.

        Raises:
            InputError: no samples, or one that is NaN or infinite.

        Example:
            >>> Summary.of([3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
            Summary(median=5.0, low=2.0, high=8.0, p25=3.0, p75=7.0, count=9, coverage=0.9609375)
        """
        values = np.sort(np.asarray(samples, dtype=float))
        if values.size == 0 or not np.isfinite(values).all():
            raise InputError(f"{values.size} samples given, expected at least one, and all finite")
        rank, coverage = median_ranks(values.size)
        p25, median, p75 = (float(value) for value in np.percentile(values, (25, 50, 75)))
        low, high = float(values[rank]), float(values[-1 - rank])
        return cls(median, low, high, p25, p75, int(values.size), coverage)

    @property
    def spread(self) -> float:
        """Interquartile range divided by the median; infinite for a median of 0 with any spread."""
        width = self.p75 - self.p25
        if self.median:
            return width / abs(self.median)
        return math.inf if width else 0.0


@lru_cache(maxsize=4096)
def median_ranks(count: int) -> tuple[int, float]:
    """Rank from each end, counted from 0, of the samples that bound the median, and the interval's coverage.

    The largest rank whose coverage is at least `COVERAGE`; 0 where none reaches it.

    Example:
        >>> median_ranks(12), median_ranks(3)
        ((2, 0.96142578125), (0, 0.75))
    """
    # The median is outside where at most `rank` samples lie on one side; `ppf` is the first number that is no rare one.
    rank = max(0, int(binom.ppf((1 - COVERAGE) / 2, count, 0.5)) - 1)
    return rank, max(0.0, 1 - 2 * float(binom.cdf(rank, count, 0.5)))
