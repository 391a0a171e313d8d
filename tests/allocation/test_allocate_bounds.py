"""How far groups may grow: patterns, frozen groups, and what is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from energysplit.allocation import METHODS, allocate
from energysplit.errors import InputError
from energysplit.types import Budget, GroupBound

WIDE = Budget("macs", "9x")


@pytest.mark.parametrize("method", METHODS)
def test_bounds_are_kept(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([6, 6, 6])
    index = indices(net, 0, {name: [-1.0] * 6 for name in ("conv0", "conv1", "conv2")})
    found = allocate(
        net, index, WIDE, method=method, bounds={"conv*": GroupBound(max_channels=10), "conv1": GroupBound(frozen=True)}
    )
    assert {name: len(neurons) for name, neurons in found.split.items()} == {"conv0": 4, "conv2": 4}
    assert found.status.endswith("Held by bounds: 'conv0', 'conv1', 'conv2'.")


def test_bounds_and_multiples(chain: Callable, indices: Callable) -> None:
    net = chain([6, 6])
    index = indices(net, 0, {"conv0": [-1.0] * 6, "conv1": [-1.0] * 6})
    found = allocate(net, index, WIDE, multiple_of=4, bounds={"conv0": GroupBound(max_channels=11)})
    assert {name: len(neurons) for name, neurons in found.split.items()} == {"conv0": 2, "conv1": 6}


def test_a_group_wider_than_its_bound_stays(chain: Callable, indices: Callable) -> None:
    net = chain([6, 6])
    index = indices(net, 0, {"conv0": [-1.0] * 6, "conv1": [-1.0] * 6})
    found = allocate(net, index, WIDE, bounds={"conv0": GroupBound(max_channels=3)})
    assert list(found.split) == ["conv1"]
    nothing = allocate(net, index, WIDE, bounds={"*": GroupBound(frozen=True)})
    assert nothing.status == ("Nothing to split inside the bounds on groups. Held by bounds: 'conv0', 'conv1'.")
    assert nothing.split == {}


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"konv*": GroupBound(frozen=True)}, r"bounds: no group of this network matches 'konv\*'; did you mean"),
        ({"conv0": 4}, r"bounds: 'conv0' is 4; expected a GroupBound, such as GroupBound\(max_channels=64\)"),
        ({"conv0": GroupBound(0)}, "max_channels of 'conv0' is 0; expected a whole number of at least 1"),
        ({"conv0": GroupBound(2.5)}, r"max_channels of 'conv0' is 2\.5"),
        ({"conv0": GroupBound()}, "bounds: 'conv0' needs one of max_channels and frozen=True"),
        ({"conv0": GroupBound(4, True)}, "bounds: 'conv0' needs one of max_channels and frozen=True"),
    ],
)
def test_bounds_that_can_t_be_read(bounds: dict, message: str, chain: Callable, indices: Callable) -> None:
    net = chain([6, 6])
    with pytest.raises(InputError, match=message):
        allocate(net, indices(net, 0), WIDE, bounds=bounds)


@pytest.mark.parametrize("risk", [-1.0, float("nan"), float("inf"), True, "2"])
def test_risk_out_of_range(risk: object, chain: Callable, indices: Callable) -> None:
    net = chain([6, 6])
    with pytest.raises(InputError, match="expected a finite number of standard errors, at least 0"):
        allocate(net, indices(net, 0), WIDE, risk=risk)
