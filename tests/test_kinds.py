"""Kinds of split: every one keeps the function and the first order, and the best of them is what S3D proves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energysplit.errors import InputError
from energysplit.kinds import PAIR, kinds

MASSES = st.floats(1.0, 100.0, exclude_min=True)
VALUES = st.floats(-10, 10)


@given(mass=MASSES)
def test_every_kind_keeps_the_function_and_has_no_first_order(mass):
    for kind in kinds(mass).values():
        shares = [copy.share for copy in kind.copies]
        assert math.fsum(shares) == pytest.approx(1, abs=1e-13 * mass)
        assert math.fsum(map(abs, shares)) == pytest.approx(1 if kind.name == PAIR else mass)
        assert math.fsum(copy.share * copy.low for copy in kind.copies) == pytest.approx(0, abs=1e-13 * mass)
        assert math.fsum(copy.share * copy.high for copy in kind.copies) == pytest.approx(0, abs=1e-13 * mass)
        assert all(copy.low * copy.high == 0 for copy in kind.copies), "no copy moves along both ends"
        assert kind.added == len(kind.copies) - 1


@given(mass=MASSES)
def test_factors_of_both_ends(mass):
    p, n = (mass + 1) / 2, (mass - 1) / 2
    found = {name: (kind.added, kind.low, kind.high) for name, kind in kinds(mass).items()}
    expected = {
        "pair": (1, 1, 0),
        "signed_pair": (1, 0, n**2 / p - n),
        "low_triple": (2, p, 0),
        "high_triple": (2, 0, -n),
        "quadruple": (3, p, -n),
    }
    assert found.keys() == expected.keys()
    for name, factors in expected.items():
        assert found[name] == pytest.approx(factors, rel=1e-9, abs=1e-9 * n)


@given(mass=MASSES, values=st.tuples(VALUES, VALUES))
def test_best_change_is_that_of_the_theorem(mass, values):
    """Wu et al. 2020, theorem 3.2: P min(lmin, 0) - N max(lmax, 0), never worse than a pair's.

    A quadruple is never worse than a pair, whatever the signs: P lmin - N lmax = lmin + N (lmin - lmax).
    """
    low, high = sorted(values)
    p, n = (mass + 1) / 2, (mass - 1) / 2
    change = {name: kind.low * low + kind.high * high for name, kind in kinds(mass).items()}
    best = min(0.0, *change.values())
    assert best == pytest.approx(p * min(low, 0) - n * max(high, 0), rel=1e-9, abs=1e-9)
    assert change["quadruple"] <= change[PAIR] + 1e-12 * mass


def test_without_mass_to_spare_there_are_pairs_only():
    assert list(kinds()) == list(kinds(1)) == [PAIR]


@pytest.mark.parametrize("mass", [0.99, -2, math.nan, math.inf, "2", True, None])
def test_wrong_masses_are_named(mass):
    with pytest.raises(InputError, match=r"mass = .* given, a finite number of at least 1 expected"):
        kinds(mass)
