"""Frontiers: every point inside its limits and an allocation of its own, gains that never fall."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import energysplit as es
from energysplit.allocation.frontier import Frontier, frontier
from energysplit.costs import price
from energysplit.errors import BudgetError, InputError
from energysplit.types import Budget, SplitIndex

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def net(chain: Make) -> Any:
    return chain((6, 8, 5), depthwise=True)


@pytest.fixture(scope="module")
def index(net: Any, indices: Make) -> dict[str, SplitIndex]:
    return indices(net, seed=3)


BUDGETS = [Budget("macs", "1.6x", "stage"), Budget("params", "1.5x", "stage"), Budget("peak_memory", "1.4x", "stage")]


@pytest.fixture(scope="module")
def found(net: Any, index: dict[str, SplitIndex]) -> dict[str, Frontier]:
    return frontier(net, index, BUDGETS, points=8)


def _after(net: Any, split: dict[str, list[int]]) -> dict[str, int]:
    return {name: width + len(split.get(name, [])) for name, width in net.widths.items()}


def test_every_point_is_inside_its_limits_at_its_true_price(net: Any, found: dict[str, Frontier]) -> None:
    own = {name: each.limit for name, each in found.items()}
    for name, each in found.items():
        assert each.alone is not None
        for point in each.points:
            widths = _after(net, point.allocation.split)
            for other, limit in {**own, name: point.limit}.items():
                assert price(net, other, widths).value <= limit
        for point in (*each.points, *each.alone):
            true = price(net, name, _after(net, point.allocation.split))
            assert point.price == true
            assert true.value <= point.limit
            assert point.neurons == sum(map(len, point.allocation.split.values()))
            assert point.gain == point.allocation.predicted_gain
            assert 0 <= point.gap <= 1


def test_gains_never_fall_and_alone_is_never_worse(found: dict[str, Frontier]) -> None:
    for each in found.values():
        assert each.alone is not None
        for curve in (each.points, each.alone):
            assert all(before.limit < after.limit for before, after in pairwise(curve))
            assert all(before.gain <= after.gain for before, after in pairwise(curve))
        for together, alone in zip(each.points, each.alone, strict=True):
            assert together.limit == alone.limit
            assert together.gain <= alone.gain


def test_limits_go_from_the_present_price_to_where_everything_is_bought(
    net: Any, index: dict[str, SplitIndex], found: dict[str, Frontier]
) -> None:
    everything = sum(float(-each.value[each.value < 0].sum()) for name, each in index.items() if name != "fc")
    for name, each in found.items():
        assert each.alone is not None
        assert each.points[0].limit == each.present.value == price(net, name).value
        assert each.most == pytest.approx(everything)
        assert each.alone[-1].gain == pytest.approx(everything)
        # The last limit is no larger than it must be.
        assert each.alone[-1].price.value == each.points[-1].limit
        assert 8 <= len(each.points) <= 10
    # Denser where gains are steep: most limits lie in the first half of the way.
    limits = [point.limit for point in found["params"].points]
    assert sum(limit < (limits[0] + limits[-1]) / 2 for limit in limits) > 0.6 * len(limits)


def test_the_budgets_own_limit_is_a_point_and_its_allocation_the_usual_one(
    net: Any, index: dict[str, SplitIndex], found: dict[str, Frontier]
) -> None:
    usual = es.allocate(net, index, BUDGETS)
    for name, each in found.items():
        assert each.limit == usual.limit[name]
        assert each.own.gain >= usual.predicted_gain
        assert each.own.gain == pytest.approx(usual.predicted_gain, rel=0.01)
        assert each.own.shadow_price == usual.shadow_price[name]


def test_points_are_as_good_as_allocations_of_their_own(net: Any, index: dict[str, SplitIndex]) -> None:
    (each,) = frontier(net, index, Budget("macs", "1.5x"), points=5).values()
    assert each.alone is None
    for point in each.points:
        single = es.allocate(net, index, [Budget("macs", point.limit)])
        assert point.gain >= single.predicted_gain
        assert point.gain * (1 - point.gap) <= single.predicted_gain / max(1e-12, 1 - single.gap) + 1e-12


def test_a_method_that_wavers_still_gives_a_rising_frontier(net: Any, indices: Make) -> None:
    """S2D's choice by index alone: with more budget it can be worse, but then the cheaper choice stays open."""
    index = indices(net, seed=0)
    (each,) = frontier(net, index, Budget("params", "2x"), points=20, method="top_k").values()
    single = [es.allocate(net, index, [Budget("params", p.limit)], method="top_k").predicted_gain for p in each.points]
    assert any(before > after for before, after in pairwise(single))
    gains = [point.gain for point in each.points]
    assert gains == [max(single[: place + 1]) for place in range(len(single))]
    assert all(point.price.value <= point.limit for point in each.points)


