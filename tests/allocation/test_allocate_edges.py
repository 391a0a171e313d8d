"""Nothing to buy, unknown indices, weights, alignment, tables with steps, maxima, and solvers that fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import cvxpy
import pytest
import torch

from energysplit.allocation import METHODS, SEEKING, allocate, verify
from energysplit.allocation.problem import build
from energysplit.costs import price
from energysplit.errors import CheckFailed, EnergysplitError, InputError, SolverFailed
from energysplit.types import Budget, Cost, GroupBound, LayerCase

NAN = float("nan")


class Padded:
    """A table with steps: channels are padded to multiples of 8."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(-(-case.out_channels // 8) * 8.0, self.unit, "estimated")


class Widest:
    """A maximum over layers."""

    unit, combine = "byte", "max"

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(case.out_channels, self.unit)


@pytest.mark.parametrize("method", SEEKING)
def test_nothing_worth_splitting(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([3, 2])
    index = indices(net, 0, {"conv0": [0.0, 0.1, NAN], "conv1": [2.0, -0.0], "fc": [-9.0] * 10})
    found = allocate(net, index, [Budget("macs", "9x")], method=method)
    assert (found.split, found.predicted_gain, found.gap, found.shadow_price) == ({}, 0.0, 0.0, {"macs": 0.0})
    assert found.price["macs"] == price(net, "macs")
    assert found.status == (
        "Nothing to split: no neuron of a splittable group has an index below zero. "
        "Left out for an unknown (NaN) index: 1 neuron."
    )
    assert allocate(net, {}, [Budget("macs", "9x")], method=method).split == {}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_fits(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([3, 2])
    found = allocate(net, indices(net, 0), [Budget("macs", "1.0x"), Budget("params", "9x")], method=method)
    assert (found.split, found.predicted_gain) == ({}, 0.0)
    assert found.status.startswith("Nothing fits: splitting one more neuron of any group would exceed a budget ('macs'")


@pytest.mark.parametrize("method", SEEKING)
def test_everything_fits(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([3, 2])
    index = indices(net, 0, {"conv0": [-1.0, 0.1, NAN], "conv1": [2.0, -0.5]})
    found = allocate(net, index, [Budget("macs", "9x")], method=method)
    assert found.split == {"conv0": [0], "conv1": [1]}
    assert found.predicted_gain == 1.5
    assert found.gap == pytest.approx(0, abs=1e-9)
    assert found.shadow_price == {"macs": 0.0}
    assert "2 neurons of 2 groups to be split" in found.status
    assert "every neuron worth splitting is split" in found.status


def test_alignment_fills_up_first(chain: Callable, indices: Callable) -> None:
    net = chain([6, 8, 3])
    index = indices(net, 0, {"conv0": [-1.0] * 6, "conv1": [-1.0] * 8, "conv2": [-1.0, 1.0, 1.0]})
    problem = build(net, index, [Budget("macs", "9x")], multiple_of=4)
    assert problem.ends == {"conv0": (0, 2, 6), "conv1": (0, 4, 8), "conv2": (0, 1)}
    short = allocate(chain([3]), indices(chain([3]), 0, {"conv0": [-1.0] * 3}), [Budget("macs", "9x")], multiple_of=8)
    assert short.status == (
        "Nothing to split: no group has enough neurons with an index below zero to end at a multiple of 8."
    )


@pytest.mark.parametrize("method", METHODS)
def test_room_that_is_rounding_only_is_none(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([3, 4])
    present = price(net, "macs").value
    for limit in (math.nextafter(present, math.inf), present * (1 + 1e-12), present * (1 + 1e-8)):
        found = allocate(net, indices(net, 0), [Budget("macs", limit), Budget("params", "2x")], method=method)
        assert found.status.startswith("Nothing fits")
        assert found.split == {}


def test_many_choices_at_the_very_limit_do_not_take_forever(chain: Callable, indices: Callable) -> None:
    class Constant:
        """Nearly all of it constant: all choices are within rounding of the limit."""

        unit = "J"

        def price(self, case: LayerCase) -> Cost:
            return Cost.exact(1e12 + case.in_channels * case.out_channels, self.unit)

    net = chain([9, 9, 9, 9])
    limit = price(net, Constant()).value + 40
    found = allocate(net, indices(net, 0), [Budget(Constant(), limit)])
    assert found.split
    assert found.price["Constant"].value <= limit


def test_numbers_that_overflow_are_refused(chain: Callable, indices: Callable) -> None:
    net = chain([3, 4])
    index = indices(net, 0, {"conv0": [-1e200, 1.0, -1e200]})
    with pytest.raises(InputError, match="gains of group 'conv0' are not finite; expected smaller indices"):
        allocate(net, index, [Budget("macs", "2x")], weights={"conv0": 1e200})
    with pytest.raises(InputError, match=r"mass = 1e\+300 given, a finite number of at least 1 expected, 1000 at most"):
        allocate(net, index, [Budget("macs", "2x")], mass=1e300)
    with pytest.raises(InputError, match="index of group 'conv0' is list; expected what splitting_index returns"):
        allocate(net, {"conv0": [1.0]}, [Budget("macs", "2x")])
    with pytest.raises(InputError, match="weight of group 'conv0' is 'a'; expected a finite number of at least 0"):
        allocate(net, indices(net, 0), [Budget("macs", "2x")], weights={"conv0": "a"})


def test_what_holds_the_purchase_is_said(chain: Callable, indices: Callable) -> None:
    net, wide = chain([6, 6]), Budget("macs", "9x")
    index = indices(net, 0, {"conv0": [-1.0] * 6, "conv1": [-1.0] * 6})
    sure = {name: replace(one, stderr=torch.tensor([0.1] * 4 + [2.0] * 2)) for name, one in index.items()}
    assert "every neuron worth splitting is split, what is left of the budgets buys nothing more" in (
        allocate(net, index, wide).status
    )
    assert "all that the multiples of widths allow is bought, what is left" in (
        allocate(net, indices(net, 0, {"conv0": [-1.0] * 4 + [1.0] * 2}), wide, multiple_of=8).status
    )
    assert "all that the bounds on groups allow is bought" in (
        allocate(net, index, wide, bounds={"conv0": GroupBound(frozen=True)}).status
    )
    assert allocate(net, sure, wide, risk=1.0).status.endswith("Left out as not surely below zero (risk): 4 neurons.")


def test_alignment_by_group(chain: Callable, indices: Callable) -> None:
    net = chain([6, 8, 3])
    index = indices(net, 0, {"conv0": [-1.0] * 6, "conv1": [-1.0] * 8, "conv2": [-1.0] * 3})
    problem = build(net, index, [Budget("macs", "9x")], multiple_of={"conv0": 4, "conv1": 16})
    assert problem.ends == {"conv0": (0, 2, 6), "conv1": (0, 8), "conv2": (0, 1, 2, 3)}
    assert problem.multiples == {"conv0": 4, "conv1": 16, "conv2": 1}
    found = allocate(net, index, [Budget("macs", "1.0x")], multiple_of={"conv0": 4, "conv1": 16})
    assert found.status.startswith(
        "Nothing fits: splitting one more block up to a multiple of 1 or 4 or 16 of any group"
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_each_group_s_multiple(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([6, 8, 5])
    multiples = {"conv0": 4, "conv1": 2}
    for seed in range(4):
        found = allocate(net, indices(net, seed), [Budget("macs", "1.8x")], method=method, multiple_of=multiples)
        assert found.split
        for name, neurons in found.split.items():
            assert (net.widths[name] + len(neurons)) % multiples.get(name, 1) == 0
        assert found.price["macs"].value <= found.limit["macs"]


def test_weights_scale_a_group_s_gain(chain: Callable, indices: Callable) -> None:
    net = chain([4, 4])
    index = indices(net, 0, {"conv0": [-1.0] * 4, "conv1": [-1.0] * 4})
    wide = Budget("macs", "9x")
    assert allocate(net, index, wide, weights={"conv0": 3.0, "conv1": 0.5}).predicted_gain == 4 * 3.5
    assert allocate(net, index, wide, weights={"conv0": 0.0}).split == {"conv1": [0, 1, 2, 3]}
    room = Budget("params", price(net, "params").value + 700)
    first, second = (allocate(net, index, room, weights={name: 1e3}) for name in ("conv0", "conv1"))
    assert len(first.split.get("conv0", [])) > len(second.split.get("conv0", []))


@pytest.mark.parametrize("method", METHODS)
def test_padding_that_is_paid_is_used(method: str, chain: Callable, indices: Callable) -> None:
    # 4 -> 8 channels costs nothing in this table, 8 -> 9 costs eight: no linear price says either.
    net = chain([4, 8])
    index = indices(net, 0, {"conv0": [-0.1] * 4, "conv1": [-1.0] * 8})
    found = allocate(net, index, Budget(Padded(), "1.0x"), method=method)
    assert found.split == {"conv0": [0, 1, 2, 3]}
    more = allocate(net, index, Budget(Padded(), price(net, Padded()).value + 8), method=method)
    assert {name: len(neurons) for name, neurons in more.split.items()} == {"conv0": 4, "conv1": 8}


@pytest.mark.parametrize("method", SEEKING)
def test_a_maximum_binds_each_layer_by_itself(method: str, chain: Callable, indices: Callable) -> None:
    # Source of the expectation: every layer may have 12 outputs, whatever the others have.
    net = chain([7, 10, 12])
    index = indices(net, 0, {"conv0": [-1.0] * 7, "conv1": [-1.0] * 10, "conv2": [-1.0] * 12})
    found = allocate(net, index, Budget(Widest(), 12), method=method)
    assert {name: len(neurons) for name, neurons in found.split.items()} == {"conv0": 5, "conv1": 2}
    assert found.price["Widest"].value == 12
    assert found.gap == pytest.approx(0, abs=1e-9)


def test_many_neurons_are_priced_at_some_widths_only(chain: Callable, indices: Callable) -> None:
    net = chain([150, 90], True)
    greedy, milp = (
        allocate(net, indices(net, 1), Budget("macs", "2x", "stage"), method=method) for method in ("greedy", "milp")
    )
    assert milp.predicted_gain >= greedy.predicted_gain
    assert milp.price["macs"].value <= milp.limit["macs"]
    assert milp.gap < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "mlip"}, r"allocation method 'mlip': did you mean 'milp'\?"),
        ({"multiple_of": 0}, r"multiple_of is 0; expected a whole number of at least 1"),
        ({"multiple_of": 2.0}, r"multiple_of is 2\.0"),
        ({"multiple_of": {"conv0": 0}}, r"multiple_of of group 'conv0' is 0; expected a whole number of at least 1"),
        ({"multiple_of": {"conv": 2}}, r"multiple_of: no group 'conv' in this network; did you mean 'conv\d'"),
        ({"weights": {"conv9": 1.0}}, r"weights: no group 'conv9' in this network; did you mean 'conv0'\?"),
        ({"weights": {"conv0": NAN}}, r"weight of group 'conv0' is nan"),
        ({"weights": {"conv0": -1.0}}, r"weight of group 'conv0' is -1\.0; expected a finite number of at least 0"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str, chain: Callable, indices: Callable) -> None:
    net = chain([4])
    with pytest.raises(InputError, match=message):
        allocate(net, indices(net, 0), [Budget("macs", "2x")], **arguments)


def test_wrong_indices(chain: Callable, indices: Callable) -> None:
    net, budget = chain([4]), [Budget("macs", "2x")]
    with pytest.raises(InputError, match=r"index of group 'conv0' has 3 values, but the group has 4 neurons"):
        allocate(net, indices(net, 0, {"conv0": [-1.0] * 3}), budget)
    with pytest.raises(InputError, match=r"index: no group 'conv1' in this network; did you mean 'conv0'\?"):
        allocate(net, {"conv1": indices(net, 0)["conv0"]}, budget)
    with pytest.raises(InputError, match=r"index of group 'conv0' holds minus infinity"):
        allocate(net, indices(net, 0, {"conv0": [-1.0, 0.0, 0.0, -float("inf")]}), budget)


@pytest.mark.parametrize("method", ["milp", "lp"])
def test_a_failed_solve_is_an_error(method: str, chain: Callable, indices: Callable) -> None:
    net = chain([5, 4])
    with (
        mock.patch.object(cvxpy.Problem, "status", new_callable=mock.PropertyMock, return_value="user_limit"),
        pytest.raises(
            SolverFailed, match=r"of \d+ choices in 2 groups under 1 prices: HiGHS ended with status 'user_limit'"
        ),
    ):
        allocate(net, indices(net, 0), [Budget("macs", "2x")], method=method)
    with (
        mock.patch.object(cvxpy.Problem, "solve", side_effect=cvxpy.error.SolverError("out of memory")),
        pytest.raises(EnergysplitError, match=r"HiGHS failed \(out of memory\); method='greedy' needs no solver"),
    ):
        allocate(net, indices(net, 0), [Budget("macs", "2x")], method=method)


def test_the_last_check_lets_nothing_over_a_budget_pass(chain: Callable, indices: Callable) -> None:
    net = chain([5, 4])
    problem = build(net, indices(net, 0, {"conv0": [-1.0] * 5}), [Budget("macs", "1.1x")])
    verify.check(problem, problem.nothing)
    with pytest.raises(CheckFailed, match=r"budget 'macs': the allocation costs .* more than its limit of .* MAC"):
        verify.check(problem, {"conv0": 5})
