"""Prices of layer cases that were not measured, from those that were.

Cases that differ only in their channels form a site: the same operation, kernel, stride, image size and activation.
Within a site widths that are multiples of `step` may run by another kernel than the others (on x86, ONNX Runtime's
blocked layout), so each is fitted by itself. Two candidates, and each site takes the one that predicts its own
held-out rows better (leave one out, in closed form):

- regression: a non-negative least-squares fit of relative errors to what moves and what is computed;
- interpolation: the regression times a smooth surface through its log residuals over (c_in, c_out), Gaussian-process
  regression, also known as kriging.

Outside what a site's rows span nothing is priced: tables don't extrapolate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from energysplit.costs.table import CostTable, TableRow
from energysplit.errors import InputError
from energysplit.types import Cost, LayerCase

Array = NDArray[np.float64]
Site = tuple[object, ...]

STEPS = (1, 2, 4, 8, 16)
_LENGTH = 0.7  # of the surface, in log channels: a factor of two
_NOISE = 0.3  # variance of single rows around the surface, relative to the surface's own
_FEW = 8  # rows below which a fit of its own is no use
_NOTHING_S = 1e-3  # of a site's largest row: less than this is nothing
_CONFIDENCE = 0.9
_NEAREST = 5


def site_of(case: LayerCase) -> Site:
    """What cases have in common that are priced by one fit: all but the channels."""
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
    """One fit: coefficients of the features, the surface (None for a regression), and its held-out error.

    error: relative, 90 % of held-out rows stay below. points: shape (rows, 4); weights: shape (rows,).
    """

    coefficients: Array
    mean: float
    points: Array | None
    weights: Array | None
    inverse: Array | None
    variance: float
    error: float
    residuals: Array

    def value(self, case: LayerCase) -> float:
        base = float(_features(case) @ self.coefficients)
        if self.points is None or self.weights is None:
            return base * math.exp(self.mean)
        return base * math.exp(self.mean + float(_near(self.points, _point(case)) @ self.weights))

    def spread(self, case: LayerCase) -> float:
        """Standard deviation of the log price around the fit: small near measured rows."""
        if self.points is None or self.inverse is None:
            return self.error
        near = _near(self.points, _point(case))
        return math.sqrt(max(0.0, self.variance * (1.0 - float(near @ self.inverse @ near))))


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
        self._fits, self._kinds = _fits(rows, self.step)
        self._exact = {row.case: row for row in rows}
        self.price = lru_cache(maxsize=100_000)(self._price)

    @classmethod
    def of(cls, table: CostTable) -> Predictor:
        """The predictor of a table."""
        return cls(table.rows, where=str(table.folder or "the table"))

    def _price(self, case: LayerCase) -> Cost:
        """The price of a case.

        Raises:
            InputError: nothing like it was measured, or its channels are outside what was.
        """
        self._check(case)
        fit = self._fit(case)
        if fit is None:
            found = self._nearest(case)
            value = float(np.median(found))
            return Cost(value, self.unit, min(*found, value), max(*found, value), "interpolated: nearest rows")
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
        key = _regime(case, self.step)
        return self._fits.get((site_of(case), key)) or self._kinds.get((kind_of(case), key))

    def _check(self, case: LayerCase) -> None:
        site = site_of(case)
        if site not in self._sites:
            raise InputError(
                f"{self.where}: nothing like this was measured: {_described(case)}. Measure the networks you price: "
                "'energysplit profile --for RECIPE' or '--model NAME --image C,H,W'"
            )
        if not self.covers(case):
            (a, b), (c, d) = self._span[site]
            raise InputError(
                f"{self.where}: {_described(case)} is outside what was measured there, {a} to {b} channels in and "
                f"{c} to {d} out, and tables don't extrapolate. Measure wider networks: "
                "'energysplit profile --for RECIPE' or '--model NAME --widths LOW,HIGH'"
            )

    def _nearest(self, case: LayerCase) -> list[float]:
        """Measured costs of the rows nearest in channels, of the same regime if it has any.

        For what has no fit, such as sums that the runtime mostly fuses away.
        """
        rows = self._sites[site_of(case)]
        key = _regime(case, self.step)
        rows = [row for row in rows if _regime(row.case, self.step) == key] or rows
        point = _point(case)
        rows = sorted(rows, key=lambda row: float(((_point(row.case) - point) ** 2).sum()))
        return [row.median for row in rows[:_NEAREST]]


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
    """What a case moves and computes: a call, elements read and written, multiply-accumulates, weights."""
    inputs = case.in_channels * case.in_size[0] * case.in_size[1]
    positions = case.out_size[0] * case.out_size[1]
    outputs = case.out_channels * positions
    if case.op in ("conv1d", "conv2d", "linear"):
        weights = case.out_channels * (case.in_channels // case.groups) * case.kernel[0] * case.kernel[1]
    else:
        weights = 0
    return np.array([1.0, inputs, outputs, weights, weights * positions, case.in_channels, case.out_channels])


def _point(case: LayerCase) -> Array:
    """Where a case stands on the surface: log channels, and what padding them to 8 and 16 would waste."""
    places: list[float] = []
    for width in (max(1, case.in_channels), max(1, case.out_channels)):
        wasted = sum(math.log(-(-width // block) * block / width) for block in (8, 16))
        places += [math.log(width), min(1.0, 2.0 * wasted)]
    return np.array(places)


def _near(points: Array, point: Array) -> Array:
    """Shape (rows,): covariance of the surface at a point with the measured rows, 1 at a row itself."""
    return np.asarray(np.exp(-0.5 * ((points - point) ** 2).sum(-1) / _LENGTH**2))


def _fits(
    rows: Sequence[TableRow], step: int
) -> tuple[dict[tuple[Site, tuple[bool, bool]], _Fit], dict[tuple[Site, tuple[bool, bool]], _Fit]]:
    """Fits by site and regime, and by kind and regime for sites with few rows."""
    sites: dict[tuple[Site, tuple[bool, bool]], list[TableRow]] = defaultdict(list)
    kinds: dict[tuple[Site, tuple[bool, bool]], list[TableRow]] = defaultdict(list)
    for row in rows:
        if row.case.op != "other":
            sites[site_of(row.case), _regime(row.case, step)].append(row)
            kinds[kind_of(row.case), _regime(row.case, step)].append(row)
    return (
        {key: fit for key, found in sites.items() if (fit := _fitted(found)) is not None},
        {key: fit for key, found in kinds.items() if (fit := _fitted(found)) is not None},
    )


def _fitted(rows: Sequence[TableRow]) -> _Fit | None:
    """The better of both candidates by the errors of held-out rows; None for too few rows, or if they cost nothing."""
    cost = np.array([row.median for row in rows])
    if len(rows) < _FEW or cost.max() <= 0 or np.median(cost) <= _NOTHING_S * cost.max():
        return None
    cost = np.maximum(cost, 0.1 * np.median(cost))
    features = np.array([_features(row.case) for row in rows])
    scale = features.max(0)
    scale[scale == 0] = 1.0
    design = features / scale / cost[:, None]
    coefficients = nnls(design, np.ones(len(cost)))[0] / scale
    log = np.log(cost / (features @ coefficients))
    mean = float(log.mean())
    used = np.flatnonzero(coefficients)
    solved = design[:, used]
    hat = np.einsum("ij,ji->i", solved, np.linalg.pinv(solved))
    plain = (log - mean) / np.maximum(1.0 - hat, 0.1)
    points = np.array([_point(row.case) for row in rows])
    covariance = np.stack([_near(points, point) for point in points]) + _NOISE * np.eye(len(points))
    inverse: Array = np.asarray(np.linalg.inv(covariance), np.float64)
    weights = inverse @ (log - mean)
    smooth = weights / np.diag(inverse) / np.maximum(1.0 - hat, 0.5)
    variance = float((log - mean) @ weights) / len(log)
    if (smooth**2).mean() < (plain**2).mean():
        return _Fit(coefficients, mean, points, weights, inverse, variance, _quantile(smooth), smooth)
    return _Fit(coefficients, mean, None, None, None, variance, _quantile(plain), plain)


def _quantile(errors: Array) -> float:
    """The size that `_CONFIDENCE` of the errors stay below."""
    return float(np.quantile(np.abs(errors), _CONFIDENCE))


def _best_step(rows: Sequence[TableRow]) -> int:
    """The step whose fits predict held-out rows best; among equals the smallest."""
    best, least = 1, math.inf
    for step in STEPS:
        fits, kinds = _fits(rows, step)
        errors = []
        for row in rows:
            key = _regime(row.case, step)
            fit = fits.get((site_of(row.case), key)) or kinds.get((kind_of(row.case), key))
            if fit is not None:
                errors.append(min(1.0, float(np.sqrt((fit.residuals**2).mean()))) * row.median)
        error = sum(errors) / max(1e-30, sum(row.median for row in rows)) if errors else math.inf
        if error < 0.9 * least:
            best, least = step, error
    return best
