"""Differences of methods at equal cost: a table of all pairs, and what each row shows, in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from energysplit.output.comparison import Comparison, CostName, Method
from energysplit.output.comparison_statistics import Difference, costs_to_compare, interpolate, welch
from energysplit.output.document import Block, Column, Paragraph, Section, Table
from energysplit.output.numbers import plain
from energysplit.output.report_tables import NOTHING, short

_MINUS = "\N{MINUS SIGN}"


def at_equal_cost(comparison: Comparison, name: CostName) -> Section:
    """Differences of all pairs of methods at the values of a cost that both reach."""
    rows: list[tuple[str, ...]] = []
    without: list[str] = []
    for first, second in combinations(comparison.methods, 2):
        found = differences(first, second, name)
        rows += [_difference_row(comparison.costs[name], name, first, second, at, each) for at, each in found]
        if not found:
            without.append(f"{first.label} and {second.label}")
    texts = [f"No cost that both reach with a test accuracy: {'; '.join(without)}."] if without else []
    if len(comparison.methods) == 1:
        texts.append("One method only: there is nothing to compare it with.")
    columns = (
        Column(name.title),
        Column("Methods"),
        Column("Seeds", "counted"),
        Column("Difference of test accuracy", "points"),
        Column("95 % interval", "points"),
        Column("What can be said"),
    )
    blocks: list[Block] = [Table(columns, tuple(rows))] if rows else []
    return Section(f"At equal {name.words}", (*blocks, *map(Paragraph, texts)))


def differences(first: Method, second: Method, name: CostName) -> list[tuple[float, Difference]]:
    """Cost, and difference of test accuracy there (first minus second), at all costs that both methods reach."""
    one, other = first.curves(name), second.curves(name)
    if not one or not other:
        return []
    return [
        (
            cost,
            welch([interpolate(points, cost) for points in one], [interpolate(points, cost) for points in other]),
        )
        for cost in costs_to_compare(one, other)
    ]


def _difference_row(
    unit: str, name: CostName, first: Method, second: Method, cost: float, found: Difference
) -> tuple[str, ...]:
    return (
        short(cost, unit, name.provider),
        f"{first.label} {_MINUS} {second.label}",
        f"{found.counts[0]} and {found.counts[1]}",
        points(found.value),
        interval_words(found),
        significance(first.label, second.label, found),
    )


def significance(first: str, second: str, found: Difference) -> str:
    """What a difference of two methods shows, in one plain sentence.

    Example:
        >>> significance("grown", "wide", Difference(0.031, 0.02, 0.042, 0.001, (3, 3)))
        'grown is better by 3.10 points; seeds alone would rarely do this (p = 0.0010).'
        >>> significance("grown", "wide", Difference(0.031, None, None, None, (1, 3)))
        'grown has one seed, so nothing can be said about chance.'
    """
    single = [label for label, count in zip((first, second), found.counts, strict=True) if count < 2]
    if single:
        verb = "have one seed each" if len(single) == 2 else "has one seed"
        return f"{listed(single)} {verb}, so nothing can be said about chance."
    if found.constant:
        return "All seeds of a method came out alike, so their spread says nothing about chance."
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    chance = f"p = {plain(found.p, 2)}" if found.p >= 1e-4 else "p < 0.0001"
    if found.low <= 0 <= found.high:
        return f"No difference is shown: the interval holds zero ({chance})."
    better = first if found.value > 0 else second
    return f"{better} is better by {abs(100 * found.value):.2f} points; seeds alone would rarely do this ({chance})."


def interval_words(found: Difference) -> str:
    """The interval of a difference in percentage points; a dash where there is none.

    Example:
        >>> interval_words(Difference(0.031, 0.02, 0.042, 0.001, (3, 3)))
        '+2.00 to +4.20'
    """
    if found.low is None or found.high is None:
        return NOTHING
    return f"{points(found.low)} to {points(found.high)}"


def points(difference: float) -> str:
    """A difference of accuracies in percentage points.

    Example:
        >>> points(0.01234), points(-0.2), points(0.00001)
        ('+1.23', '−20.00', '0.00')
    """
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", _MINUS)


def listed(words: Sequence[str]) -> str:
    """Words as English lists them."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
