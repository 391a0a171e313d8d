"""Prices of layer cases that were not measured, from those that were.

Cases that differ only in their channels form a site: the same operation, kernel, stride, image size and activation.
Within a site widths that are multiples of `step` may run by another kernel than the others (on x86, ONNX Runtime's
blocked layout), so each is fitted by itself. A fit is a regression, non-negative least squares of relative errors on
what is moved and computed, of the site's own rows or of all rows of its kind; and a correction of its log residuals,
which is a constant of the site or a smooth surface over (c_in, c_out) through what was measured: Gaussian-process
regression, also known as kriging. Each site takes what predicts its own held-out rows best (leave one out, in closed
form: Rasmussen and Williams 2006, section 5.4.2).

Outside the range of channels in, or of channels out, of a site's rows nothing is priced: tables don't extrapolate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from energysplit.costs.table import CostTable, TableRow
from energysplit.errors import InputError, NotMeasured
from energysplit.types import WEIGHTED, Cost, LayerCase

Array = NDArray[np.float64]
Site = tuple[object, ...]
Key = tuple[Site, tuple[bool, bool]]

STEPS = (1, 2, 4, 8, 16)
_BLOCK = 16  # channels that kernels fill up to on wide vector units; a regression that does not need it leaves it out
_LENGTH = 0.7  # of the surface, in log channels: a factor of two
_NOISE = 0.1  # variance of single rows around the surface, relative to the surface's own
_OFFSET = 4.0  # variance of a site's constant, likewise
_FEW = 8  # rows below which a regression of their own is no use
_NOTHING = 1e-3  # of a site's largest row: less than this is nothing
_STEADY = 0.02  # half-width of a row's interval, relative, at which it counts half
_LEAST_WEIGHT = 10.0  # no row counts less than one in 100 of a steady one
_CONFIDENCE = 0.9
_NEAREST = 5


def site_of(case: LayerCase) -> Site:
    """What cases have in common that are priced by one fit: all that tells on time but the channels."""
    if case.op == "other":
        return (case.op, case.in_size, case.out_size, case.macs, case.params)
    form = "depthwise" if case.depthwise else case.groups if case.op in ("conv1d", "conv2d") else 1
    return (case.op, form, case.kernel, case.stride, case.dilation, case.in_size, case.out_size, case.activation)


def kind_of(case: LayerCase) -> Site:
    """What sites have in common that fall back on one fit: all but channels, image size and stride."""
    site = site_of(case)
    return site if case.op == "other" else (*site[:3], case.activation)


@dataclass(frozen=True)
class _Fit:
    """The fit of one site and regime.

    coefficients: of the regression's features. surface: whether the correction varies with the channels. points: where
    the rows stand, shape (rows, 4). inverse: of the rows' covariance; weights: that times their log residuals.
    variance: of the residuals, in units of the covariance. residuals: of rows held out, in logs. error: what 90 % of
    them stay below.
    """

    coefficients: Array
    surface: bool
    points: Array
    inverse: Array
    weights: Array
    variance: float
    residuals: Array
    error: float

    def value(self, case: LayerCase) -> float:
        """The price of a case."""
        return float(_features(case) @ self.coefficients) * math.exp(float(self._near(case) @ self.weights))

    def spread(self, case: LayerCase) -> float:
        """Standard deviation of the log price: small near measured rows."""
        near = self._near(case)
        known = float(near @ self.inverse @ near)
        return math.sqrt(max(0.0, self.variance * (self.surface + _OFFSET - known)))

    def _near(self, case: LayerCase) -> Array:
        return _covariance(self.points, _point(case), self.surface)


class Predictor:
    """Prices cases from measured rows.

    Args:
        rows: measured cases, in one unit.
        step: widths that are multiples of it are fitted by themselves; found from the rows if not given.
        where: how messages name the table.
    """

    def __init__(self, rows: Sequence[TableRow], *, step: int | None = None, where: str = "the table") -> None:
        if not rows:
            raise InputError(f"{where} holds no rows; measure it with 'energysplit profile'")
        self.where = where
        self.unit = rows[0].unit
        self.step = _best_step(rows) if step is None else step
        self._sites: dict[Site, list[TableRow]] = defaultdict(list)
        for row in rows:
            self._sites[site_of(row.case)].append(row)
        self._span = {
            site: tuple(
                (min(widths), max(widths))
                for widths in ([r.case.in_channels for r in found], [r.case.out_channels for r in found])
            )
            for site, found in self._sites.items()
        }
        self._fits = _fits(rows, self.step)
        self._whole = _fits(rows, 1) if self.step > 1 else {}
        self._free = _free(rows, self.step)
        self._known = lru_cache(maxsize=100_000)(self._price)

    @classmethod
    def of(cls, table: CostTable) -> Predictor:
        """The predictor of a table."""
        return cls(table.rows, step=table.provenance.step, where=str(table.folder or "the table"))

    def price(self, case: LayerCase) -> Cost:
        """The price of a case, remembered.

        Raises:
            NotMeasured: nothing like it was measured, or its channels are outside what was.
        """
        return self._known(replace(case, live=0) if case.live else case)

    def _price(self, case: LayerCase) -> Cost:
        self._check(case)
        fit = self._fit(case)
        if fit is None:
            near = self._nearest(case)
            value = float(np.median([row.median for row in near]))
            low, high = min(row.low for row in near), max(row.high for row in near)
            return Cost(value, self.unit, low, high, "interpolated: nearest rows")
        value = fit.value(case)
        low, high = value * math.exp(-fit.error), value * math.exp(fit.error)
        return Cost(value, self.unit, low, high, "interpolated")

    def covers(self, case: LayerCase) -> bool:
        """Whether the case is inside what was measured."""
        span = self._span.get(site_of(case))
        if span is None:
            return False
        return all(low <= width <= high for (low, high), width in zip(span, _widths(case), strict=True))

    def spread(self, case: LayerCase) -> float:
        """How uncertain the case's price is, relative; infinite outside what was measured."""
        if not self.covers(case):
            return math.inf
        fit = self._fit(case)
        return 0.0 if fit is None else fit.spread(case)

    def _fit(self, case: LayerCase) -> _Fit | None:
        key = site_of(case), _regime(case, self.step)
        fit = self._fits.get(key)
        if fit is None and key not in self._free:  # too few rows of its regime: what there is of the site has to do
            fit = self._whole.get((key[0], _regime(case, 1)))
        return fit

    def _check(self, case: LayerCase) -> None:
        site = site_of(case)
        if site not in self._sites:
            raise NotMeasured(
                f"{self.where}: nothing like this was measured: {_described(case)}. Measure the networks you price: "
                "'energysplit profile --for RECIPE' or '--model NAME --image C,H,W'"
            )
        if not self.covers(case):
            (a, b), (c, d) = self._span[site]
            raise NotMeasured(
                f"{self.where}: {_described(case)} is outside what was measured there, {a} to {b} channels in and "
                f"{c} to {d} out, and tables don't extrapolate. Measure wider networks: "
                "'energysplit profile --for RECIPE' or '--model NAME --widths LOW,HIGH'"
            )

    def _nearest(self, case: LayerCase) -> list[TableRow]:
        """The rows nearest in channels, of the same regime if it has any.

        For what has no fit, such as sums that the runtime mostly fuses away.
        """
        rows = self._sites[site_of(case)]
        key = _regime(case, self.step)
        rows = [row for row in rows if _regime(row.case, self.step) == key] or rows
        point = _point(case)
        rows = sorted(rows, key=lambda row: float(((_point(row.case) - point) ** 2).sum()))
        return rows[:_NEAREST]


