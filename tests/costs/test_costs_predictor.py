"""Prices of cases that were not measured, against truths that are known because they are formulas."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from energysplit.costs.predictor import Predictor, kind_of, site_of
from energysplit.costs.table import TableRow
from energysplit.errors import InputError
from energysplit.types import LayerCase

NOISE = 0.01
LOW, HIGH = 8, 128
SIZES = (28, 14, 7)


def conv(c_in, c_out, size=14, activation="relu"):
    return LayerCase("conv2d", c_in, c_out, in_size=(size, size), out_size=(size, size), activation=activation)


def depthwise(channels, size=14):
    return LayerCase(
        "conv2d",
        channels,
        channels,
        (3, 3),
        padding=(1, 1),
        groups=channels,
        in_size=(size, size),
        out_size=(size, size),
    )


def add(channels, size=14):
    return LayerCase("add", channels, channels, groups=channels, in_size=(size, size), out_size=(size, size))


def truth(case):
    """A call, multiply-accumulates, elements; depthwise ten times slower where widths are no multiples of 4."""
    positions = case.out_size[0] * case.out_size[1]
    macs = positions * case.out_channels * case.in_channels // case.groups * case.kernel[0] * case.kernel[1]
    elements = positions * (case.in_channels + case.out_channels)
    slow = 10 if case.depthwise and case.in_channels % 4 else 1
    return 1e-6 + slow * (1e-11 * macs + 1e-10 * elements)


def row(case, value, unit="s"):
    return TableRow(case, value, 0.99 * value, 1.01 * value, 12, unit)


def drawn(count, seed, noise=NOISE, cost=truth):
    """Rows of networks at random widths, half of them multiples of 4; and the corners."""
    generator = random.Random(seed)

    def width(aligned):
        value = generator.randint(LOW, HIGH)
        return 4 * round(value / 4) if aligned else value

    widths = [(a, b) for a in (LOW, HIGH) for b in (LOW, HIGH)]
    for place in range(count):
        widths.append((width(place % 2), width(place % 2)))
    return [
        row(case, cost(case) * math.exp(noise * generator.gauss(0, 1)))
        for c_in, c_out in widths
        for size in SIZES
        for case in (conv(c_in, c_out, size), depthwise(c_in, size))
    ]


@pytest.fixture(scope="module")
def predictor():
    return Predictor(drawn(60, seed=0))


def errors(predictor, rows):
    return np.array([predictor.price(item.case).value / item.median - 1 for item in rows])


def test_held_out_cases_are_predicted(predictor):
    held_out = drawn(40, seed=1, noise=0)
    assert np.abs(errors(predictor, held_out)).mean() < 0.02
    for cases in (conv, depthwise):
        of_kind = [
            item for item in held_out if kind_of(item.case) == kind_of(cases(*[8] * (2 if cases is conv else 1)))
        ]
        assert len(of_kind) > 100
        assert np.abs(errors(predictor, of_kind)).mean() < 0.02


def test_the_step_of_the_widths_is_found(predictor):
    assert predictor.step == 4
    fast, slow = (predictor.price(depthwise(width)).value for width in (64, 63))
    assert slow / fast == pytest.approx(truth(depthwise(63)) / truth(depthwise(64)), rel=0.05)
    without = Predictor(drawn(60, seed=0, cost=lambda case: truth(replace(case, in_channels=8, groups=8))))
    assert without.step == 1, "no step, no split of the rows"


def test_intervals_cover_what_they_say():
    inside = []
    for seed in range(4):
        predictor = Predictor(drawn(40, seed=10 + seed), step=4)
        for item in drawn(40, seed=20 + seed):
            price = predictor.price(item.case)
            assert price.low <= price.value <= price.high
            assert price.source.startswith("interpolated")
            inside.append(price.low <= item.median <= price.high)
    assert 0.80 <= np.mean(inside) <= 0.97  # 90 % are meant


def bent(case):
    """Smooth, and no sum of what is moved and computed."""
    return truth(replace(case, groups=1)) * (
        1 + 0.3 * math.sin(1.5 * math.log(case.in_channels * case.out_channels**2))
    )


def surface_rows(cost, noise, seed=0, count=80):
    generator = random.Random(seed)
    widths = [(a, b) for a in (LOW, HIGH) for b in (LOW, HIGH)]
    widths += [(generator.randint(LOW, HIGH), generator.randint(LOW, HIGH)) for _ in range(count)]
    return [row(conv(a, b), cost(conv(a, b)) * math.exp(noise * generator.gauss(0, 1))) for a, b in widths]


def regression_errors(rows, held_out):
    """Errors of the same sum of what is moved and computed, fitted by hand."""

    def features(case):
        positions = case.out_size[0] * case.out_size[1]
        macs = positions * case.in_channels * case.out_channels
        return [1.0, positions * case.in_channels, positions * case.out_channels, macs]

    design = np.array([features(item.case) for item in rows]) / np.array([[item.median] for item in rows])
    scale = np.abs(design).max(axis=0)
    found = np.linalg.lstsq(design / scale, np.ones(len(rows)), rcond=None)[0] / scale
    return np.array([np.array(features(item.case)) @ found / item.median - 1 for item in held_out])


def test_what_bends_smoothly_is_interpolated():
    rows, held_out = surface_rows(bent, 0.0), surface_rows(bent, 0.0, seed=1)
    plain = np.abs(regression_errors(rows, held_out)).mean()
    assert plain > 0.05
    assert np.abs(errors(Predictor(rows, step=1), held_out)).mean() < 0.5 * plain


def test_noise_is_not_interpolated():
    noise, found, plain = 0.1, [], []
    for seed in range(5):
        rows, held_out = surface_rows(truth, noise, seed=seed), surface_rows(truth, 0.0, seed=100 + seed)
        found.append(np.abs(errors(Predictor(rows, step=1), held_out)).mean())
        plain.append(np.abs(regression_errors(rows, held_out)).mean())
    assert np.mean(found) < 0.5 * noise, "noise is averaged out"
    assert np.mean(found) < 2 * np.mean(plain), "nearly as good as knowing that the truth is a sum"


def test_it_doubts_what_is_far_from_what_was_measured():
    # Wide and narrow layers were measured, those between were not.
    generator = random.Random(0)
    rows = [
        row(conv(a, b), bent(conv(a, b)))
        for low, high in ((8, 20), (100, 128))
        for a, b in ((generator.randint(low, high), generator.randint(low, high)) for _ in range(30))
    ]
    predictor = Predictor([*rows, row(conv(8, 128), 1e-4), row(conv(128, 8), 1e-4)], step=1)
    assert predictor.spread(conv(45, 45)) > 1.5 * predictor.spread(conv(14, 14))
    assert predictor.spread(conv(4, 4)) == math.inf


def test_outside_the_span_nothing_is_priced(predictor):
    assert predictor.covers(conv(8, 128))
    for case in (conv(7, 64), conv(64, 129), depthwise(200)):
        assert not predictor.covers(case)
        with pytest.raises(
            InputError,
            match=r"outside what was measured there, 8 to 128 channels in and 8 to 128 out, and tables don't extrapo"
            r"late.*'energysplit profile --for RECIPE' or '--model NAME --widths LOW,HIGH'",
        ):
            predictor.price(case)


@pytest.mark.parametrize(
    ("case", "named"),
    [
        (conv(8, 8, size=56), "conv2d 1x1 stride 1 with relu on 56x56, 8 to 8 channels"),
        (conv(8, 8, activation="silu"), "conv2d 1x1 stride 1 with silu on 14x14"),
        (replace(depthwise(8), kernel=(5, 5)), "depthwise conv2d 5x5"),
        (replace(conv(8, 8), groups=2), "conv2d 1x1"),
        (add(16), "add 1x1 stride 1 on 14x14"),
        (LayerCase("other", 0, 0, macs=5, params=3), "other"),
    ],
)
def test_what_nothing_like_was_measured_is_refused_by_name(predictor, case, named):
    assert not predictor.covers(case)
    assert predictor.spread(case) == math.inf
    with pytest.raises(
        InputError, match=rf"the table: nothing like this was measured: {named}.*energysplit profile --for"
    ):
        predictor.price(case)


def test_sums_that_the_runtime_fuses_cost_nothing(predictor):
    rows = drawn(20, seed=3)
    free = [row(add(channels), 0.0) for channels in (8, 32, 33, 64, 128)]
    cost = Predictor([*rows, *free]).price(add(50))
    assert (cost.value, cost.low, cost.high) == (0.0, 0.0, 0.0)
    # Most are fused, some are not: the nearest say which, and the interval holds both.
    mixed = Predictor([*rows, *free, row(add(34), 1e-6)]).price(add(35))
    assert 0.0 == mixed.low <= mixed.value <= 1e-6 <= mixed.high
    assert mixed.source.startswith("interpolated")


def test_what_has_no_channels_has_the_price_it_was_measured_with():
    attention = LayerCase("other", 0, 0, in_size=(1, 16), out_size=(1, 16), macs=4096, params=1056)
    smaller = replace(attention, macs=2048)
    found = Predictor([*drawn(20, seed=3), row(attention, 3e-5), row(smaller, 1e-5)])
    for case, value in ((attention, 3e-5), (smaller, 1e-5)):
        cost = found.price(case)
        assert cost.value == value
        assert cost.low <= 0.99 * value
        assert cost.high >= 1.01 * value, "the row's own interval is kept"


def test_the_rest_of_the_network_changes_no_price(predictor):
    for case in (conv(33, 65), depthwise(32)):
        assert predictor.price(replace(case, live=12_345)) == predictor.price(case)
    rows = drawn(20, seed=3)
    alive = Predictor([replace(item, case=replace(item.case, live=7)) for item in rows])
    assert alive.price(conv(33, 65)) == Predictor(rows).price(conv(33, 65))


def test_bias_and_batch_norm_do_not_make_a_site():
    assert site_of(conv(8, 16)) == site_of(replace(conv(24, 40), bias=True, batch_norm=True, params=9))
    assert site_of(conv(8, 16)) != site_of(conv(8, 16, activation=None))
    assert site_of(conv(8, 16)) != site_of(conv(8, 16, size=7))
    assert kind_of(conv(8, 16)) == kind_of(conv(24, 40, size=7))


def test_the_same_rows_give_the_same_prices(predictor):
    again = Predictor(drawn(60, seed=0))
    cases = [item.case for item in drawn(10, seed=4)]
    assert [again.price(case) for case in cases] == [predictor.price(case) for case in cases]
    shuffled = drawn(60, seed=0)
    random.Random(0).shuffle(shuffled)
    other = Predictor(shuffled)
    assert other.step == predictor.step
    for case in cases:
        assert other.price(case).value == pytest.approx(predictor.price(case).value, rel=1e-6)


def test_sites_with_few_rows_are_helped_by_their_kind():
    rows = [item for item in drawn(40, seed=5) if not (item.case.in_size == (7, 7) and item.case.kernel == (1, 1))]
    few = [row(conv(a, b, 7), truth(conv(a, b, 7))) for a, b in ((8, 8), (128, 128), (64, 32))]
    found = Predictor([*rows, *few], step=4)
    assert found.price(conv(100, 100, 7)).value == pytest.approx(truth(conv(100, 100, 7)), rel=0.1)


def test_a_regime_with_few_rows_is_no_guess():
    # Networks of people have widths that are multiples of 4; growth makes one layer of a network wider than that.
    rows = [item for item in drawn(80, seed=7) if item.case.depthwise or item.case.in_channels % 4 == 0]
    odd = [item for item in rows if item.case.in_channels % 4 == 0 and item.case.out_channels % 4]
    few = [item for item in rows if item not in odd] + odd[:3]
    found = Predictor(few, step=4)
    for c_in, c_out in ((16, 61), (64, 33), (120, 101)):
        assert found.price(conv(c_in, c_out)).value == pytest.approx(truth(conv(c_in, c_out)), rel=0.1)
        assert not found.price(conv(c_in, c_out)).source.endswith("nearest rows")


def test_energies_are_in_joules():
    found = Predictor([replace(item, unit="J") for item in drawn(20, seed=6)])
    assert found.unit == "J"
    assert found.price(conv(40, 40)).unit == "J"


def test_a_table_without_rows_is_refused():
    with pytest.raises(InputError, match=r"the table holds no rows; measure it with 'energysplit profile'"):
        Predictor([])
