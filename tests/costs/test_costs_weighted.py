"""Weighted sums: their unit, their intervals, who is asked, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from priceable import EveryLayerFollowsAll
from torch import nn

import energysplit as es
from energysplit.costs import cost_provider
from energysplit.costs.network_price import NetworkPricer
from energysplit.errors import InputError
from energysplit.types import Cost, LayerCase

LINEAR = LayerCase("linear", 64, 10, bias=True)  # 640 MACs, 650 parameters
ADD = LayerCase("add", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4), live=384)


class Seconds:
    """A toy that knows its error over networks and a network's start."""

    unit = "s"
    every_operation = True
    overhead = Cost(1.0, "s", 0.5, 2.0, "measured: overhead")
    network_error: float | None = 0.1

    def price(self, case: LayerCase) -> Cost:
        return Cost(2.0, "s", 1.0, 4.0, "interpolated: a table")


class Careful(Seconds):
    """A larger error, no start, and blind to operations without weights."""

    every_operation = False
    overhead = None  # type: ignore[assignment]
    network_error = 0.3

    def price(self, case: LayerCase) -> Cost:
        assert case.op == "linear", "asked for an operation without weights"
        return Cost(3.0, "s", 3.0, 3.0, "counted")


class Unsure(Seconds):
    """No error known."""

    network_error = None


