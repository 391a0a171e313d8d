"""Numbers as people read them: prices with a prefix, shares in percent, times in the unit that fits.

Everything inside energysplit is in SI units and plain counts; it is converted here, when printing, and only here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from energysplit.amounts import is_counted
from energysplit.kinds import every_kind

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)
_COUNTED = {"mac": "MACs", "macs": "MACs", "param": "parameters", "params": "parameters", "byte": "bytes"}
_TITLES = {
    "macs": "MACs",
    "params": "Parameters",
    "peak_memory": "Peak memory",
    "latency": "Latency",
    "energy": "Energy",
    "roofline": "Roofline",
    "training_compute": "Training compute",
}
_BUDGET = re.compile(r"([^:#]+)(?::([a-z]+))?(?:#([0-9]+))?")


def quantity(value: float, unit: str, decimals: int | None = None) -> str:
    """A price with an SI prefix and its unit, three to four digits or with so many decimals.

    Example:
        >>> quantity(568_740_000, "MAC"), quantity(12, "MAC"), quantity(0.0083, "s"), quantity(0, "param")
        ('568.7 M MACs', '12 MACs', '8.30 ms', '0 parameters')
        >>> quantity(568_740_000, "MAC", decimals=2)
        '568.74 M MACs'
    """
    number, prefix = scaled(value, decimals)
    name = unit_name(unit)
    # A word stands apart from its prefix ("1.2 M MACs"), a symbol does not ("8.3 ms").
    tail = f"{prefix} {name}" if name != unit else f"{prefix}{name}"
    return f"{number} {tail}".replace("  ", " ").strip()


def compact(value: float) -> str:
    """A price with an SI prefix, without its unit, for axes and tables.

    Example:
        >>> compact(568_740_000), compact(40), compact(1234)
        ('568.7 M', '40', '1.23 k')
    """
    return " ".join(scaled(value)).strip()


def scaled(value: float, decimals: int | None = None) -> tuple[str, str]:
    """The digits and the SI prefix of a value; whole numbers below 1,000 without decimals."""
    if not math.isfinite(value):
        return not_finite(value), ""
    if value == 0:
        return "0", ""
    size = abs(value)
    # 999.96 k would be printed as 1000.0 k: take the prefix of what is printed.
    factor, prefix = next(((f, p) for f, p in _PREFIXES if size >= f * 0.99995), _PREFIXES[-1])
    shown = value / factor
    if factor == 1 and shown == int(shown):
        return str(int(shown)), prefix
    if decimals is None:
        decimals = 2 if abs(shown) < 99.995 else 1
    return f"{shown:.{decimals}f}", prefix


def unit_name(unit: str) -> str:
    """A counted unit as a word ("MAC" -> "MACs"); other units as they are."""
    return _COUNTED.get(unit.lower(), unit)


def provider_name(name: str) -> str:
    """A price's or a budget's name as a title; names of a user's own are left alone.

    Example:
        >>> [provider_name(name) for name in ("peak_memory", "macs:stage", "latency#2", "my:Cost")]
        ['Peak memory', 'MACs (stage)', 'Latency #2', 'my:Cost']
    """
    match = _BUDGET.fullmatch(name)
    if match is None or match[1] not in _TITLES:
        return name
    return _TITLES[match[1]] + (f" ({match[2]})" if match[2] else "") + (f" #{match[3]}" if match[3] else "")


def price_words(name: str) -> str:
    """A price's or a budget's name within a sentence.

    Example:
        >>> price_words("peak_memory"), price_words("macs:stage"), price_words("MyCost")
        ('peak memory', 'MACs (stage)', 'MyCost')
    """
    title = provider_name(name)
    return title if title == name or title.startswith("MACs") else title[0].lower() + title[1:]


def percent(share: float, digits: int = 2) -> str:
    """A share of one in percent.

    Example:
        >>> percent(0.6843), percent(float("nan"))
        ('68.43 %', 'not finite')
    """
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else not_finite(share)


def signed(value: float, digits: int = 3) -> str:
    """A change with its sign and this many significant digits.

    Example:
        >>> signed(-0.01234), signed(2.5), signed(0), signed(1234567.0)
        ('−0.0123', '+2.50', '0', '+1.23e+06')
    """
    if not math.isfinite(value):
        return not_finite(value)
    if value == 0:
        return "0"
    return ("+" if value > 0 else "\N{MINUS SIGN}") + plain(abs(value), digits)


def plain(value: float, digits: int = 3) -> str:
    """A number without a unit, with this many significant digits, without an exponent where a few zeros do.

    Example:
        >>> plain(0.000321), plain(12.3456), plain(1e-9)
        ('0.000321', '12.3', '1.00e-09')
    """
    if not math.isfinite(value):
        return not_finite(value)
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e5:
        # Of the rounded value: 0.9999 is printed as 1.00, not as 1.000.
        exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
        return f"{value:.{max(0, digits - 1 - exponent)}f}"
    return f"{value:.{digits - 1}e}"


def times(ratio: float) -> str:
    """A ratio.

    Example:
        >>> times(6.913), times(-0.2)
        ('6.91×', '−0.200×')
    """
    if not math.isfinite(ratio):
        return not_finite(ratio)
    return f"{plain(ratio)}×".replace("-", "\N{MINUS SIGN}", 1) if ratio < 0 else f"{plain(ratio)}×"


def duration(seconds: float) -> str:
    """A time as one reads it.

    Example:
        >>> duration(0.42), duration(75), duration(7384)
        ('0.42 s', '1 min 15 s', '2 h 3 min')
    """
    if not math.isfinite(seconds):
        return not_finite(seconds)
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def increment(limit: float) -> float:
    """A round step of a budget, the power of ten that is 2 to 20 % of its limit: 1 ms of 8 ms, 10 M of 100 M.

    Example:
        >>> increment(0.008), increment(100e6), increment(512e3), increment(0)
        (0.001, 10000000.0, 100000.0, 1.0)
    """
    return 10.0 ** math.floor(math.log10(limit / 5)) if limit > 0 and math.isfinite(limit) else 1.0


def file_name(provider: str) -> str:
    """A price's name as part of a file name and an id ("my_module:Weights" -> "my_module-Weights")."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "-" for letter in provider)