def _widths(case: LayerCase) -> tuple[int, int]:
    return case.in_channels, case.out_channels


def _regime(case: LayerCase, step: int) -> tuple[bool, bool]:
    return case.in_channels % step == 0, case.out_channels % step == 0


def _described(case: LayerCase) -> str:
    kernel = f"{case.kernel[0]}x{case.kernel[1]}"
    size = f"{case.in_size[0]}x{case.in_size[1]}"
    form = "depthwise " if case.depthwise and case.op.startswith("conv") else ""
    fused = f" with {case.activation}" if case.activation else ""
    return (
        f"{form}{case.op} {kernel} stride {case.stride[0]}{fused} on {size}, "
        f"{case.in_channels} to {case.out_channels} channels"
    )


def _features(case: LayerCase) -> Array:
    """What a case moves and computes, in its own channels and in those filled up to blocks of 16.

    A call; and for each: elements read and written, weights, multiply-accumulates, channels in and out.
    """
    area_in, area_out = case.in_size[0] * case.in_size[1], case.out_size[0] * case.out_size[1]
    taps = case.kernel[0] * case.kernel[1] if case.op in WEIGHTED else 0
    found = [1.0]
    for block in (1, _BLOCK):
        inputs, outputs = -(-case.in_channels // block) * block, -(-case.out_channels // block) * block
        weights = outputs * max(1, inputs // case.groups) * taps
        found += [inputs * area_in, outputs * area_out, weights, weights * area_out, inputs, outputs]
    return np.array(found)


def _point(case: LayerCase) -> Array:
    """Where a case stands on the surface: log channels, and what padding them to 8 and 16 would waste."""
    places: list[float] = []
    for width in (max(1, case.in_channels), max(1, case.out_channels)):
        wasted = sum(math.log(-(-width // block) * block / width) for block in (8, 16))
        places += [math.log(width), min(1.0, 2.0 * wasted)]
    return np.array(places)


def _covariance(points: Array, point: Array, surface: bool) -> Array:
    """Shape (rows,): covariance of the correction at a point with that at the rows."""
    if not surface:
        return np.full(len(points), _OFFSET)
    return np.asarray(_OFFSET + np.exp(-0.5 * ((points - point) ** 2).sum(-1) / _LENGTH**2))


def _fits(rows: Sequence[TableRow], step: int) -> dict[Key, _Fit]:
    """Fits by site and regime; sites that cost nothing, or of whose kind there are few rows, have none."""
    sites: dict[Key, list[TableRow]] = defaultdict(list)
    kinds: dict[Key, list[TableRow]] = defaultdict(list)
    for row in rows:
        if row.case.op != "other":
            regime = _regime(row.case, step)
            sites[site_of(row.case), regime].append(row)
            kinds[kind_of(row.case), regime].append(row)
    regressions = {key: _regression(_Sample.of(found)) for key, found in kinds.items()}
    found = {}
    for (site, regime), members in sites.items():
        fit = _fitted(_Sample.of(members), regressions[kind_of(members[0].case), regime])
        if fit is not None:
            found[site, regime] = fit
    return found


def _free(rows: Sequence[TableRow], step: int) -> set[Key]:
    """Sites and regimes whose rows cost nothing, such as sums that the runtime fuses."""
    found: dict[Key, list[TableRow]] = defaultdict(list)
    for row in rows:
        found[site_of(row.case), _regime(row.case, step)].append(row)
    return {key for key, members in found.items() if _Sample.of(members) is None}


class _Sample(NamedTuple):
    """Rows as arrays, each of shape (rows, ...).

    cost: kept off 0. unsteady: how much larger each row's variance is than that of a steady one, from its interval.
    """

    features: Array
    points: Array
    cost: Array
    unsteady: Array

    @classmethod
    def of(cls, rows: Sequence[TableRow]) -> _Sample | None:
        """The rows; None if they cost nothing."""
        cost = np.array([row.median for row in rows])
        if cost.max() <= 0 or np.median(cost) <= _NOTHING * cost.max():
            return None
        half = np.array([0.5 * (row.high - row.low) for row in rows]) / np.maximum(cost, 1e-30)
        return cls(
            np.array([_features(row.case) for row in rows]),
            np.array([_point(row.case) for row in rows]),
            np.maximum(cost, _NOTHING * cost.max()),
            1.0 + np.minimum(half / _STEADY, _LEAST_WEIGHT) ** 2,
        )


def _regression(sample: _Sample | None) -> Array | None:
    """Coefficients of the features; None for too few rows."""
    if sample is None or len(sample.cost) < _FEW:
        return None
    scale = sample.features.max(0)
    scale[scale == 0] = 1.0
    weights = sample.unsteady**-0.5
    design = sample.features / scale * (weights / sample.cost)[:, None]
    return np.asarray(nnls(design, weights)[0] / scale)


def _fitted(sample: _Sample | None, of_kind: Array | None) -> _Fit | None:
    """The best of the candidates by the errors of held-out rows; None if there are none."""
    if sample is None:
        return None
    candidates = [
        _corrected(sample, coefficients, surface, own)
        for coefficients, own in ((of_kind, False), (_regression(sample), True))
        if coefficients is not None and (sample.features @ coefficients > 0).all()
        for surface in (False, True)
    ]
    return min(candidates, key=lambda fit: float((fit.residuals**2 / sample.unsteady).sum()), default=None)


def _corrected(sample: _Sample, coefficients: Array, surface: bool, own: bool) -> _Fit:
    """A regression with the correction of its residuals. own: whether it was fitted to these very rows."""
    log = np.log(sample.cost / (sample.features @ coefficients))
    covariance = np.stack([_covariance(sample.points, point, surface) for point in sample.points])
    inverse: Array = np.asarray(np.linalg.inv(covariance + _NOISE * np.diag(sample.unsteady)), np.float64)
    weights = inverse @ log
    residuals = weights / np.diag(inverse)
    if own:  # a row pulled the regression towards itself, by its leverage
        design = (sample.features / (sample.cost * np.sqrt(sample.unsteady))[:, None])[:, coefficients > 0]
        leverage = np.einsum("ij,ji->i", design, np.linalg.pinv(design))
        residuals = residuals / np.maximum(1.0 - leverage, 0.2)
    variance = float(log @ weights) / len(log)
    # Of n rows and one to come, each is as likely to have the largest error: hence n + 1.
    share = min(1.0, _CONFIDENCE * (len(residuals) + 1) / len(residuals))
    error = float(np.quantile(np.abs(residuals), share, method="higher")) if len(residuals) > 1 else math.inf
    return _Fit(coefficients, surface, sample.points, inverse, weights, variance, residuals, min(1.0, error))


def _best_step(rows: Sequence[TableRow]) -> int:
    """The step whose fits predict held-out rows best; among equals the smallest."""
    total = sum(row.median for row in rows)
    best, least = 1, math.inf
    for step in STEPS:
        fits = _fits(rows, step)
        weights: dict[Key, float] = defaultdict(float)
        for row in rows:
            weights[site_of(row.case), _regime(row.case, step)] += row.median
        squares = sum(weights[key] * float(np.minimum(fit.residuals**2, 1.0).mean()) for key, fit in fits.items())
        missing = max(0.0, total - sum(weights[key] for key in fits))  # rounding may leave less than nothing
        error = math.sqrt((squares + missing) / total) if total > 0 else 0.0
        if error < 0.95 * least:
            best, least = step, error
    return best
