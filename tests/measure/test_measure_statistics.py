"""Doubts about a measurement: each is found in noise of known kind, and nothing is found where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from energysplit.errors import InputError
from energysplit.measure.samples import read_results
from energysplit.measure.statistics import NOISY, OUTLIER, drift, modified_z, noise, warnings_of

ROUNDS = 12


def quiet(seed=0, networks=8, spread=0.01, rounds=ROUNDS):
    """Networks of 2 ms, beside a reference of 1 ms, with normal relative noise."""
    random = np.random.default_rng(seed)
    return {f"n{k}": (0.002 * (1 + spread * random.standard_normal(rounds))).tolist() for k in range(networks)}


def kinds(path):
    return {warning.kind: warning for warning in warnings_of(read_results(path))}


def test_a_quiet_machine_has_no_warnings(write_results):
    for seed in range(10):
        assert kinds(write_results(quiet(seed))) == {}


def test_noise_is_the_interquartile_range_of_the_ratios(write_results):
    # Normal samples: IQR = 1.349 standard deviations (some 10 % less in samples of 12).
    path = write_results(quiet(networks=40, spread=0.04, rounds=200))
    assert noise(read_results(path)) == pytest.approx(1.349 * 0.04, rel=0.05)


def test_a_clock_that_changes_is_no_noise(write_results):
    """The same factor in network and reference leaves the ratios, so only the seconds are doubted."""
    factor = np.repeat([1.0, 1.3], ROUNDS // 2)
    times = {name: (np.array(values) * factor).tolist() for name, values in quiet().items()}
    results = write_results(times, references={name: 0.001 * factor for name in times})
    found = kinds(results)
    assert set(found) == {"absolute_drift", "reference_spread"}
    assert found["absolute_drift"].worst == pytest.approx(0.3, abs=0.02)
    assert "fix the clock" in found["absolute_drift"].text
    assert "its clock changes" in found["reference_spread"].text
    assert noise(read_results(results)) < 0.03


def test_a_network_that_slows_down_against_the_reference_is_said(write_results):
    times = quiet()
    times["n3"] = (np.array(times["n3"]) * np.repeat([1.0, 1.08], ROUNDS // 2)).tolist()
    found = kinds(write_results(times))
    assert set(found) == {"relative_drift"}
    assert found["relative_drift"].models == ("n3",)
    assert "close other programs" in found["relative_drift"].text


def test_a_noisy_machine_is_said_with_advice_that_fits(write_results):
    times = quiet(spread=0.15)
    warning = kinds(write_results(times))["noise"]
    assert warning.worst > NOISY
    assert "this machine is noisy" in warning.text
    assert "--minutes" in warning.text
    assert "taskset" not in warning.text
    unpinned = kinds(write_results(times, affinity="not set: this system has no call for it"))["noise"]
    assert "taskset" in unpinned.text


def test_outliers_are_found_and_the_worst_network_comes_first(write_results):
    times = quiet(spread=0.002)
    times["n1"][5] *= 1.5
    times["n6"][7] *= 3.0
    found = kinds(write_results(times))
    assert set(found) == {"outliers"}
    assert found["outliers"].models == ("n6", "n1")
    assert found["outliers"].text.startswith("2 of 8 networks: ")


def test_the_limit_of_outliers_is_hyperfine_s():
    """14.826 on (x - median) / MAD without the factor that makes this score."""
    assert pytest.approx(14.826 * 0.6745, rel=1e-3) == OUTLIER
    others = [-1.0, -1.0, -1.0, 0.0, 1.0, 1.0]  # median 0, median absolute deviation 1, whatever the last one is
    below, above = (modified_z([*others, last])[-1] for last in (14.7, 14.95))
    assert below < OUTLIER < above


def test_a_slow_first_round_asks_for_more_warm_up(write_results):
    times = quiet(spread=0.002)
    times["n2"][0] *= 2
    found = kinds(write_results(times))
    assert set(found) == {"slow_first_round"}
    assert "raise warmup_s" in found["slow_first_round"].text


def test_a_slow_first_run_is_said(write_results):
    first = {f"n{k}": 0.006 for k in range(8)} | {"n4": 0.05}
    found = kinds(write_results(quiet(), first_s=first))
    assert set(found) == {"slow_first_run"}
    assert found["slow_first_run"].models == ("n4",)
    assert found["slow_first_run"].worst == pytest.approx(25, rel=0.05)


def test_too_few_rounds_are_said(write_results):
    found = kinds(write_results(quiet(rounds=4)))
    assert set(found) == {"few_rounds"}
    assert "as few as 4 rounds" in found["few_rounds"].text


def test_nothing_measured_is_an_error_not_a_clean_bill(write_results):
    with pytest.raises(InputError, match="no network ran"):
        warnings_of(read_results(write_results({})))


def test_modified_z_is_that_of_its_definition():
    samples = np.random.default_rng(1).standard_normal(101)
    median = np.median(samples)
    expected = 0.6745 * (samples - median) / np.median(np.abs(samples - median))
    assert modified_z(samples) == pytest.approx(expected)
    assert (modified_z([1.0, 1.0, 1.0, 9.0]) == 0).all()


def test_drift_compares_halves():
    assert drift([1.0, 1.0, 5.0, 2.0, 2.0]) == 1.0
    assert drift([1.0, 2.0, 3.0]) == 0.0
