"""The price of a network is made of its layers' prices; what a provider must not return; what is asked only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from priceable import EveryLayerFollowsAll
from torch import nn

from energysplit.amounts import parse_limit
from energysplit.costs import NetworkPricer, amount, cost_provider, marginal_price, price
from energysplit.errors import InputError, NotMeasured
from energysplit.graph import trace
from energysplit.types import Cost, LayerCase, SplitGroup


@dataclass(frozen=True)
class TwoLayers(EveryLayerFollowsAll):
    """Convolution, depthwise convolution, linear; one splittable group and the classes."""

    width: int = 6

    @property
    def groups(self) -> dict[str, SplitGroup]:
        return {
            "conv": SplitGroup("conv", self.width, ("conv",), ("dw",), ("fc",)),
            "fc": SplitGroup("fc", 5, ("fc",), (), (), False, "the classes"),
        }

    @property
    def widths(self) -> dict[str, int]:
        return {name: group.channels for name, group in self.groups.items()}

    def cases(self, widths: Mapping[str, int] | None = None) -> dict[str, LayerCase]:
        wide = {**self.widths, **(widths or {})}
        conv, classes = wide["conv"], wide["fc"]
        return {
            "conv": LayerCase("conv2d", 3, conv, (3, 3), in_size=(10, 10), out_size=(8, 8), batch_norm=True),
            "dw": LayerCase("conv2d", conv, conv, (3, 3), groups=conv, in_size=(8, 8), out_size=(6, 6), bias=True),
            "fc": LayerCase("linear", conv * 36, classes, bias=True),
        }

    def module(self) -> nn.Module:
        conv = self.width
        return nn.Sequential(
            nn.Conv2d(3, conv, 3, bias=False),
            nn.BatchNorm2d(conv),
            nn.Conv2d(conv, conv, 3, groups=conv),
            nn.Flatten(),
            nn.Linear(conv * 36, 5),
        )


class Answer:
    """A provider that returns what it is told, and counts what it is asked."""

    unit = "J"

    def __init__(self, answer: object = None) -> None:
        self.answer, self.asked = answer, Counter[LayerCase]()

    def price(self, case: LayerCase) -> Cost:
        self.asked[case] += 1
        return (
            self.answer
            if self.answer is not Answer
            else Cost(case.out_channels, "J", 0.0, 99.0, f"measured: {case.op}")
        )


class Largest(Answer):
    """The same, where the largest layer counts."""

    combine = "max"


def test_parameters_are_those_of_the_module() -> None:
    net = TwoLayers()
    assert price(net, "params").value == sum(weight.numel() for weight in net.module().parameters())


def test_macs_are_half_of_torch_s_flops() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    net = TwoLayers()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.module().eval()(torch.zeros(1, 3, 10, 10))
    assert price(net, "macs") == Cost.exact(counter.get_total_flops() / 2, "MAC")


@pytest.mark.parametrize("provider", ["macs", "params"])
def test_marginal_prices_are_whole_network_differences(provider: str) -> None:
    found = marginal_price(TwoLayers(), provider)
    assert found["conv"] == price(TwoLayers(7), provider).value - price(TwoLayers(6), provider).value
    assert set(found) == {"conv", "fc"}


def test_other_widths() -> None:
    assert price(TwoLayers(), "macs", {"conv": 9}) == price(TwoLayers(9), "macs")
    pricer = NetworkPricer(TwoLayers(), "macs")
    assert pricer.marginal({}, "conv", 3) == pricer.value({"conv": 9}) - pricer.value({})
    with pytest.raises(InputError, match=r"no group 'cnv' in this network; did you mean 'conv'\?"):
        price(TwoLayers(), "macs", {"cnv": 9})
    with pytest.raises(InputError, match=r"no group 'cnv'"):
        pricer.marginal({}, "cnv")
    with pytest.raises(InputError, match=r"group 'conv': width 0 given"):
        price(TwoLayers(), "macs", {"conv": 0})
    with pytest.raises(InputError, match=r"group 'conv': width 9\.5 given"):
        price(TwoLayers(), "macs", {"conv": 9.5})  # type: ignore[dict-item]


def test_a_layer_case_is_priced_once() -> None:
    provider = Answer(Answer)
    pricer = NetworkPricer(TwoLayers(), provider)
    for width in (6, 7, 6, 8, 7):
        pricer.price({"conv": width})
        pricer.value({"conv": width})
    assert set(provider.asked.values()) == {1}
    assert len(provider.asked) == 9
    pricer.price({"conv": 6, "fc": 7})
    assert len(provider.asked) == 10, "only the classifier changed"


def test_sums_and_maxima() -> None:
    total = price(TwoLayers(), Answer(Answer))
    assert total == Cost(6 + 6 + 5, "J", 0.0, 3 * 99.0, "measured: conv2d + measured: linear")
    largest = price(TwoLayers(), Largest(Answer))
    assert largest == Cost(6, "J", 0.0, 99.0, "measured: conv2d")
    assert NetworkPricer(TwoLayers(), Largest(Answer)).value({"conv": 9}) == 9


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"price is None, expected a Cost such as"),
        (3.0, r"price is 3\.0, expected a Cost such as"),
        (Cost.exact(1.0, "mJ"), r"price is in 'mJ', but the provider's unit is 'J'"),
        (Cost.exact(float("nan"), "J"), r"value is nan, expected a finite number of at least 0"),
        (Cost.exact(float("inf"), "J"), r"value is inf, expected a finite"),
        (Cost.exact(-1.0, "J"), r"value is -1\.0, expected a finite"),
        (Cost("1", "J", 0.0, 1.0, "measured"), r"value is '1', expected a finite"),  # type: ignore[arg-type]
        (Cost(None, "J", 0.0, 1.0, "measured"), r"value is None, expected a finite"),  # type: ignore[arg-type]
        (Cost(1.0, "J", float("nan"), 1.0, "measured"), r"low is nan, expected a finite"),
        (Cost(3.0, "J", 1.0, 2.0, "measured"), r"the price 3\.0 is outside its own interval, 1\.0 to 2\.0"),
    ],
)
def test_prices_no_provider_may_give(answer: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        price(TwoLayers(), Answer(answer))
    assert "cost provider 'Answer', layer 'conv'" in str(raised.value)
    assert "LayerCase(op='conv2d'" in str(raised.value)


def test_what_a_provider_raises_is_said_with_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Answer, case: LayerCase) -> Cost:
        return {"linear": Cost.exact(1.0, "J")}[case.op]

    monkeypatch.setattr(Answer, "price", failing)
    with pytest.raises(
        InputError, match=r"provider 'Answer', layer 'conv': KeyError: 'conv2d' .*energysplit.NotMeasured"
    ):
        price(TwoLayers(), Answer(Cost.exact(1.0, "J")))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"overhead": Cost.exact(1.0, "s")}, "'Answer': overhead is in 's', but the provider's unit is 'J'"),
        ({"overhead": Cost(1.0, "J", 2.0, 3.0, "measured")}, "overhead 1.0 is outside its own interval, 2.0 to 3.0"),
        ({"overhead": Cost.exact(float("nan"), "J")}, "the overhead's value is nan, expected a finite number"),
        ({"overhead": 1.0}, r"overhead is 1.0, expected a Cost such as Cost.exact\(1.0, 'J'\)"),
        ({"network_error": -0.1}, "'Answer': network_error is -0.1, expected a finite number of at"),
        ({"network_error": float("inf")}, "network_error is inf"),
        ({"network_error": "3 %"}, "network_error is '3 %'"),
        ({"network_error": True}, "network_error is True"),
    ],
)
def test_abilities_no_provider_may_declare(said: dict[str, object], message: str) -> None:
    provider = Answer()
    for key, value in said.items():
        setattr(provider, key, value)
    with pytest.raises(InputError, match=message):
        NetworkPricer(TwoLayers(), provider)


def test_a_batch_norm_by_itself() -> None:
    case = LayerCase("batch_norm", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4), batch_norm=True)
    assert cost_provider("macs").price(case).value == 0
    assert cost_provider("params").price(case).value == sum(weight.numel() for weight in nn.BatchNorm2d(8).parameters())


def test_amounts_in_sentences() -> None:
    assert amount(1_234_567.25, "MAC") == "1,234,567.2 MAC"
    assert amount(2e18, "MAC") == "2e+18 MAC"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (8.91714e-06, "s", "8.91714 µs"),
        (0.0123456789, "J", "12.3457 mJ"),
        (0.99999999e-3, "s", "1 ms"),
        (-2.5e-10, "s", "-0.25 ns"),
        (0.0, "s", "0 s"),
        (3.0, "s", "3 s"),
        (1.2345678, "s", "1.23457 s"),
        (0.25, "MAC", "0.25 MAC"),
        (0.0025, "score", "0.0025 score"),
    ],
)
def test_small_amounts_of_what_is_measured_have_a_prefix(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text
    if value >= 0:
        assert parse_limit(text, unit) == pytest.approx(value, rel=1e-5)


class Short:
    """A table that ends at 10 channels out."""

    unit = "s"

    def price(self, case: LayerCase) -> Cost:
        if case.out_channels > 10:
            raise NotMeasured("short: outside what was measured")
        return Cost.exact(float(case.out_channels), self.unit, "measured")


def test_the_classes_need_no_price_of_one_more() -> None:
    net = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 10)), torch.zeros(1, 3, 2, 2))
    assert marginal_price(net, Short()) == {"0": 1.0}
    wide = trace(nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5)), torch.zeros(1, 3, 2, 2))
    with pytest.raises(NotMeasured, match="outside what was measured"):
        marginal_price(wide, Short())
