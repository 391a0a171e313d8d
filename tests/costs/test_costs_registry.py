"""Providers found by name, by module and as objects; and what is said when they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import energysplit as es
from energysplit.costs import cost_provider, names, provider_name, register_cost
from energysplit.costs.registry import _registered
from energysplit.errors import InputError
from energysplit.types import Cost, LayerCase

CASE = LayerCase("conv2d", 8, 16, (3, 3), out_size=(4, 4), bias=True, batch_norm=True)


@pytest.fixture
def registry() -> Iterator[None]:
    """Takes out again what a test registers."""
    before = dict(_registered)
    yield
    _registered.clear()
    _registered.update(before)


@pytest.mark.usefixtures("registry")
def test_the_design_s_provider_as_a_user_writes_it() -> None:
    @es.register_cost("weights")
    class Weights:
        """Weights stored by a layer, in parameters."""

        unit = "param"

        def price(self, case: es.LayerCase) -> es.Cost:
            kh, kw = case.kernel
            return es.Cost.exact(case.out_channels * (case.in_channels // case.groups) * kh * kw, self.unit, "counted")

    assert "weights" in names()
    assert es.cost_provider("weights").price(CASE).value == 16 * 8 * 9
    assert provider_name(Weights()) == "weights"


def test_built_in_providers() -> None:
    assert {"macs", "params"} <= set(names())
    assert cost_provider("macs").price(CASE) == Cost.exact(16 * 8 * 9 * 16, "MAC")
    assert cost_provider("params").price(CASE) == Cost.exact(16 * 8 * 9 + 16 + 32, "param")


def test_what_is_not_a_convolution_is_priced_as_it_says() -> None:
    attention = LayerCase("other", 0, 0, in_size=(1, 16), out_size=(1, 16), macs=4096, params=1056)
    assert cost_provider("macs").price(attention) == Cost.exact(4096, "MAC")
    assert cost_provider("params").price(attention) == Cost.exact(1056, "param")


def test_shared_weights_work_again_but_are_stored_once() -> None:
    again = replace(CASE, shared=True, params=32)  # its batch norm is its own
    assert cost_provider("macs").price(again) == cost_provider("macs").price(CASE)
    assert cost_provider("params").price(again) == Cost.exact(32, "param")


def test_objects_and_classes_pass_through() -> None:
    ready = cost_provider("macs")
    assert cost_provider(ready) is ready
    assert isinstance(cost_provider(type(ready)), type(ready))
    with pytest.raises(InputError, match=r"ready-made and takes no options, but scale=2 given"):
        cost_provider(ready, scale=2)


def test_a_class_of_the_user_s_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_costs_for_tests.py").write_text(
        "from energysplit.types import Cost\n"
        "class Channels:\n"
        "    unit = 'channel'\n"
        "    def __init__(self, profile=None, scale=1):\n"
        "        self.scale = scale * (profile or 1)\n"
        "    def price(self, case):\n"
        "        return Cost.exact(self.scale * case.out_channels, self.unit)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "my_costs_for_tests:Channels"
    assert cost_provider(name, scale=3).price(CASE).value == 48
    assert cost_provider(name, profile=2).price(CASE).value == 32
    assert provider_name(name) == provider_name(cost_provider(name)) == "Channels"
    with pytest.raises(InputError, match=r"unexpected keyword argument 'scael'; given: scael=3, expected: profile, sc"):
        cost_provider(name, scael=3)
    with pytest.raises(InputError, match=r"has no 'Chanels'; did you mean 'Channels'\?"):
        cost_provider("my_costs_for_tests:Chanels")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mac", r"unknown cost provider 'mac'; did you mean 'macs'\?"),
        ("zzz", r"unknown cost provider 'zzz'; known: .*macs, params"),
        ("no_such_module_here:Cost", r"module 'no_such_module_here' can't be imported .*PYTHONPATH"),
        ("collections:", r"expected 'module:Class'"),
        (":Class", r"expected 'module:Class'"),
        ("math:pi", r"expected a class or an object with price\(case\), got float"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cost_provider(name)


def test_what_a_providers_constructor_raises_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_costs.py").write_text(
        "class Table:\n    unit = 'J'\n    def __init__(self, file):\n        self.text = open(file).read()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"Table': can't be made with file='none.csv': FileNotFoundError: .*none.csv"):
        cost_provider("their_costs:Table", file="none.csv")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("every_operations", True, "has 'every_operations', which nothing reads; did you mean 'every_operation'"),
        ("multiple_of", "8", "multiple_of is '8'; expected a whole number of at least 1"),
        ("multiple_of", {"conv2d": 0}, "multiple_of is {'conv2d': 0}; expected a whole number"),
    ],
)
def test_what_a_provider_says_of_itself_is_checked(name: str, value: object, message: str) -> None:
    provider = type("Theirs", (), {"unit": "J", "price": lambda self, case: Cost.exact(1.0, "J"), name: value})()
    with pytest.raises(InputError, match=message):
        cost_provider(provider)


def test_options_a_built_in_does_not_take() -> None:
    with pytest.raises(InputError, match=r"cost 'macs': .*given: profile='phone', expected: no options"):
        cost_provider("macs", profile="phone")


class _Priced:
    unit = "J"

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(1.0, self.unit)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"unit": None}, r"`unit` is None, expected a word"),
        ({"unit": ""}, r"`unit` is '', expected a word"),
        ({"price": 3}, r"no method price\(case\)"),
        ({"combine": "mean"}, r"combine is 'mean'; expected 'sum' .* or 'max'"),
    ],
)
def test_objects_outside_the_contract(attributes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cost_provider(type("Broken", (_Priced,), attributes)())


@pytest.mark.usefixtures("registry")
def test_registering() -> None:
    register_cost("joules")(_Priced)
    register_cost("joules")(_Priced)  # a notebook cell run twice
    assert cost_provider("joules").unit == "J"
    with pytest.raises(InputError, match=r"cost 'macs' is already registered by energysplit\.costs\.macs\.Macs"):
        register_cost("macs")(_Priced)
    with pytest.raises(InputError, match=r"expected a class with price\(case\)"):
        register_cost("number")(int)
    with pytest.raises(InputError, match="without a colon"):
        register_cost("a:b")
