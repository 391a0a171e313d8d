"""What a hardware profile refuses, in which words; and what it takes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from energysplit.errors import InputError
from energysplit.hardware import from_dict

SOURCE = "measured: by a test"


def number(value: float, unit: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    low, high = value if low is None else low, value if high is None else high
    return {"value": value, "low": low, "high": high, "unit": unit, "source": SOURCE}


def tree(**more: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "description": "a toy",
        "kind": "cpu",
        "compute": {"fp32": {"peak": number(2e9, "MAC/s", 1e9, 3e9), "energy": number(4e-12, "J/MAC")}},
        "memory": [
            {"name": "cache", "capacity": number(1024, "B"), "energy": number(1e-12, "J/B")},
            {"name": "DRAM", "energy": number(100e-12, "J/B")},
        ],
        **more,
    }


def test_a_profile_is_read_whole() -> None:
    profile = from_dict(tree(kernel_overhead=number(1e-6, "s"), cores=2))
    assert profile.compute.fp32 is not None
    assert profile.compute.fp32.peak is not None
    assert (profile.compute.fp32.peak.low, profile.compute.fp32.peak.high) == (1e9, 3e9)
    assert [level.name for level in profile.memory] == ["cache", "DRAM"]
    assert sorted(profile.numbers()) == [
        "compute.fp32.energy",
        "compute.fp32.peak",
        "kernel_overhead",
        "memory.0.capacity",
        "memory.0.energy",
        "memory.1.energy",
    ]
    assert profile.energy_unit == "J"
    assert profile.arithmetic() is profile.compute.fp32
    assert profile.arithmetic("int8").peak is None
    assert profile.execution_provider is None
    assert profile.threads == 1


def test_a_profile_can_t_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        from_dict(tree()).threads = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, r"toy.toml: compute.fp32.peak.source: missing; expected a string"),
        ({"low": None}, r"toy.toml: compute.fp32.peak.low: missing; expected a number >= 0"),
        ({"unit": "GMAC/s"}, r"toy.toml: compute.fp32.peak: unit is 'GMAC/s', expected 'MAC/s'"),
        ({"value": float("nan")}, r"toy.toml: compute.fp32.peak.value: expected a number >= 0 .*, given NaN"),
        ({"high": float("inf")}, r"toy.toml: compute.fp32.peak.high: expected a number >= 0 .*, given Infinity"),
        ({"value": 9e9}, r"toy.toml: compute.fp32.peak: value 9e\+09 is outside its interval, low = 1e\+09"),
        ({"value": -1.0}, r"toy.toml: compute.fp32.peak.value: expected a number >= 0 .*, given -1"),
        ({"low": 0.0}, r"toy.toml: compute.fp32.peak: low is 0, expected a number > 0"),
        ({"value": "2e9"}, r'toy.toml: compute.fp32.peak.value: expected a number >= 0 .*, given "2e9" \(a string\)'),
        ({"value": True}, r"toy.toml: compute.fp32.peak.value: expected a number >= 0 .*, given true"),
        ({"sorce": "x"}, r"toy.toml: compute.fp32.peak.sorce: unknown key; did you mean 'source'\?"),
        ({"source": "somewhere"}, r"source is 'somewhere', expected it to begin with one of counted, measured"),
        ({"source": " "}, r"source is ' ', expected it to begin with"),
    ],
)
def test_a_number_s_error_names_file_and_key(change: dict[str, Any], message: str) -> None:
    given = tree()
    given["compute"]["fp32"]["peak"] |= change
    for key in [key for key, value in change.items() if value is None]:
        del given["compute"]["fp32"]["peak"][key]
    with pytest.raises(InputError, match=message) as caught:
        from_dict(given, "toy.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"execution_providr": "x"}, r"toy.toml: execution_providr: unknown key; did you mean 'execution_provider'\?"),
        ({"compute": {"fp23": {}}}, r"toy.toml: compute.fp23: unknown key; did you mean 'fp32'\?"),
        ({"compute": {"fp32": {"peek": 1}}}, r"toy.toml: compute.fp32.peek: unknown key; did you mean 'peak'\?"),
        ({"memory": [{"nam": "a", "name": "b"}]}, r"toy.toml: memory.0.nam: unknown key; did you mean 'name'\?"),
        ({"kind": "cpuu"}, r"toy.toml: kind: expected 'cpu'.*did you mean 'cpu'\?"),
        ({"precision": "float32"}, r"toy.toml: precision: expected 'fp32', 'fp16', 'int16' or 'int8'"),
        ({"threads": 0}, r"toy.toml: threads: expected a whole number >= 1"),
        ({"name": "a/b"}, r"toy.toml: name: expected a string .*, given \"a/b\""),
        ({"compute": 3}, r"toy.toml: compute: expected a table .*, given 3 \(a whole number\)"),
        (
            {"memory": [{"name": "a"}, {"name": "b"}]},
            r"toy.toml: memory: 'a' has no capacity; only the farthest level may be unbounded",
        ),
        (
            {"memory": [{"name": "a", "capacity": number(2, "B")}, {"name": "b", "capacity": number(1, "B")}]},
            r"toy.toml: memory: 'b' \(1 B\) is not larger than 'a' \(2 B\); expected the nearest, smallest level first",
        ),
        (
            {"memory": [{"name": "a", "capacity": number(2, "B")}, {"name": "a"}]},
            r"toy.toml: memory: two levels are called 'a'",
        ),
        (
            {"memory": [{"name": "DRAM", "energy": number(100, "MAC-energy/B")}]},
            r"toy.toml: energies are in different units: J \(compute.fp32.energy\), MAC-energy \(memory.0.energy\)",
        ),
        (
            {"multiple_of": {"default": number(16, "channel")}},
            r"toy.toml: multiple_of: unknown key",  # measured (alignment.csv), not stated
        ),
    ],
)
def test_a_profile_s_error_names_file_and_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(tree(**change), "toy.toml")


def test_every_wrong_key_gets_a_line() -> None:
    with pytest.raises(InputError, match=r"t: kind: missing(.|\n)*t: threads: expected") as caught:
        from_dict({"name": "a", "description": "b", "threads": "2"}, "t")
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_missing_for_a_purpose_is_named() -> None:
    profile = from_dict(tree())
    profile.require("energy", {"compute.fp32.energy": profile.arithmetic().energy})
    with pytest.raises(InputError, match=r"'toy' can't give a roofline: missing a.b, c.d; add each as a table"):
        profile.require("a roofline", {"a.b": None, "x.y": profile.arithmetic().peak, "c.d": None})
