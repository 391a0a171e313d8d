"""What to doubt in a measurement, said in sentences with advice, as hyperfine does.

Looked for: noise (the spread of the ratios to the reference), a slow first run, a slow first round, outliers, drift
between the halves of a measurement in absolute and in relative terms, an unsteady reference, too few rounds. One
warning for each kind, with the networks it is true of, worst first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from energysplit.measure.samples import ModelSamples, Results
from energysplit.measure.summary import COVERAGE, Summary

OUTLIER = 10.0
"""Modified z-score above which a sample is an outlier: hyperfine's limit, 14.826 on (x - median) / median absolute
deviation, which the score multiplies by 0.6745 (Iglewicz and Hoaglin 1993 advise 3.5)."""
NOISY = 0.08
"""Interquartile range over median of the ratios, above which the machine is called noisy: the median of 12 rounds is
then uncertain by more than 2 % (standard error of a median of normal samples: 0.93 IQR / sqrt(n))."""
RELATIVE_DRIFT = 0.03
"""Change of the median ratio between the halves that is too much, where noise does not explain it."""
ABSOLUTE_DRIFT = 0.10
"""Change of the median seconds between the halves that is worth saying."""
FIRST_RUN = 10.0
"""The first run after loading is called slow above this many typical runs: some 3 to 5 are usual."""
LEAST_ROUNDS = 6
"""With fewer rounds no interval holds the median with 95 %."""


@dataclass(frozen=True)
class MeasurementWarning:
    """One thing to doubt: its kind, the networks (worst first), the worst number, and a sentence with advice."""

    kind: str
    models: tuple[str, ...]
    worst: float
    text: str


def noise(results: Results) -> float:
    """The machine's noise: the median, over networks, of the ratios' interquartile range over their median.

    Raises:
        InputError: no network ran.
    """
    _ = results.reference  # says so if nothing ran
    return float(np.median([model.network.ratio.spread for model in results.models.values()]))


def warnings_of(results: Results) -> tuple[MeasurementWarning, ...]:
    """Everything to doubt in the results; empty if there is nothing.

    Raises:
        InputError: no network ran.
    """
    machine, models = noise(results), results.models.values()
    found = [
        _noisy(results, machine),
        _few(models),
        _over("slow_first_run", models, _first_run, FIRST_RUN, _FIRST_RUN),
        _over("slow_first_round", models, _first_round, OUTLIER, _FIRST_ROUND),
        _over("outliers", models, _later_outlier, OUTLIER, _OUTLIERS),
        _over("relative_drift", models, _relative_drift, RELATIVE_DRIFT, _RELATIVE_DRIFT),
        _over("absolute_drift", models, _absolute_drift, ABSOLUTE_DRIFT, _ABSOLUTE_DRIFT),
        _reference(results, machine),
    ]
    return tuple(warning for warning in found if warning is not None)


def modified_z(samples: Sequence[float]) -> np.ndarray:
    """Modified z-score of each sample: 0.6745 (x - median) / median absolute deviation; 0 where that deviation is 0.

    Source: Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers.

    Example:
        >>> modified_z([1.0, 2.0, 3.0, 4.0, 30.0]).round(2)
        array([-1.35, -0.67,  0.  ,  0.67, 18.21])
    """
    away = np.asarray(samples, dtype=float) - np.median(samples)
    deviation = np.median(np.abs(away))
    return 0.6745 * away / deviation if deviation > 0 else np.zeros_like(away)


def drift(samples: Sequence[float]) -> float:
    """Relative change of the median from the first half of the samples to the second; 0 with fewer than four.

    Example:
        >>> round(drift([1.0, 1.0, 1.0, 1.2, 1.2, 1.2]), 3)
        0.2
    """
    half = len(samples) // 2
    if half < 2:
        return 0.0
    return float(np.median(samples[-half:]) / np.median(samples[:half]) - 1)


def _explained(samples: Sequence[float]) -> float:
    """The drift that noise alone exceeds once in 20 times: two standard errors of the difference of two medians."""
    half = max(len(samples) // 2, 1)
    return 2 * math.sqrt(2) * 0.93 * Summary.of(samples).spread / math.sqrt(half)


def _first_run(model: ModelSamples) -> float:
    return (model.first_s or 0.0) / float(np.median(model.network.values_s))


def _first_round(model: ModelSamples) -> float:
    return float(modified_z(model.network.ratios)[0])


def _later_outlier(model: ModelSamples) -> float:
    return float(np.abs(modified_z(model.network.ratios)[1:]).max(initial=0.0))


def _relative_drift(model: ModelSamples) -> float:
    ratios = model.network.ratios
    change = abs(drift(ratios))
    return change if change > _explained(ratios) else 0.0


def _absolute_drift(model: ModelSamples) -> float:
    return abs(drift(model.network.values_s))


_FIRST_RUN = (
    "{count}: the first run after loading takes up to {worst:.0f} times a typical one; a program that loads the "
    "network for a single run pays that, and the table does not show it."
)
_FIRST_ROUND = (
    "{count}: the first round is far slower than the others (modified z-score {worst:.0f}); medians hold, but a longer "
    "warm-up would be better: raise warmup_s."
)
_OUTLIERS = (
    "{count}: rounds far outside the others (modified z-score up to {worst:.0f}); medians hold, but another process "
    "was busy at times: close other programs and measure again if it is many."
)
_RELATIVE_DRIFT = (
    "{count}: the ratio to the reference network changed by up to {worst:.1%} while measuring, which a change of clock "
    "alone does not do; another process took memory bandwidth or caches: close other programs and measure again."
)
_ABSOLUTE_DRIFT = (
    "{count}: the seconds changed by up to {worst:.0%} from the first half to the second (clock or temperature); "
    "ratios to the reference take that out, but the seconds are those of an average moment: fix the clock, let it cool."
)


def _over(
    kind: str, models: Collection[ModelSamples], score: Callable[[ModelSamples], float], limit: float, text: str
) -> MeasurementWarning | None:
    """The warning for the networks whose score is above the limit; None if there is no such network."""
    scores = sorted(((score(model), model.name) for model in models), reverse=True)
    above = [(value, name) for value, name in scores if value > limit]
    if not above:
        return None
    worst = above[0][0]
    count = f"{len(above)} of {len(scores)} networks"
    return MeasurementWarning(kind, tuple(name for _, name in above), worst, text.format(count=count, worst=worst))


def _noisy(results: Results, machine: float) -> MeasurementWarning | None:
    if machine <= NOISY:
        return None
    spreads = {name: model.network.ratio.spread for name, model in results.models.items()}
    names = sorted((name for name in spreads if spreads[name] > NOISY), key=lambda name: -spreads[name])
    advice = "close other programs, plug in the power, and measure again"
    if results.header.get("affinity", "").startswith("not set"):
        advice += ", pinned to cores of their own (taskset), since this system did not let the process pin itself"
    text = (
        f"this machine is noisy: the middle half of the rounds spreads over {machine:.0%} of the median, even relative "
        f"to the reference (up to {NOISY:.0%} is fine); {advice}. More rounds (--minutes) make up for a part of it."
    )
    return MeasurementWarning("noise", tuple(names), max(spreads.values()), text)


def _few(models: Collection[ModelSamples]) -> MeasurementWarning | None:
    least = min(model.network.ratio.count for model in models)
    if least >= LEAST_ROUNDS:
        return None
    names = tuple(model.name for model in models if model.network.ratio.count < LEAST_ROUNDS)
    text = (
        f"{len(names)} of {len(models)} networks have as few as {least} rounds: too few for an interval that holds the "
        f"median with {COVERAGE:.0%}; raise rounds to at least {LEAST_ROUNDS}."
    )
    return MeasurementWarning("few_rounds", names, float(least), text)


def _reference(results: Results, machine: float) -> MeasurementWarning | None:
    spread = results.reference.spread
    if spread <= ABSOLUTE_DRIFT:
        return None
    cause = "another process is busy" if machine > NOISY else "its clock changes, and the ratios take that out"
    text = (
        f"the reference network's own time spreads over {spread:.0%} of its median: the machine's speed is not steady "
        f"({cause}). Seconds are those of an average moment; on a fixed clock they would be sharper."
    )
    return MeasurementWarning("reference_spread", (), spread, text)
