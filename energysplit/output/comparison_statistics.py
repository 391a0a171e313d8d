"""The statistics of a comparison: intervals over seeds, differences of means, and accuracy between two costs.

A seed is one sample. Of one sample nothing is known about chance, and every function here says so by None rather than
by an interval of no width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

COVERAGE = 0.95
SAME_COST = 0.01
"""Costs that differ by no more than this part count as equal: budgets are met to a whole neuron only."""
ROUNDING = 1e-12
"""Spreads below this are those of floating point."""

Curve = tuple[tuple[float, float], ...]
"""Cost and accuracy of one run's stages, costs rising."""


@dataclass(frozen=True)
class Mean:
    """Mean of `count` samples and the ends of its interval; None where the samples can't give one."""

    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """Difference of two means, the ends of its interval and the p-value of no difference; None without an interval.

    counts: samples of both. constant: whether no sample differs from its mean, so that there is nothing to judge by.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    counts: tuple[int, int]
    constant: bool = False


def mean_interval(samples: Sequence[float]) -> Mean:
    """Mean of the samples with its interval: mean ± t(0.975, n - 1) s / sqrt(n), Student 1908.

    Example:
        >>> mean_interval([1.0, 2.0, 3.0])
        Mean(value=2.0, low=-0.484..., high=4.484..., count=3)
        >>> mean_interval([1.0])
        Mean(value=1.0, low=None, high=None, count=1)
    """
    count, mean = len(samples), float(np.mean(samples))
    if count < 2:
        return Mean(mean, None, None, count)
    half = float(stats.t.ppf((1 + COVERAGE) / 2, count - 1)) * math.sqrt(variance(samples) / count)
    return Mean(mean, mean - half, mean + half, count)


def ends_of_share(mean: Mean) -> tuple[float, float] | None:
    """The ends of a mean share's interval as they are shown, cut to 0 and 1; None without an interval.

    Example:
        >>> ends_of_share(Mean(0.92, 0.84, 1.01, 3))
        (0.84, 1.0)
    """
    if mean.low is None or mean.high is None:
        return None
    return max(0.0, mean.low), min(1.0, mean.high)


def variance(samples: Sequence[float]) -> float:
    """Sample variance, with n - 1 below; 0 where all samples are equal, whatever their mean rounds to."""
    return 0.0 if min(samples) == max(samples) else float(np.var(samples, ddof=1))


def welch_freedom(first: Sequence[float], second: Sequence[float]) -> float:
    """Degrees of freedom of a difference of means with unequal variances; at least two samples each.

    Source: Welch 1947, eq. 28, with sample variances (Satterthwaite 1946).

    Example:
        >>> welch_freedom([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
        2.94...
    """
    a, b = variance(first) / len(first), variance(second) / len(second)
    return (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Mean of the first minus mean of the second, with Welch's interval and two-sided p-value."""
    value, counts = float(np.mean(first) - np.mean(second)), (len(first), len(second))
    if min(counts) < 2:
        return Difference(value, None, None, None, counts)
    error = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    if error < ROUNDING:
        return Difference(value, None, None, None, counts, constant=True)
    freedom = welch_freedom(first, second)
    half = float(stats.t.ppf((1 + COVERAGE) / 2, freedom)) * error
    return Difference(value, value - half, value + half, 2 * float(stats.t.sf(abs(value) / error, freedom)), counts)


def curve(points: Sequence[tuple[float, float]]) -> Curve:
    """Cost and accuracy of a run's stages as a curve: sorted by cost, and of stages of one cost the last.

    The last and not the best: an accuracy must not choose which accuracy is reported.

    Example:
        >>> curve([(20.0, 0.7), (10.0, 0.6), (20.0, 0.65)])
        ((10.0, 0.6), (20.0, 0.65))
    """
    return tuple(sorted(dict(points).items()))


def interpolate(points: Curve, cost: float) -> float:
    """Accuracy at a cost, linear in the logarithm of the cost between two stages.

    An end's accuracy counts for costs beyond it by at most `SAME_COST`; farther out is a bug of the caller.

    Example:
        >>> interpolate(((10.0, 0.6), (40.0, 0.8)), 20.0)
        0.7
    """
    low, high = points[0][0], points[-1][0]
    assert low / (1 + SAME_COST) <= cost * (1 + 1e-12), "never extrapolated"
    assert cost <= high * (1 + SAME_COST) * (1 + 1e-12), "never extrapolated"
    return float(np.interp(math.log(cost), [math.log(at) for at, _ in points], [value for _, value in points]))


def common_range(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The lowest and the highest cost that all curves reach; None if there is none.

    Where the range is empty by no more than `SAME_COST`, it is the one cost in the middle.

    Example:
        >>> common_range([((10.0, 0.5), (20.0, 0.6)), ((15.0, 0.5), (30.0, 0.7))])
        (15.0, 20.0)
        >>> common_range([((10.0, 0.5),), ((15.0, 0.5),)]) is None
        True
    """
    low, high = max(points[0][0] for points in curves), min(points[-1][0] for points in curves)
    if low <= high:
        return low, high
    if low <= high * (1 + SAME_COST):
        return (middle := math.sqrt(low * high)), middle
    return None


def costs_to_compare(first: Sequence[Curve], second: Sequence[Curve]) -> list[float]:
    """The costs two methods are compared at: the ends of their common range, and their stages' mean costs inside.

    A stage whose cost is within `SAME_COST` of one already taken brings no other.

    Args:
        first: a curve for each seed of one method, at least one.
        second: the same of the other.
    """
    ends = common_range([*first, *second])
    if ends is None:
        return []
    low, high = ends
    chosen = [low] if high <= low * (1 + SAME_COST) else [low, high]
    for cost in sorted([*_mean_costs(first), *_mean_costs(second)]):
        if low < cost < high and all(abs(math.log(cost / other)) > math.log1p(SAME_COST) for other in chosen):
            chosen.append(cost)
    return sorted(chosen)


def _mean_costs(curves: Sequence[Curve]) -> list[float]:
    """Mean over seeds of the costs of the first, second, ... point, as far as all seeds have one."""
    return [float(np.mean([cost for cost, _ in points])) for points in zip(*curves, strict=False)]
