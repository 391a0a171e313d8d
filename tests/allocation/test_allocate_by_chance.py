"""Choices that don't look at indices: neurons in a random order, as many neurons as fit, and given sizes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest

from energysplit.allocation import allocate
from energysplit.allocation.given import allocate_given
from energysplit.costs import NetworkPricer
from energysplit.errors import BudgetError, InputError
from energysplit.types import Budget, GroupBound

NAN, INF = math.nan, math.inf
MACS = Budget("macs", "1.6x")


def grown(net, found) -> dict[str, int]:
    return {name: width + len(found.split.get(name, ())) for name, width in net.widths.items()}


def test_it_is_inside_and_nothing_more_fits(chain: Callable, indices: Callable) -> None:
    net = chain([6, 5, 7], depthwise=True)
    index = indices(net, 0)
    budgets = [MACS, Budget("params", "1.5x")]
    pricers = [NetworkPricer(net, budget.provider) for budget in budgets]
    for seed in range(10):
        found = allocate(net, index, budgets, method="random", seed=seed)
        widths = grown(net, found)
        for pricer in pricers:
            assert found.price[pricer.name].value == pricer.value(widths) <= found.limit[pricer.name]
        for name in index:
            if widths[name] < 2 * net.widths[name]:
                more = {**widths, name: widths[name] + 1}
                assert any(pricer.value(more) > found.limit[pricer.name] for pricer in pricers), name
        neurons = [float(index[name].value[n]) for name, split in found.split.items() for n in split]
        assert found.predicted_gain == pytest.approx(-sum(neurons), rel=1e-12)
        assert found.method == "random"
        assert math.isnan(found.gap)
        assert all(map(math.isnan, found.shadow_price.values()))
        assert "no further neuron fits; taken in a random order, whatever they bring." in found.status


def test_a_seed_is_a_choice_and_the_order_of_groups_given_is_none(chain: Callable, indices: Callable) -> None:
    net = chain([8, 8])
    index = indices(net, 0)
    first, again, other = (allocate(net, index, MACS, method="random", seed=seed).split for seed in (3, 3, 4))
    assert first == again != other
    turned = dict(reversed(index.items()))
    assert allocate(net, turned, MACS, method="random", seed=3).split == first


def test_all_neurons_are_as_likely_those_above_zero_too(chain: Callable, indices: Callable) -> None:
    """Of eight neurons with the most different indices each is split in half of 400 choices of four, within 5 sigma."""
    net = chain([8])
    index = indices(net, 0, {"conv0": [-9.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 9.0, 99.0]})
    half = Budget("params", NetworkPricer(net, "params").value({"conv0": 12, "fc": 10}))
    count = Counter[int]()
    for seed in range(400):
        split = allocate(net, index, half, method="random", seed=seed).split["conv0"]
        assert len(split) == 4
        count.update(split)
    assert all(abs(count[neuron] - 200) < 5 * math.sqrt(400 / 4) for neuron in range(8)), count


def test_multiples_and_bounds_are_kept(chain: Callable, indices: Callable) -> None:
    net = chain([6, 6, 6])
    index = indices(net, 0)
    for seed in range(5):
        found = allocate(
            net, index, Budget("macs", "3x"), method="random", seed=seed, multiple_of=4,
            bounds={"conv0": GroupBound(max_channels=11), "conv1": GroupBound(frozen=True)},
        )  # fmt: skip
        widths = grown(net, found)
        assert (widths["conv0"], widths["conv1"]) in ((6, 6), (8, 6))
        assert widths["conv2"] in (6, 8, 12)
        assert "block up to a multiple of 4" in found.status or "Held by bounds" in found.status


def test_unknown_indices_are_left_out_and_said(chain: Callable, indices: Callable) -> None:
    net = chain([3, 2])
    index = indices(net, 0, {"conv0": [NAN, INF, 1.0], "conv1": [2.0, -1.0]})
    found = allocate(net, index, Budget("macs", "9x"), method="random")
    assert found.split == {"conv0": [2], "conv1": [0, 1]}
    assert found.predicted_gain == -2.0
    assert "every neuron is split" in found.status
    assert found.status.endswith("Left out for an unknown (NaN) index: 2 neurons.")
    assert allocate(net, {}, MACS, method="random").status == (
        "Nothing to split: no neuron of a splittable group has a known index."
    )


def test_kinds_of_signed_splits_are_refused(chain: Callable, indices: Callable) -> None:
    net = chain([3, 2])
    with pytest.raises(InputError, match="it chooses neurons, not kinds of signed splits; use mass=1"):
        allocate(net, indices(net, 0), MACS, method="random", mass=2.0)


def test_given_sizes_take_the_smallest_indices_or_random_ones(chain: Callable, indices: Callable) -> None:
    net = chain([4, 3])
    index = indices(net, 0, {"conv0": [3.0, -1.0, 2.0, -5.0], "conv1": [-1.0, 0.5, -2.0]})
    sizes = {"conv0": 3, "conv1": 1}
    found = allocate_given(net, index, [Budget("macs", "4x")], sizes, said="runs/a did")
    assert found.split == {"conv0": [1, 2, 3], "conv1": [2]}
    assert (found.predicted_gain, found.method) == (6.0, "sizes, best")
    assert found.status.startswith("4 neurons of 2 groups to be split, as many as runs/a did, 'macs' at ")
    assert math.isnan(found.gap)
    by_chance = [
        allocate_given(net, index, [Budget("macs", "4x")], sizes, at_random=True, seed=seed).split for seed in range(20)
    ]
    assert {tuple(map(len, split.values())) for split in by_chance} == {(3, 1)}
    assert {neuron for split in by_chance for neuron in split["conv1"]} == {0, 1, 2}


@pytest.mark.parametrize(
    ("sizes", "limit", "error", "message"),
    [
        ({"conv0": 5}, "9x", InputError, "group 'conv0' can't be split 5 times, as runs/a did: 4 neurons of it"),
        ({"fc": 1}, "9x", InputError, "group 'fc' can't be split 1 time, as runs/a did: 0 neurons of it"),
        ({"conv0": 4}, "1.1x", BudgetError, "budget 'macs': the sizes given, as runs/a did, cost .* more than"),
    ],
)
def test_sizes_that_can_t_be_had(sizes, limit, error, message, chain: Callable, indices: Callable) -> None:
    net = chain([4, 3])
    with pytest.raises(error, match=message):
        allocate_given(net, indices(net, 0), [Budget("macs", limit)], sizes, said="runs/a did")


def test_cheapest_takes_as_many_neurons_as_any_choice_does(chain: Callable, indices: Callable) -> None:
    """Beside every number of neurons of every group, under two budgets."""
    net = chain([3, 4, 5], depthwise=True)
    budgets = [MACS, Budget("params", "1.4x")]
    pricers = [NetworkPricer(net, budget.provider) for budget in budgets]
    limits = [1.6 * pricers[0].value(net.widths), 1.4 * pricers[1].value(net.widths)]
    groups = [name for name, group in net.groups.items() if group.splittable]
    most = max(
        sum(added)
        for added in itertools.product(*(range(net.widths[name] + 1) for name in groups))
        if all(
            pricer.value({**net.widths, **{n: net.widths[n] + a for n, a in zip(groups, added, strict=True)}}) <= limit
            for pricer, limit in zip(pricers, limits, strict=True)
        )
    )
    found = allocate(net, indices(net, 0), budgets, method="cheapest")
    assert sum(map(len, found.split.values())) == most
    assert "as many as were found to fit, whatever they bring, the best of all" in found.status
    assert found.method == "cheapest"
    assert math.isnan(found.gap)


def test_cheapest_knows_no_index(chain: Callable, indices: Callable) -> None:
    """Sizes are those of any other indices; the gain is that of the neurons it took."""
    net = chain([6, 5, 7])
    first, other = (allocate(net, indices(net, seed), MACS, method="cheapest", seed=1) for seed in (0, 1))
    assert first.split == other.split
    index = indices(net, 0)
    gain = -sum(float(index[name].value[n]) for name, split in first.split.items() for n in split)
    assert first.predicted_gain == pytest.approx(gain, rel=1e-12)
    again = allocate(net, index, MACS, method="cheapest", seed=2)
    assert {name: len(split) for name, split in again.split.items()} == {
        name: len(split) for name, split in first.split.items()
    }
    assert again.split != first.split
    with pytest.raises(InputError, match="method 'cheapest' with mass"):
        allocate(net, index, MACS, method="cheapest", mass=2.0)
    assert allocate(net, {}, MACS, method="cheapest").split == {}
