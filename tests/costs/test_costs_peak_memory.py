"""Bytes alive, and the largest of a network."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from priceable import EveryLayerFollowsAll

from energysplit.costs import NetworkPricer, cost_provider
from energysplit.errors import InputError
from energysplit.types import LayerCase, SplitGroup

FIRST = LayerCase("conv2d", 3, 8, (3, 3), in_size=(8, 8), out_size=(6, 6), live=3 * 64 + 8 * 36)
ADD = LayerCase("add", 8, 8, groups=8, in_size=(6, 6), out_size=(6, 6), live=3 * 8 * 36)
LAST = LayerCase("linear", 8, 10, live=18)


class Net(EveryLayerFollowsAll):
    """A network of three operations, one of them without weights."""

    def __init__(self) -> None:
        self.groups: dict[str, SplitGroup] = {}
        self.widths: dict[str, int] = {}

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        return {"first": FIRST, "last": LAST}

    def operations(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        return {"first": FIRST, "add": ADD, "last": LAST}


def test_a_network_needs_its_largest_moment() -> None:
    price = NetworkPricer(Net(), "peak_memory").price()
    assert (price.value, price.low, price.high) == (864 * 4, 864 * 4, 864 * 4)
    assert price.unit == "B"
    assert price.source == "counted"


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("fp16", 2), ("int16", 2), ("int8", 1)])
def test_bytes_follow_the_precision(precision: str, size: int) -> None:
    assert cost_provider("peak_memory", precision=precision).price(ADD).value == 864 * size


def test_the_profile_says_the_precision_unless_told_otherwise() -> None:
    assert cost_provider("peak_memory").price(ADD).value == 864 * 4
    assert cost_provider("peak_memory", profile="stm32l4r5").price(ADD).value == 864
    assert cost_provider("peak_memory", profile="stm32l4r5", precision="fp16").price(ADD).value == 864 * 2


def test_a_case_on_its_own_needs_its_input_and_output() -> None:
    alone = LayerCase("linear", 64, 10, bias=True)
    assert cost_provider("peak_memory", precision="int8").price(alone).value == 74


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"precision 'float': expected one of fp32, fp16, int16, int8"):
        cost_provider("peak_memory", precision="float")