class Wrong(Seconds):
    """Says one unit and gives another, or a source of its own."""

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(1.0, "ms" if case.op == "linear" else "s", "guessed")


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under a name that cost_provider can import."""
    import sys
    import types

    module = types.ModuleType("weighted_toys")
    for toy in (Seconds, Careful, Unsure, Wrong, Eight, ByKind):
        setattr(module, toy.__name__, toy)
    monkeypatch.setitem(sys.modules, "weighted_toys", module)


def weighted(profile: object = None, **parts: Any) -> Any:
    named = {f"weighted_toys:{key}" if key[0].isupper() else key: value for key, value in parts.items()}
    return cost_provider("weighted", profile=profile, parts=named)


def test_different_units_make_a_score() -> None:
    provider = weighted(macs=0.5, params=2)
    assert provider.unit == "score"
    cost = provider.price(LINEAR)
    assert (cost.value, cost.low, cost.high) == (0.5 * 640 + 2 * 650,) * 3
    assert cost.source == "counted: 0.5 x macs (counted) + 2 x params (counted)"


def test_one_unit_is_kept_and_intervals_add() -> None:
    provider = weighted(Seconds=0.5, Careful=2)
    assert provider.unit == "s"
    cost = provider.price(LINEAR)
    assert (cost.value, cost.low, cost.high) == (0.5 * 2 + 2 * 3, 0.5 * 1 + 2 * 3, 0.5 * 4 + 2 * 3)
    assert cost.source.startswith("interpolated: 0.5 x weighted_toys:Seconds (interpolated: a table) + 2 x ")


def test_parts_that_see_layers_only_are_not_asked_for_others() -> None:
    both = weighted(Seconds=1, Careful=1)
    assert both.every_operation
    assert both.price(ADD).value == 2.0
    assert not weighted(Careful=1, macs=1).every_operation
    seen = weighted(Careful=1).price(ADD)
    assert (seen.value, seen.source) == (0.0, "counted: no part prices this operation")


def test_overhead_and_error_of_networks() -> None:
    provider = weighted(Seconds=0.5, Careful=2)
    assert provider.overhead == Cost(0.5, "s", 0.25, 1.0, "measured: 0.5 x weighted_toys:Seconds (measured: overhead)")
    assert provider.network_error == 0.3
    assert weighted(Careful=1).overhead is None
    assert weighted(Seconds=1, Unsure=1).network_error is None
    assert weighted(Seconds=1, Unsure=0).network_error == 0.1, "a part without weight has no say"


@pytest.mark.parametrize(
    ("ability", "value", "said"),
    [
        ("overhead", 3.0, r"overhead is 3.0, expected a Cost such as Cost.exact\(1.0, 's'\)"),
        ("network_error", -1, "network_error is -1, expected a finite number of at least 0"),
    ],
)
def test_what_a_part_says_of_networks_is_checked_as_alone(monkeypatch, ability: str, value: object, said: str) -> None:
    monkeypatch.setattr(Seconds, ability, value)
    with pytest.raises(InputError, match=said):
        NetworkPricer(
            es.trace(nn.Sequential(nn.Linear(3, 2)), torch.randn(2, 3)), cost_provider("weighted_toys:Seconds")
        )
    with pytest.raises(InputError, match=said):
        weighted(Seconds=1)


def test_a_network_is_priced_with_all_of_it() -> None:
    class Net(EveryLayerFollowsAll):
        def __init__(self) -> None:
            self.groups: dict = {}
            self.widths: dict[str, int] = {}

        def cases(self, widths: object = None) -> dict[str, LayerCase]:
            return {"last": LINEAR}

        def operations(self, widths: object = None) -> dict[str, LayerCase]:
            return {"add": ADD, "last": LINEAR}

    price = NetworkPricer(Net(), weighted(Seconds=0.5, Careful=2)).price()
    value = 0.5 * (2 + 2 + 1) + 2 * 3
    assert price.value == value
    assert (price.low, price.high) == (pytest.approx(0.7 * value), pytest.approx(1.3 * value))


def test_a_part_s_own_options_and_profile() -> None:
    provider = weighted(energy={"weight": 2.0, "profile": "stm32l4r5"}, params=1e-6)
    alone = cost_provider("energy", profile="stm32l4r5").price(LINEAR).value
    assert provider.price(LINEAR).value == pytest.approx(2 * alone + 650e-6)


def test_the_profile_goes_to_the_parts_that_take_one() -> None:
    provider = weighted("generic_45nm", energy=1.0, macs=1e-9, peak_memory_={"weight": 0, "provider": "params"})
    alone = cost_provider("energy", profile="generic_45nm").price(LINEAR).value
    assert provider.price(LINEAR).value == pytest.approx(alone + 640e-9)


def test_one_provider_twice_under_two_labels() -> None:
    provider = weighted(
        slow={"provider": "energy", "weight": 1, "profile": "stm32l4r5"},
        fast={"provider": "energy", "weight": 1, "profile": "gap9"},
    )
    assert provider.unit == "J"
    assert provider.price(LINEAR).value == pytest.approx(
        sum(cost_provider("energy", profile=name).price(LINEAR).value for name in ("stm32l4r5", "gap9"))
    )


def test_costs_that_are_compared_stay_compared() -> None:
    provider = weighted(peak_memory=2)
    assert provider.combine == "max"
    assert provider.unit == "B"
    assert provider.price(ADD).value == 2 * 384 * 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, r"parts = {}, expected at least one provider with its weight"),
        ({"macs": -1.0}, r"part 'macs': weight is -1.0, expected a finite number of at least 0"),
        ({"macs": float("nan")}, r"part 'macs': weight is nan"),
        ({"macs": True}, r"part 'macs': weight is True"),
        ({"macs": {"wieght": 1}}, r"part 'macs': weight is None"),
        ({"macs": 0, "params": 0}, r"all weights are 0 \(macs, params\)"),
        ({"macs": 1, "peak_memory": 1}, r"in some parts and are compared in others \(macs: sum, peak_memory: max\)"),
        ({"mac": 1}, r"unknown cost provider 'mac'; did you mean 'macs'\?"),
        ({"energy": 1}, r"cost 'energy': give profile="),
        ({"macs": {"weight": 1, "foo": 2}}, r"cost 'macs': got an unexpected keyword argument 'foo'"),
    ],
)
def test_what_is_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cost_provider("weighted", parts=parts)


def test_a_part_that_breaks_its_word_is_named() -> None:
    provider = weighted(Wrong=1)
    with pytest.raises(InputError, match=r"part 'weighted_toys:Wrong': price is in 'ms', but .* unit is 's'"):
        provider.price(LINEAR)
    with pytest.raises(InputError, match=r"the price's source is 'guessed', expected it to begin with one of counted"):
        provider.price(ADD)


class Eight(Seconds):
    """Knows which widths are best, and the table it comes from."""

    multiple_of: object = 8
    provenance = "table A"


class ByKind(Seconds):
    """Another table, and widths by kind of layer."""

    provenance = "table B"

    def __init__(self) -> None:
        self.multiple_of = {"conv2d": 12, "default": 2}


def test_multiples_are_the_least_common_ones() -> None:
    assert weighted(Seconds=1).multiple_of is None
    assert weighted(Seconds=1, Eight=1).multiple_of == 8
    assert weighted(Seconds=1, Eight=1, ByKind=1).multiple_of == {"conv2d": 24, "default": 8}
    assert weighted(Eight=0, ByKind=1).multiple_of == {"conv2d": 12, "default": 2}, "a part without weight has no say"


def test_the_provenance_is_that_of_the_only_table() -> None:
    assert weighted(Eight=1, Seconds=1).provenance == "table A"
    assert weighted(Eight=1, ByKind=1).provenance is None
    assert weighted(Eight=1, ByKind=0).provenance == "table A"
    assert weighted(Seconds=1).provenance is None
