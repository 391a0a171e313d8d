"""The step of a growth, signed or not: what is predicted on the held-out images, its error, and what comes true."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import growth_runs
import oracles
import pytest
import torch

import energysplit as es
from energysplit.growth.setup import Setup, prepare
from energysplit.growth.step import take_step
from energysplit.kinds import kinds
from energysplit.splitting import SplittingOperator
from energysplit.types import Allocation

IMAGES = 24
MASS = 2.0


@dataclass
class Case:
    """A network in float64 with indices of both ends, valued on `held_out`."""

    setup: Setup
    net: es.Network
    index: dict[str, es.SplitIndex]
    held_out: list[oracles.Batch]


@pytest.fixture(scope="module")
def case():
    # Running statistics: single images, which the predictions are compared with, have no others.
    setup = prepare(growth_runs.tiny(step={"policy": "fixed", "size": 1e-3}, index={"statistics": "running"}))
    train = setup.splits.train
    cut = [[(x.double(), y) for x, y in train.take(torch.arange(start, start + IMAGES), 10)] for start in (0, IMAGES)]
    net = es.trace(setup.seed.module.double(), cut[0][0][0])
    index = es.splitting_index(net, cut[0], setup.loss, method="exact", held_out=cut[1], signed=True)
    yield Case(setup, net, index, cut[1])
    setup.session.close()


def allocation(net: es.Network, *names: str) -> Allocation:
    """Every neuron of every group, split in these ways in turn; plain pairs without any."""
    ways = cycle(names)
    groups = [name for name, group in net.groups.items() if group.splittable]
    chosen = {name: {channel: next(ways, "pair") for channel in range(net.widths[name])} for name in groups}
    return Allocation(
        {name: list(channels) for name, channels in chosen.items()},
        predicted_gain=1.0,
        price={},
        limit={},
        gap=0.0,
        shadow_price={},
        status="",
        kinds=chosen if names else {},
        mass=MASS if names else 1.0,
    )


def by_image(case: Case, bought: Allocation, step: dict[str, float]) -> torch.Tensor:
    """Each held-out image's own prediction of the loss change, one image at a time."""
    found = []
    for x, y in case.held_out:
        for image in range(len(x)):
            batch = [(x[image : image + 1], y[image : image + 1])]
            operator = SplittingOperator(case.net, batch, case.setup.loss)
            low = operator.evaluate(operator.vectors_of(case.index))
            high = operator.evaluate(operator.vectors_of({name: each.upper for name, each in case.index.items()}))
            total = 0.0
            for name, channels in bought.split.items():
                for channel in channels:
                    kind = kinds(bought.mass)[bought.kinds.get(name, {}).get(channel, "pair")]
                    change = kind.low * low[name][0][channel] + kind.high * high[name][0][channel]
                    total += step[name] ** 2 / 2 * float(change)
            found.append(total)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("names", [(), *[(kind,) for kind in kinds(MASS)], tuple(kinds(MASS))], ids=str)
def test_prediction_its_error_and_what_comes_true(case, names):
    bought = allocation(case.net, *names)
    record, _ = take_step(case.setup, case.net, case.index, bought, case.held_out)
    assert set(record.size.values()) == {1e-3}
    expected = oracles.predicted_change(case.index, bought.chosen, 1e-3, bought.mass)
    assert record.predicted_change == pytest.approx(expected, rel=1e-9)
    images = by_image(case, bought, record.size)
    assert len(images) == IMAGES
    assert record.predicted_change == pytest.approx(float(images.mean()), rel=1e-9)
    assert record.predicted_stderr == pytest.approx(float(images.std()) / IMAGES**0.5, rel=1e-6)
    assert record.realised_change == pytest.approx(record.predicted_change, rel=0.01)
    assert record.small_realised_change == pytest.approx(record.small_predicted_change, rel=0.01)
    assert record.function_error < 1e-12


def test_the_error_of_all_indices_is_that_of_the_lower_end(case):
    errors = [
        take_step(case.setup, case.net, case.index, allocation(case.net, *names), case.held_out)[1]
        for names in ((), ("quadruple",), ("high_triple",))
    ]
    assert errors[0] > 0
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-12)


def test_pairs_need_no_upper_end(case):
    lower = es.splitting_index(case.net, case.held_out, case.setup.loss, sweeps=2)
    record, _ = take_step(case.setup, case.net, lower, allocation(case.net), case.held_out)
    assert record.realised_change == pytest.approx(record.predicted_change, rel=0.01)
    with pytest.raises(es.InputError, match="moves along the largest eigenvalue, but no direction for it is given"):
        take_step(case.setup, case.net, lower, allocation(case.net, "quadruple"), case.held_out)


def test_with_batch_statistics_prediction_and_outcome_are_those_of_training():
    """The default of recipes: both numbers are of the loss in which batch norms follow the held-out batches."""
    setup = prepare(growth_runs.tiny(step={"policy": "fixed", "size": 1e-3}))
    held_out = [(x.double(), y) for x, y in setup.splits.train.take(torch.arange(2 * IMAGES), IMAGES)]
    net = es.trace(setup.seed.module.double(), held_out[0][0])
    found = {}
    for statistics in ("batch", "running"):
        index = es.splitting_index(net, held_out, setup.loss, method="exact", statistics=statistics)
        found[statistics], _ = take_step(setup, net, index, allocation(net), held_out)
        assert found[statistics].realised_change == pytest.approx(found[statistics].predicted_change, rel=0.01)
    setup.session.close()
    assert found["batch"].predicted_change < found["running"].predicted_change
