"""Tables end somewhere: allocation stays inside what was measured, says so, and refuses nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from energysplit.allocation import METHODS, allocate
from energysplit.errors import NotMeasured
from energysplit.types import Budget, Cost, LayerCase, SplitIndex

ENDS = 12


class Short:
    """MACs of layers up to `ENDS` channels out, as a table that was measured so far."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        if case.op == "conv2d" and max(case.out_channels, case.in_channels) > ENDS:
            raise NotMeasured(f"short: {case.out_channels} channels are outside; measure wider networks")
        return Cost.exact(float(case.in_channels * case.out_channels), self.unit, "measured")


def good(widths: list[int]) -> dict[str, SplitIndex]:
    return {
        f"conv{place}": SplitIndex(-torch.arange(1.0, width + 1), {}, None, torch.zeros(width), 1, "made up")
        for place, width in enumerate(widths)
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("multiple_of", [1, 4])
def test_growth_ends_where_the_table_does(method: str, multiple_of: int, chain: Callable) -> None:
    net = chain([8, 3, 10])
    result = allocate(net, good([8, 3, 10]), [Budget(Short(), 1e9)], method=method, multiple_of=multiple_of)
    grown = {name: net.widths[name] + len(result.split.get(name, [])) for name in ("conv0", "conv1", "conv2")}
    assert grown == {"conv0": 12, "conv1": 6 if multiple_of == 1 else 4, "conv2": 12}
    assert "Not wider than measured: 'conv0', 'conv2'" in result.status
    assert "13 channels are outside; measure wider networks" in result.status or multiple_of > 1


def test_a_table_that_ends_at_the_network_buys_nothing_and_says_why(chain: Callable) -> None:
    result = allocate(chain([12]), good([12]), [Budget(Short(), 1e9)])
    assert result.split == {}
    assert result.status.startswith("Nothing to split inside what was measured. Not wider than measured: 'conv0'")


def test_nothing_is_said_where_the_table_reaches(chain: Callable) -> None:
    assert "measured" not in allocate(chain([3, 2]), good([3, 2]), [Budget(Short(), 1e9)]).status


def test_a_network_outside_the_table_is_refused(chain: Callable) -> None:
    with pytest.raises(NotMeasured, match="14 channels are outside"):
        allocate(chain([14]), good([14]), [Budget(Short(), 1e9)])


class Joint:
    """Known only where all channels together are few: as where several groups feed one layer."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        if case.op == "conv2d" and case.in_channels + case.out_channels > 20:
            raise NotMeasured(f"joint: {case.in_channels} to {case.out_channels} channels are outside")
        return Cost.exact(float(case.in_channels * case.out_channels), self.unit, "measured")


@pytest.mark.parametrize("method", METHODS)
def test_groups_that_are_outside_only_together_are_cut_alike(method: str, chain: Callable) -> None:
    result = allocate(chain([8, 8]), good([8, 8]), [Budget(Joint(), 1e9)], method=method)
    assert {name: len(chosen) for name, chosen in result.split.items()} == {"conv0": 2, "conv1": 2}
    assert "Not wider than measured: 'conv0', 'conv1'; joint: " in result.status
