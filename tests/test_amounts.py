"""Limits as people write them: what each text means, that nothing is misread silently, and the sentences of refusal."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energysplit.amounts import check_limit, factor, parse_limit
from energysplit.costs import amount
from energysplit.errors import BudgetError
from energysplit.output.numbers import quantity

POWERS = {"n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
COUNTED = ("MAC", "param", "B")
UNITS = (*COUNTED, "s", "J", "token", "us", "MAC-energy", "byte", "score", "images/s")


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("8 ms", "s", 8e-3),
        ("8ms", "s", 8e-3),
        ("  8  m  s ", "s", 8e-3),
        ("8m", "s", 8e-3),
        ("8 µs", "s", 8e-6),
        ("350 us", "s", 3.5e-4),
        ("250k", "param", 250e3),
        ("3m", "J", 3e-3),
        ("3 mJ", "J", 3e-3),
        ("5 MJ", "J", 5e6),
        ("100M", "MAC", 1e8),
        ("100 MMAC", "MAC", 1e8),
        ("100 M MACs", "MAC", 1e8),
        ("100 MACs", "MAC", 100.0),
        ("568.74 M MACs", "MAC", 568_740_000.0),
        ("1e6", "MAC", 1e6),
        ("+1E6 MAC", "MAC", 1e6),
        ("1_000_000", "MAC", 1e6),
        (".5 k", "MAC", 500.0),
        ("100 M macs", "MAC", 1e8),
        ("512 kB", "B", 512_000.0),
        ("512 KB", "B", 512_000.0),
        ("512KiB", "B", 524_288.0),
        ("512 Ki", "B", 524_288.0),
        ("1.5 MiB", "B", 1_572_864.0),
        ("1 Gi bytes", "B", 2.0**30),
        ("7 Bytes", "B", 7.0),
        ("1 M params", "param", 1e6),
        ("1M parameters", "param", 1e6),
        ("1 k", "param", 1e3),
        ("0", "param", 0.0),
    ],
)
def test_what_a_text_means(text, unit, expected):
    assert parse_limit(text, unit) == expected
    assert check_limit(text) >= 0


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("5 param", "param", 5.0),
        ("3 us", "us", 3.0),
        ("3 mus", "us", 3e-3),
        ("5 MAC-energy", "MAC-energy", 5.0),
        ("5 kMAC-energy", "MAC-energy", 5e3),
        ("4 token", "token", 4.0),
        ("4 T", "token", 4e12),
        ("4 T token", "token", 4e12),
        ("4 bytes", "byte", 4.0),
        ("4 Mi", "byte", 2.0**22),
        ("2 macs", "MACs", 2.0),
        ("2 MMAC", "MACs", 2e6),
        ("300 K", "K", 300.0),
        ("300 m", "m", 300.0),
        ("300 mm", "m", 0.3),
        ("300 mm", "mm", 300.0),
        ("2 GB", "GB", 2.0),
        ("2 kMs", "Ms", 2e3),
    ],
)
def test_the_whole_unit_goes_before_a_prefix(text, unit, expected):
    assert parse_limit(text, unit) == expected


def test_factors():
    assert [factor(text) for text in ("1.5x", " 2 x ", "1.5×", "3e0x", "0x")] == [1.5, 2.0, 1.5, 3.0, 0.0]
    assert [factor(text) for text in ("8 ms", "x", "1.5", "1.5 xs", "", "nanx", 2.0, None)] == [None] * 8
    for text in ("-2x", "1e400x", "1e16x"):
        with pytest.raises(BudgetError, match=rf"limit '{text}' is .*expected a number and a unit such as '8 ms'"):
            factor(text)


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("6 ms", "MAC", "limit '6 ms' is in seconds (s), but its prices are in MAC; expected such as '100 MMAC'"),
        ("6 MAC", "s", "limit '6 MAC' is in MACs (MAC), but its prices are in s; expected such as '8 ms' or '1.5x'"),
        ("6 kB", "param", "is in bytes (B), but its prices are in param; expected such as '1 M params' or '1.5x'"),
        ("6 Ki", "MAC", "limit '6 Ki' is in bytes (B), but its prices are in MAC"),
        ("6 mJ", "s", "limit '6 mJ' is in joules (J), but its prices are in s"),
        ("6 ms", "us", "limit '6 ms' is in seconds (s), but its prices are in us; expected such as '100 us' or '1.5x'"),
        ("6 MAC", "MAC-energy", "is in MACs (MAC), but its prices are in MAC-energy"),
        ("100m", "MAC", "limit '100m' does not fit prices in MAC; did you mean '100M'?"),
        ("100 u", "B", "limit '100 u' does not fit prices in B; did you mean '100M'?"),
        ("100 mMAC", "MAC", "did you mean '100 MMAC'?"),
        ("100 n params", "param", "did you mean '100 Mparams'?"),
        ("512 kb", "B", "limit '512 kb' does not fit prices in B; did you mean '512 kB'?"),
        ("512 KIB", "B", "did you mean '512 KiB'?"),
        ("1 mS", "s", "did you mean '1 ms'?"),
        ("1 B", "param", "limit '1 B': a thousand million is 'G', not 'B'; expected such as '1 M params'"),
        ("1B params", "param", "a thousand million is 'G', not 'B'"),
        ("8 seconds", "s", "limit '8 seconds': unit 'seconds' is not known here, its prices are in s; expected such"),
        ("5 kMs", "s", "unit 'kMs' is not known here"),
        ("1.5x", "s", "unit 'x' is not known here"),
        ("", "s", "limit '' is empty; expected such as '8 ms' or '1.5x'"),
        (" ", "token", "limit ' ' is empty; expected such as '100 token' or '1.5x'"),
        ("ms", "s", "limit 'ms' does not begin with a number"),
        ("x1.5", "s", "limit 'x1.5' does not begin with a number"),
        ("nan", "s", "limit 'nan' is not a finite number of at least 0"),
        ("NaN ms", "s", "limit 'NaN ms' is not a finite number of at least 0"),
        ("-inf", "s", "limit '-inf' is not a finite number of at least 0"),
        ("1e400 s", "s", "limit '1e400 s' is not a finite number of at least 0"),
        ("-3 ms", "s", "limit '-3 ms' is not a finite number of at least 0; expected such as '8 ms' or '1.5x'"),
        ("2e15", "MAC", "limit '2e15' is above 1e+15, more than anything here can use"),
        ("1,500 ms", "s", "limit '1,500 ms': a comma may mean thousands or a fraction; write 1500 or 1.5"),
    ],
)
def test_what_is_said_of_a_text_that_does_not_fit(text, unit, message):
    with pytest.raises(BudgetError) as caught:
        parse_limit(text, unit)
    assert message in str(caught.value)


def test_syntax_alone_leaves_the_unit_to_the_provider():
    assert [check_limit(text) for text in ("1.5x", "8 ms", "100m", "3 wonky", "1e6", "0 MAC")] == [
        1.5,
        8,
        100,
        3,
        1e6,
        0,
    ]
    for text in ("", "x1.5", "nan", "-3 ms", "-1x", "1,5 ms", "1e16 MAC", "ms"):
        with pytest.raises(
            BudgetError, match=r"expected a number and a unit such as '8 ms' or '100 MMAC', or a factor"
        ):
            check_limit(text)


NUMBERS = st.floats(min_value=0, max_value=1e15, allow_subnormal=True)


@given(value=NUMBERS, unit=st.sampled_from(UNITS))
def test_a_number_with_its_unit_reads_back_to_the_last_bit(value, unit):
    assert parse_limit(repr(value), unit) == parse_limit(f"{value!r} {unit}", unit) == value


@given(
    digits=st.decimals(min_value=0, max_value=10**6, places=4).map(str),
    prefix=st.sampled_from(sorted(POWERS)),
    unit=st.sampled_from(UNITS),
    gaps=st.tuples(*[st.sampled_from(["", " ", "  "])] * 2),
)
def test_every_prefix_means_its_power_of_ten(digits, prefix, unit, gaps):
    counted = unit in (*COUNTED, "byte")
    for tail in (f"{prefix}{gaps[1]}{unit}", prefix):
        text = f"{digits}{gaps[0]}{tail}"
        if counted and POWERS[prefix] < 0:
            with pytest.raises(BudgetError, match="did you mean"):
                parse_limit(text, unit)
        else:
            assert parse_limit(text, unit) == float(Fraction(digits) * Fraction(10) ** POWERS[prefix])


@given(value=st.floats(min_value=1, max_value=1e14), unit=st.sampled_from(UNITS))
def test_what_we_print_can_be_a_limit(value, unit):
    assert parse_limit(quantity(value, unit, decimals=12), unit) == pytest.approx(value, rel=1e-9)
    assert parse_limit(amount(value, unit).replace(",", ""), unit) == pytest.approx(value, rel=1e-4, abs=0.5)


@given(
    text=st.text(alphabet="0123456789.eE+-_ ,nuµmkKMGTiBbsJxMACparam×", max_size=12) | st.text(max_size=8),
    unit=st.sampled_from([*UNITS, "x", "M", "İ"]),
)
def test_any_text_is_read_or_refused_with_its_own_words(text, unit):
    said = ""
    try:
        assert parse_limit(text, unit) >= 0
    except BudgetError as error:
        said = str(error)
    assert (repr(text) in said) if said else (check_limit(text) >= 0)
