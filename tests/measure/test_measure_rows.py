"""Rows of energy: a network's joules, window by window, divided like its time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from energysplit.measure.rows import NetworkRows, energy_rows
from energysplit.measure.summary import Summary
from energysplit.types import LayerCase

FIRST, SECOND = LayerCase("linear", 8, 8), LayerCase("linear", 8, 4)


def network(cases: tuple[LayerCase, ...], ratios: list[list[float]], windows_j: tuple[float, ...]) -> NetworkRows:
    ratios_ = np.array(ratios)
    made: Any = SimpleNamespace(cases=cases)
    energy_j = float(np.median(windows_j))
    return NetworkRows(made, ratios_, Summary.of(ratios_.sum(axis=0)), energy_j, windows_j)


def test_interval_and_count_are_those_of_the_joules() -> None:
    windows_j = (1.0, 1.1, 0.9, 1.2, 1.05, 0.95)
    ratios = [[3.0, 6.0, 3.0, 3.0, 3.0], [1.0, 2.0, 1.0, 1.0, 1.0]]  # three quarters and one, in every round
    rows = {row.case: row for row in energy_rows([network((FIRST, SECOND), ratios, windows_j)])}
    for case, share in ((FIRST, 0.75), (SECOND, 0.25)):
        row = rows[case]
        assert (row.median, row.low, row.high) == pytest.approx((share * 1.025, share * 0.9, share * 1.2))
        assert (row.samples, row.unit) == (6, "J")
    joules = Summary.of(windows_j)
    assert rows[FIRST].low + rows[SECOND].low == pytest.approx(joules.low)
    assert rows[FIRST].high + rows[SECOND].high == pytest.approx(joules.high)


def test_rounds_do_not_count_as_samples_of_energy() -> None:
    (row,) = energy_rows([network((FIRST,), [[1.0] * 50], (2.0,))])
    assert (row.samples, row.low, row.high) == (1, 2.0, 2.0)


def test_networks_that_share_a_case_put_their_windows_together() -> None:
    one = network((FIRST,), [[1.0, 1.0]], (2.0, 2.1, 2.2))
    two = network((FIRST,), [[1.0, 1.0]], (2.3, 2.4, 2.5))
    (row,) = energy_rows([one, two])
    assert (row.samples, row.low, row.high) == (6, 2.0, 2.5)
