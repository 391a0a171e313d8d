"""Learning rates: known values, bounds, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energysplit.errors import InputError
from energysplit.train.schedules import SCHEDULES, learning_rate


def test_the_papers_cifar_schedule():
    """160 epochs, 0.1, times 0.1 at 80 and 120 (facts/energy.md)."""
    rates = [learning_rate("step", 0.1, epoch, 160) for epoch in range(160)]
    assert rates[:80] == [0.1] * 80
    assert rates[80:120] == pytest.approx([0.01] * 40)
    assert rates[120:] == pytest.approx([0.001] * 40)


def test_cosine_after_a_warm_up():
    def rate(epoch):
        return learning_rate("cosine", 0.4, epoch, 12, warmup_epochs=2)

    assert rate(0) == pytest.approx(0.004)
    assert rate(1) == pytest.approx(0.4 * 0.505)
    assert rate(2) == pytest.approx(0.4)
    assert rate(7) == pytest.approx(0.2)
    assert rate(12) == pytest.approx(0.0)
    assert rate(13) == pytest.approx(0.0)


@given(
    schedule=st.sampled_from(SCHEDULES),
    epoch=st.floats(0, 20),
    warmup=st.floats(0, 19),
)
def test_rates_stay_between_zero_and_the_base(schedule, epoch, warmup):
    assert 0 <= learning_rate(schedule, 0.3, epoch, 20, warmup_epochs=warmup) <= 0.3 * (1 + 1e-12)


def test_unknown_schedules_and_endless_warm_ups_are_refused():
    with pytest.raises(InputError, match=r"unknown schedule 'cosin'.*did you mean 'cosine'"):
        learning_rate("cosin", 0.1, 0, 10)
    with pytest.raises(InputError, match=r"train.warmup_epochs = 10: less than train.epochs = 10"):
        learning_rate("cosine", 0.1, 0, 10, warmup_epochs=10)