def test_two_limits_of_one_provider_keep_their_names(net: Any, index: dict[str, SplitIndex]) -> None:
    present = price(net, "macs").value
    budgets = [Budget("macs", "1.3x", "stage"), Budget("macs", 1.8 * present, "network")]
    found = frontier(net, index, budgets, points=4)
    assert list(found) == ["macs:stage", "macs:network"]
    stage, network = found.values()
    # A stage may spend no more than the network may cost, and the other way round.
    assert stage.points[-1].price.value <= 1.8 * present
    assert network.points[-1].price.value <= 1.3 * present
    assert stage.alone is not None
    assert stage.alone[-1].gain > stage.points[-1].gain


def test_factors_of_the_network_multiply_the_seeds_price(net: Any, index: dict[str, SplitIndex]) -> None:
    seed = 0.9 * price(net, "macs").value
    (each,) = frontier(net, index, Budget("macs", "2x"), points=3, seed_price={"macs": seed}).values()
    assert each.limit == 2 * seed


def test_arguments_of_allocate_are_handed_on(net: Any, index: dict[str, SplitIndex]) -> None:
    bounds = {"conv1": es.GroupBound(frozen=True)}
    (each,) = frontier(
        net, index, Budget("macs", "2x"), points=4, bounds=bounds, weights={"conv2": 0.0}, multiple_of=2
    ).values()
    assert each.most > 0
    for point in each.points:
        assert set(point.allocation.split) <= {"conv0"}
        assert len(point.allocation.split.get("conv0", [])) % 2 == 0


def test_nothing_to_buy_is_a_flat_line(net: Any, indices: Make) -> None:
    none = indices(net, 0, values={"conv0": [1.0] * 6})
    (each,) = frontier(net, none, Budget("macs", "1.5x")).values()
    assert each.most == 0
    assert [point.limit for point in each.points] == [each.present.value, each.limit]
    assert [point.neurons for point in each.points] == [0, 0]


def test_bad_input(net: Any, index: dict[str, SplitIndex]) -> None:
    with pytest.raises(InputError, match="points = 1 given, a whole number from 2 to 200 expected"):
        frontier(net, index, BUDGETS, points=1)
    with pytest.raises(BudgetError, match="below the price of the network as it is"):
        frontier(net, index, [Budget("macs", 1.0)])
    with pytest.raises(InputError, match="allocation method 'mlp': did you mean 'milp'?"):
        frontier(net, index, BUDGETS, method="mlp")


def test_work_is_reported_once_for_every_point(net: Any, index: dict[str, SplitIndex]) -> None:
    said: list[int] = []

    class Counts:
        def task(self, name: str, total: int) -> Counts:
            self.total = total
            return self

        def __enter__(self) -> Counts:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def advance(self, n: int = 1, **_: float) -> None:
            said.append(n)

    progress = Counts()
    frontier(net, index, BUDGETS[:2], points=4, progress=progress)  # type: ignore[arg-type]
    assert sum(said) == progress.total
