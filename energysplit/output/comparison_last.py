"""The networks that runs end with, side by side as they are: nothing is taken between stages, so costs differ a little.

A growth's early networks have had few epochs, so between its last two stages accuracy says more of epochs than of cost.
Where only the networks at the end are wanted, these are what is to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from energysplit.output.comparison import ComparedRun, Comparison, CostName, Method
from energysplit.output.comparison_equal import interval_words, points, significance
from energysplit.output.comparison_statistics import Difference, welch
from energysplit.output.document import Column, Paragraph, Section, Table
from energysplit.output.numbers import percent
from energysplit.output.report_tables import short

CLOSE = 0.05
"""Costs of two networks that differ by no more than this part are near enough to compare what they reach."""


@dataclass(frozen=True)
class LastNetworks:
    """Two methods' last networks, the first's before the second's.

    costs: means over seeds, in the costs' units. difference: of test accuracy, first minus second. epochs: that the
    networks have been trained, means over seeds.
    """

    costs: Mapping[CostName, tuple[float, float]]
    difference: Difference
    epochs: tuple[float, float]

    def dearer(self, name: CostName) -> float:
        """By which part the first network is dearer than the second; below zero where it is cheaper."""
        first, second = self.costs[name]
        return first / second - 1


def last_networks(first: Method, second: Method, names: Sequence[CostName]) -> LastNetworks | None:
    """What finished runs of two methods end with, where test accuracy is known; None if one has no such run."""
    one, other = _finished(first), _finished(second)
    if not one or not other:
        return None
    return LastNetworks(
        costs={name: (_mean_cost(one, name), _mean_cost(other, name)) for name in names},
        difference=welch(_accuracies(one), _accuracies(other)),
        epochs=(float(np.mean([run.epochs for run in one])), float(np.mean([run.epochs for run in other]))),
    )


def last_networks_section(comparison: Comparison) -> list[Section]:
    """A row for each pair of methods; no section where no pair has finished runs."""
    names = list(comparison.costs)
    found = [
        (first, second, pair)
        for first, second in combinations(comparison.methods, 2)
        if (pair := last_networks(first, second, names)) is not None
    ]
    if not found:
        return []
    columns = (
        Column("Methods"),
        Column("Seeds", "counted"),
        *(Column(name.title, "means") for name in names),
        Column("Epochs", "counted"),
        Column("Difference of test accuracy", "points"),
        Column("95 % interval", "points"),
        Column("What can be said"),
    )
    rows = tuple(_row(comparison, first, second, pair) for first, second, pair in found)
    return [Section("The networks at the end", (Table(columns, rows), Paragraph(_SAID)))]


def _row(comparison: Comparison, first: Method, second: Method, pair: LastNetworks) -> tuple[str, ...]:
    return (
        f"{first.label} \N{MINUS SIGN} {second.label}",
        _both(*map(str, pair.difference.counts)),
        *(
            _both(*(short(cost, unit, name.provider) for cost in pair.costs[name]))
            for name, unit in comparison.costs.items()
        ),
        _both(*(f"{epochs:g}" for epochs in pair.epochs)),
        points(pair.difference.value),
        interval_words(pair.difference),
        significance(first.label, second.label, pair.difference),
    )


def _both(first: str, second: str) -> str:
    return f"{first} and {second}"


def _finished(method: Method) -> list[ComparedRun]:
    return [run for run in method.runs if run.finished and run.records[-1].test is not None]


def _accuracies(runs: Sequence[ComparedRun]) -> list[float]:
    return [test.accuracy for run in runs if (test := run.records[-1].test) is not None]


def _mean_cost(runs: Sequence[ComparedRun], name: CostName) -> float:
    """Mean cost of the last networks; a comparison's costs are known for all of them."""
    return float(np.mean([cost for run in runs if (cost := run.cost(name, run.records[-1].stage)) is not None]))


_SAID = (
    "The network of each finished run's last stage, as it is. Accuracies are compared whatever the networks cost and "
    f"however long they were trained: both stand beside them. Costs within {percent(CLOSE, 0)} are near enough to be "
    "called equal where an experiment claims something of these networks."
)
