"""The networks that runs end with, side by side as they are: nothing is taken between stages, so costs differ a little.

Where stages are short, a growth's early networks have had few epochs, so between its last two stages accuracy says more
of epochs than of cost. Where only the networks at the end are wanted, these are what is to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from energysplit.output.comparison import ComparedRun, Comparison, CostName, Method
from energysplit.output.comparison_equal import interval_words, points, significance
from energysplit.output.comparison_statistics import Difference, welch
from energysplit.output.document import Block, Column, Paragraph, Section, Table
from energysplit.output.numbers import percent
from energysplit.output.report_tables import short, span

CLOSE = 0.03
"""Mean costs of last networks that differ by no more than this part count as about equal; budgets leave such gaps."""


@dataclass(frozen=True)
class LastNetworks:
    """Two methods' last networks, the first's before the second's.

    costs: means over seeds, in the costs' units. difference: of test accuracy, first minus second. epochs: of each run,
    a search before its last training included.
    """

    costs: Mapping[CostName, tuple[float, float]]
    difference: Difference
    epochs: tuple[list[int], list[int]]

    def apart(self, name: CostName) -> str:
        """By how much the first is dearer or cheaper, such as "4.6 % dearer"; "" where costs are about equal."""
        first, second = self.costs[name]
        if self.dearer(name):
            return f"{percent(first / second - 1, 1)} dearer" if second else "dearer"
        if self.cheaper(name):
            return f"{percent(1 - first / second, 1)} cheaper"
        return ""

    def dearer(self, name: CostName) -> bool:
        """Whether the first costs more than is about equal."""
        first, second = self.costs[name]
        return first > second * (1 + CLOSE)

    def cheaper(self, name: CostName) -> bool:
        """Whether the first costs less than is about equal."""
        first, second = self.costs[name]
        return second > first * (1 + CLOSE)


def last_networks(first: Method, second: Method, names: Sequence[CostName]) -> LastNetworks | None:
    """What finished runs of two methods end with, where test accuracy is known; None if one has no such run."""
    one, other = _finished(first), _finished(second)
    if not one or not other:
        return None
    return LastNetworks(
        costs={name: (_mean_cost(one, name), _mean_cost(other, name)) for name in names},
        difference=welch([accuracy for _, accuracy in one], [accuracy for _, accuracy in other]),
        epochs=([run.epochs for run, _ in one], [run.epochs for run, _ in other]),
    )


def last_networks_section(comparison: Comparison) -> list[Section]:
    """A row for each pair of methods; no section where no pair has finished runs."""
    names = list(comparison.costs)
    rows: list[tuple[str, ...]] = []
    without: list[str] = []
    for first, second in combinations(comparison.methods, 2):
        pair = last_networks(first, second, names)
        if pair is None:
            without.append(f"{first.label} and {second.label}")
        else:
            rows.append(_row(comparison, first, second, pair))
    if not rows:
        return []
    columns = (
        Column("Methods"),
        Column("Seeds", "counted"),
        *(Column(name.title, "means") for name in names),
        Column("Epochs so far", "counted"),
        Column("Difference of test accuracy", "points"),
        Column("95 % interval", "points"),
        Column("What can be said"),
    )
    texts = [f"No finished run of both with a test accuracy: {'; '.join(without)}."] if without else []
    blocks: list[Block] = [Table(columns, tuple(rows)), *map(Paragraph, [*texts, _SAID])]
    return [Section("The networks at the end", tuple(blocks))]


def _row(comparison: Comparison, first: Method, second: Method, pair: LastNetworks) -> tuple[str, ...]:
    apart = [f"{text} in {name.words}" for name in comparison.costs if (text := pair.apart(name))]
    said = significance(first.label, second.label, pair.difference)
    return (
        f"{first.label} \N{MINUS SIGN} {second.label}",
        _both(*map(str, pair.difference.counts)),
        *(
            _both(*(short(cost, unit, name.provider) for cost in pair.costs[name]))
            for name, unit in comparison.costs.items()
        ),
        _both(*map(span, pair.epochs)),
        points(pair.difference.value),
        interval_words(pair.difference),
        f"{said} {first.label} is {', '.join(apart)}." if apart else said,
    )


def _both(first: str, second: str) -> str:
    return f"{first} and {second}"


def _finished(method: Method) -> list[tuple[ComparedRun, float]]:
    """The finished runs whose last network has a test accuracy, with it."""
    return [(run, test.accuracy) for run in method.runs if run.finished and (test := run.records[-1].test)]


def _mean_cost(runs: Sequence[tuple[ComparedRun, float]], name: CostName) -> float:
    """Mean cost of the last networks; a comparison's costs are known for all of them."""
    return float(np.mean([cost for run, _ in runs if (cost := run.cost(name, run.records[-1].stage)) is not None]))


_SAID = (
    "The network of each finished run's last stage, as it is; of a growth that ended early, the one it ended with. "
    "Accuracies are compared whatever the networks cost, which stands beside them. Epochs are those of the table of "
    "stages: a search counts too, where the last training began from random weights after it."
)