def row_step(shadow_price: float, limit: float, unit: str, remains: float) -> float | None:
    """A round step of a budget for which its shadow price promises no more than there is to gain; None without one.

    Args:
        shadow_price: gain of one more unit, at the relaxation.
        limit: of the budget, in its unit; the step is at most a fifth of it.
        unit: of its prices; what is counted has no steps below one.
        remains: what can be gained at any larger limit.

    Example:
        >>> row_step(12.3, 0.008, "s", 1.5), row_step(12.3, 0.008, "s", 0.002), row_step(12.3, 0.008, "s", 0)
        (0.001, 0.0001, None)
        >>> row_step(1, 5, "of my own", 0.5), row_step(1, 5, "MACs", 0.5)
        (0.1, None)
    """
    if not (shadow_price > 0 and remains > 0):
        return None
    step = min(increment(limit), 10.0 ** math.floor(math.log10(remains / shadow_price)))
    if step * shadow_price > remains:  # the power of ten was rounded up
        step /= 10
    return None if step == 0 or (step < 1 and is_counted(unit)) else step


def would_buy(shadow_price: float, limit: float, unit: str, gain: float) -> str:
    """What a little more of a budget would bring, as a sentence without its full stop.

    Args:
        shadow_price: gain of one more unit, at the relaxation; 0 where the budget does not bind, NaN where no
            relaxation was solved.
        limit: of the budget, in its unit.
        unit: of its prices.
        gain: what is bought inside the limit.

    Example:
        >>> would_buy(12.3, 0.008, "s", 1.5), would_buy(0, 1e8, "MAC", 1.5)
        ('1 ms more would buy 0.0123 (0.82 % more gain)', 'not binding: more of it would buy nothing')
    """
    if math.isnan(shadow_price):
        return "not asked: these neurons were not chosen for their gain"
    if shadow_price == 0:
        return "not binding: more of it would buy nothing"
    step = increment(limit)
    more = f" ({plain(100 * shadow_price * step / gain, 2)} % more gain)" if gain > 0 else ""
    return f"{quantity(step, unit, decimals=0)} more would buy {plain(shadow_price * step)}{more}"


def counted_kinds(found: Iterable[str], mass: float) -> str:
    """How many splits there are of each kind, those of fewer copies first.

    Example:
        >>> counted_kinds(["quadruple", "pair", "pair", "low_triple"], 2.0)
        '2 pair, 1 low_triple, 1 quadruple'
    """
    count = Counter(found)
    return ", ".join(f"{count[name]} {name}" for name in every_kind(mass) if count[name])


def not_finite(value: float) -> str:
    """What is printed for NaN and infinity, so that no table shows them as a number."""
    return "not finite" if math.isnan(value) else ("+∞" if value > 0 else "\N{MINUS SIGN}∞")
