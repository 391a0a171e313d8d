"""Intervals, Welch's test and interpolation against numbers worked out by hand, and scipy's own where it has one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from energysplit.output.comparison_statistics import (
    SAME_COST,
    Difference,
    Mean,
    common_range,
    costs_to_compare,
    curve,
    interpolate,
    mean_interval,
    variance,
    welch,
    welch_freedom,
)

SAMPLES = st.lists(st.floats(0, 1, allow_subnormal=False).map(lambda x: round(x, 4)), min_size=2, max_size=6)


def test_mean_interval_by_hand():
    # Mean 0.62, deviations -0.02, 0, 0.02: s = 0.02; t(0.975, 2) = 4.302653 from printed tables.
    found = mean_interval([0.60, 0.62, 0.64])
    half = 4.302653 * 0.02 / math.sqrt(3)
    assert found.value == pytest.approx(0.62)
    assert (found.low, found.high) == (pytest.approx(0.62 - half, abs=1e-7), pytest.approx(0.62 + half, abs=1e-7))
    # Two samples: t(0.975, 1) = 12.7062, s / sqrt(2) = half of their distance.
    two = mean_interval([0.6, 0.7])
    assert two.high == pytest.approx(0.65 + 12.7062 * 0.05, abs=1e-5)


def test_one_sample_has_no_interval():
    assert mean_interval([0.6]) == Mean(0.6, None, None, 1)
    assert welch([0.6], [0.5, 0.7]).low is None
    assert welch([0.5, 0.7], [0.6]) == Difference(pytest.approx(0.0), None, None, None, (2, 1))


def test_equal_samples_have_a_variance_of_exactly_zero():
    # The mean of three 0.1 is not 0.1 in floating point.
    assert variance([0.1, 0.1, 0.1]) == 0
    found = welch([0.1, 0.1, 0.1], [0.3, 0.3, 0.3])
    assert found.constant
    assert (found.low, found.p) == (None, None)
    assert found.value == pytest.approx(-0.2)
    # Nor does interpolation's rounding make a spread.
    assert welch([0.1, 0.1 + 1e-16], [0.3, 0.3]).constant


def test_welch_by_hand():
    # s1^2 = 1, s2^2 = 4, n = 3: error = sqrt(1/3 + 4/3); freedom = (5/3)^2 / ((1/9)/2 + (16/9)/2) = 50/17.
    found = welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert welch_freedom([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(50 / 17)
    assert found.value == pytest.approx(-2.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low + found.high == pytest.approx(-4.0)
    # t(0.975, 2.941) lies between the printed t(0.975, 2) = 4.3027 and t(0.975, 3) = 3.1824.
    assert 3.1824 < (found.high - found.low) / 2 / math.sqrt(5 / 3) < 4.3027


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(SAMPLES, SAMPLES)
def test_welch_is_that_of_scipy(first, second):
    found = welch(first, second)
    if found.constant:
        assert min(first) == max(first)
        assert min(second) == max(second)
        return
    theirs = stats.ttest_ind(first, second, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(interval.low, abs=1e-9), pytest.approx(interval.high, abs=1e-9))
    # The interval holds zero exactly where the p-value is above 5 %.
    if abs(theirs.pvalue - 0.05) > 1e-6:
        assert (found.low <= 0 <= found.high) == (found.p > 0.05)


def test_interpolation_is_linear_in_the_logarithm():
    points = curve([(10e6, 0.60), (40e6, 0.80), (160e6, 0.84)])
    assert interpolate(points, 20e6) == pytest.approx(0.70)
    assert interpolate(points, 80e6) == pytest.approx(0.82)
    assert interpolate(points, 10e6) == 0.60
    assert interpolate(points, 160e6) == 0.84


def test_nothing_is_extrapolated():
    points = curve([(10.0, 0.6), (40.0, 0.8)])
    # A neuron's price beyond the end is the end; farther out is refused.
    assert interpolate(points, 40.0 * (1 + SAME_COST)) == 0.8
    for cost in (9.8, 41.0):
        with pytest.raises(AssertionError, match="never extrapolated"):
            interpolate(points, cost)


def test_of_stages_at_one_cost_the_last_counts_even_if_it_is_worse():
    assert curve([(10.0, 0.6), (10.0, 0.5)]) == ((10.0, 0.5),)


def test_compared_costs_are_the_ends_and_the_stages_between():
    one = [((10.0, 0.1), (20.0, 0.1), (40.0, 0.1)), ((10.0, 0.1), (22.0, 0.1), (42.0, 0.1))]
    other = [((15.0, 0.1), (30.0, 0.1), (60.0, 0.1))]
    # From 15, where the second begins, to 40, where a seed of the first ends; 21 = mean of 20 and 22.
    assert costs_to_compare(one, other) == [15.0, 21.0, 30.0, 40.0]
    assert costs_to_compare(other, one) == [15.0, 21.0, 30.0, 40.0]


def test_costs_that_are_nearly_equal_are_compared_once():
    one, other = [((10.0, 0.1), (20.0, 0.1), (40.0, 0.1))], [((10.0, 0.1), (20.1, 0.1), (40.0, 0.1))]
    assert costs_to_compare(one, other) == [10.0, 20.0, 40.0]


def test_a_budget_met_to_a_neuron_is_the_same_cost():
    grown, wide = [((10.0, 0.6), (99.5, 0.7))], [((100.0, 0.65),)]
    (cost,) = costs_to_compare(grown, wide)
    assert cost == pytest.approx(math.sqrt(99.5 * 100))
    assert interpolate(grown[0], cost) == 0.7
    assert interpolate(wide[0], cost) == 0.65
    assert costs_to_compare(grown, [((101.0, 0.65),)]) == []


CURVES = st.lists(
    st.lists(st.tuples(st.floats(1e3, 1e9), st.floats(0, 1)), min_size=1, max_size=5).map(curve),
    min_size=1,
    max_size=3,
)


@given(CURVES, CURVES)
def test_every_compared_cost_is_reached_by_every_curve(first, second):
    costs = costs_to_compare(first, second)
    assert bool(costs) == (common_range([*first, *second]) is not None)
    assert costs == sorted(set(costs))
    for cost in costs:
        for points in [*first, *second]:
            values = [value for _, value in points]
            assert min(values) - 1e-12 <= interpolate(points, cost) <= max(values) + 1e-12
