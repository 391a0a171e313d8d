"""Limits as people write them: "1.5x" of a price, or an amount with its unit, "8 ms", "100 MMAC", "512 KiB", "1e6".

An amount is a number, then nothing, an SI prefix (n, u or µ, m, k or K, M, G, T; Ki, Mi, Gi of bytes), a unit, or a
prefix and a unit, with or without spaces between them. What follows the number is first read as the whole unit of the
prices, then as a prefix and that unit, then as a prefix alone. So "5 param" is no p(ico), "3 us" of prices in "us" is
three of them, and "8m" of prices in seconds is 8 ms. What is counted (MACs, parameters, bytes) has no thousandths:
"100m" is refused there, because 100 M must have been meant. Prefixes and symbols keep their case (M is no m, B no b);
the words MAC(s), param(s), parameter(s) and byte(s) may be in any.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import NamedTuple

from energysplit.errors import BudgetError

LARGEST = 1e15
"""Of the number in a limit; larger ones overflow somewhere deep inside."""

_PREFIXES = {"": 0, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
"""Prefix -> power of ten; micro is written with two different characters."""
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class _Unit(NamedTuple):
    """A unit known by name: its words (lower case), what a message calls it, a limit in it, whether it is counted."""

    words: tuple[str, ...]
    title: str
    example: str
    counted: bool = True


_UNITS = {
    "s": _Unit((), "seconds (s)", "8 ms", counted=False),
    "J": _Unit((), "joules (J)", "3 mJ", counted=False),
    "B": _Unit(("byte", "bytes"), "bytes (B)", "512 kB"),
    "MAC": _Unit(("mac", "macs"), "MACs (MAC)", "100 MMAC"),
    "param": _Unit(("param", "params", "parameter", "parameters"), "parameters (param)", "1 M params"),
}

_NUMBER = r"[+-]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
_AMOUNT = re.compile(rf"\s*({_NUMBER})\s*(.*?)\s*", re.DOTALL)
_NO_NUMBER = re.compile(r"\s*[+-]?\s*(nan|inf|infinity)\b.*", re.IGNORECASE | re.DOTALL)
_SYNTAX = "a number and a unit such as '8 ms' or '100 MMAC', or a factor such as '1.5x'"


def factor(text: object) -> float | None:
    """The factor in "1.5x" (or "1.5×"), None for everything else.

    Example:
        >>> factor("1.5x"), factor(" 2 x"), factor("8 ms"), factor(3.0)
        (1.5, 2.0, None, None)

    Raises:
        BudgetError: the factor is negative or above `LARGEST`.
    """
    match = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in ("x", "×"):
        return None
    return float(_number(match[1], repr(text), f"expected {_SYNTAX}"))


def parse_limit(text: str, unit: str) -> float:
    """The amount a text states, in `unit`, rounded once.

    Args:
        text: a number, with a prefix and a unit if wanted.
        unit: what the provider's prices are in.

    Example:
        >>> parse_limit("8 ms", "s"), parse_limit("100M", "MAC"), parse_limit("512KiB", "B")
        (0.008, 100000000.0, 524288.0)

    Raises:
        BudgetError: the text is no amount, or its unit is not that of the prices; the message says what is expected.
    """
    expected = expected_limit(unit)
    number_text, tail = _parts(text, expected)
    number = _number(number_text, repr(text), expected)
    scale = _scale(tail, unit)
    if scale is None:
        raise BudgetError(_misfit(text, number_text, tail, unit))
    return float(number * scale)


def check_limit(text: str) -> float:
    """The number in a text that is a factor, or an amount in some unit; whether the unit fits, the provider knows.

    Example:
        >>> check_limit("1.5x"), check_limit("8 ms")
        (1.5, 8.0)

    Raises:
        BudgetError: it is neither.
    """
    expected = f"expected {_SYNTAX}"
    if (found := factor(text)) is not None:
        return found
    digits, _ = _parts(text, expected)
    return float(_number(digits, repr(text), expected))


def expected_limit(unit: str) -> str:
    """What a limit on prices in `unit` looks like.

    Example:
        >>> expected_limit("MAC")
        "expected such as '100 MMAC' or '1.5x'"
    """
    name = canonical(unit)
    return f"expected such as {_UNITS[name].example if name in _UNITS else f'100 {unit}'!r} or '1.5x'"


def canonical(unit: str) -> str:
    """The one name of a unit known by several words ("MACs" -> "MAC"); other units as they are."""
    return next((name for name, known in _UNITS.items() if unit.lower() in known.words), unit)


def is_counted(unit: str) -> bool:
    """Whether a unit counts things, so that no amount is between 0 and 1.

    Example:
        >>> [is_counted(unit) for unit in ("MAC", "macs", "B", "s", "of my own")]
        [True, True, True, False, False]
    """
    known = _UNITS.get(canonical(unit))
    return known is not None and known.counted


def _parts(text: str, expected: str) -> tuple[str, str]:
    """The digits and what follows them."""
    if not text.strip():
        raise BudgetError(f"limit {text!r} is empty; {expected}")
    if _NO_NUMBER.fullmatch(text):
        raise BudgetError(f"limit {text!r} is not a finite number of at least 0; {expected}")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise BudgetError(f"limit {text!r} does not begin with a number; {expected}")
    if match[2].startswith(","):
        raise BudgetError(
            f"limit {text!r}: a comma may mean thousands or a fraction; write 1500 or 1.5 instead of 1,500; {expected}"
        )
    return match[1], match[2]


def _number(digits: str, shown: str, expected: str) -> Decimal:
    """The number in the digits, exactly."""
    plain = digits.replace("_", "")
    value = float(plain)
    if value < 0 or not math.isfinite(value):
        raise BudgetError(f"limit {shown} is not a finite number of at least 0; {expected}")
    if value > LARGEST:
        raise BudgetError(f"limit {shown} is above {LARGEST:g}, more than anything here can use; {expected}")
    return Decimal(plain) if value else Decimal(0)


def _scale(tail: str, unit: str) -> Decimal | None:
    """What the number is multiplied by to be in `unit`; None where the tail does not fit it."""
    if tail == "" or _is(tail, unit):
        return Decimal(1)
    name = canonical(unit)
    counted = name in _UNITS and _UNITS[name].counted
    prefixes = {prefix: Decimal(1).scaleb(power) for prefix, power in _PREFIXES.items() if power > 0 or not counted}
    if name == "B":
        prefixes |= {prefix: Decimal(size) for prefix, size in _BINARY.items()}
    for rest_is_unit in (True, False):
        for prefix, scale in prefixes.items():
            rest = tail.removeprefix(prefix).strip()
            if prefix and tail.startswith(prefix) and (_is(rest, unit) if rest_is_unit else rest == ""):
                return scale
    return None


def _is(word: str, unit: str) -> bool:
    """Whether a word names the unit."""
    if word == unit:
        return True
    name = canonical(unit)
    return name in _UNITS and (word == name or word.lower() in _UNITS[name].words)


def _misfit(text: str, number: str, tail: str, unit: str) -> str:
    """Why what follows the number does not fit prices in `unit`."""
    expected = expected_limit(unit)
    if meant := _thousandths(number, tail, unit) or _other_case(number, tail, unit):
        return f"limit {text!r} does not fit prices in {unit}; {meant}"
    if tail[0] in "Bb" and unit != "B" and _scale(tail[1:].strip(), unit) == 1:
        return f"limit {text!r}: a thousand million is 'G', not {tail[0]!r}; {expected}"
    for other, known in _UNITS.items():
        if other != canonical(unit) and _scale(tail, other) is not None and tail not in _PREFIXES:
            return f"limit {text!r} is in {known.title}, but its prices are in {unit}; {expected}"
    return f"limit {text!r}: unit {tail!r} is not known here, its prices are in {unit}; {expected}"


def _thousandths(number: str, tail: str, unit: str) -> str:
    """The limit that was meant where something counted was given a prefix below one; "" elsewhere."""
    small, rest = tail[:1], tail[1:].strip()
    name = canonical(unit)
    if name not in _UNITS or not _UNITS[name].counted or _PREFIXES.get(small, 0) >= 0:
        return ""
    if rest and not _is(rest, unit):
        return ""
    return f"did you mean {f'{number} M{rest}' if rest else f'{number}M'!r}?"


def _other_case(number: str, tail: str, unit: str) -> str:
    """The limit that was meant where only capital and small letters are wrong; "" elsewhere."""
    squeezed = "".join(tail.split())
    close = [
        f"{prefix}{unit}"
        for prefix in (*_PREFIXES, *_BINARY)
        if squeezed.lower() == f"{prefix}{unit}".lower() and _scale(f"{prefix}{unit}", unit) is not None
    ]
    if not close:
        return ""
    meant = max(close, key=lambda word: sum(one == other for one, other in zip(word, squeezed, strict=False)))
    return f"did you mean {f'{number} {meant}'!r}?"
