"""What an experiment claims, answered from the differences at equal cost: held, not held, or not decided.

A claim is judged at the costs that the comparison compares two methods at, above the seed's: growths begin with one
network, at which there is nothing to tell them apart. It held at a cost where the whole interval over seeds is above
what is claimed, and not where the whole interval is below. A claim of last networks is judged from these alone, and
only as far as their costs allow: a dearer network is no better way to spend a budget because it is more accurate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from energysplit.experiment.schema import ClaimTable
from energysplit.output.comparison import Comparison, CostName, Method
from energysplit.output.comparison_equal import differences, points
from energysplit.output.comparison_last import CLOSE, LastNetworks, last_networks
from energysplit.output.comparison_statistics import SAME_COST, Difference
from energysplit.output.document import Column, Paragraph, Section, Table
from energysplit.output.numbers import percent, price_words, quantity

Verdict = Literal["held", "not held", "not decided"]


@dataclass(frozen=True)
class Answer:
    """A claim with what became of it. why: in sentences, with the numbers."""

    claim: ClaimTable
    verdict: Verdict
    why: str

    @property
    def said(self) -> str:
        """The claim in words."""
        return claim_words(self.claim)


def claim_words(claim: ClaimTable) -> str:
    """A claim as a sentence without its full stop.

    Example:
        >>> claim_words(ClaimTable(better="grown", than="wide", by=3.0, at="lowest"))
        'grown is better than wide by at least 3 points at equal MACs, at the lowest cost above the seed'
        >>> claim_words(ClaimTable(better="exact", than="producer", by=-0.5))
        'exact is at most 0.5 points worse than producer at equal MACs, at every compared cost above the seed'
        >>> claim_words(ClaimTable(better="grown", than="wide", at="last networks"))
        'grown is better than wide at about equal MACs, by the networks at the end'
    """
    unit = "point" if abs(claim.by) == 1 else "points"
    if claim.by < 0:
        relation = f"is at most {-claim.by:g} {unit} worse than {claim.than}"
    else:
        relation = f"is better than {claim.than}" + (f" by at least {claim.by:g} {unit}" if claim.by else "")
    where = {
        "every stage": "at every compared cost above the seed",
        "lowest": "at the lowest cost above the seed",
        "last": "at the highest cost",
        "last networks": "by the networks at the end",
    }[claim.at]
    about = "about equal" if claim.at == "last networks" else "equal"
    return f"{claim.better} {relation} at {about} {price_words(claim.provider)}, {where}"


def answer(comparison: Comparison, claim: ClaimTable) -> Answer:
    """What the runs say to a claim."""
    methods = {method.label: method for method in comparison.methods}
    if missing := [name for name in (claim.better, claim.than) if name not in methods]:
        return Answer(claim, "not decided", f"There is no finished run of {' and '.join(missing)}.")
    name = CostName(claim.provider)
    if name not in comparison.costs:
        return Answer(claim, "not decided", f"{name.title} is not reported by all runs.")
    better, than = methods[claim.better], methods[claim.than]
    if claim.at == "last networks":
        return _of_last_networks(comparison, claim, last_networks(better, than, [name]))
    floor = max(_seed_cost(better, name), _seed_cost(than, name)) * (1 + SAME_COST)
    found = [(cost, each) for cost, each in differences(better, than, name) if cost > floor]
    if not found:
        return Answer(claim, "not decided", "There is no cost above the seed's that both reach.")
    judged = {"every stage": found, "lowest": found[:1], "last": found[-1:]}[claim.at]
    verdicts = [_verdict(each, claim.by / 100) for _, each in judged]
    verdict: Verdict = "held"
    if set(verdicts) != {"held"}:
        verdict = "not held" if "not held" in verdicts else "not decided"
    said = [
        f"{quantity(cost, comparison.costs[name])}: {_numbers(each)}, {of_it}"
        for (cost, each), of_it in zip(judged, verdicts, strict=True)
    ]
    return Answer(claim, verdict, "; ".join(said) + ".")


def _of_last_networks(comparison: Comparison, claim: ClaimTable, pair: LastNetworks | None) -> Answer:
    """The answer from two methods' last networks alone."""
    if pair is None:
        return Answer(claim, "not decided", "There is no finished run with a test accuracy of both.")
    name = CostName(claim.provider)
    verdict = _verdict(pair.difference, claim.by / 100)
    costs = " and ".join(quantity(cost, comparison.costs[name]) for cost in pair.costs[name])
    why = f"{costs}: {_numbers(pair.difference)}"
    # More accuracy for more cost says nothing, and nor does less for less.
    if (verdict == "held" and pair.dearer(name)) or (verdict == "not held" and pair.cheaper(name)):
        because = f"the interval alone would say {verdict}, but {claim.better} is {pair.apart(name)}"
        return Answer(claim, "not decided", f"{why}; {because}.")
    return Answer(claim, verdict, f"{why}, {verdict}.")


def claims_section(answers: list[Answer]) -> list[Section]:
    """The claims with their answers; no section where nothing is claimed."""
    if not answers:
        return []
    columns = (Column("Claim"), Column("Answer"), Column("At which cost", "points of test accuracy"))
    rows = tuple((each.said, each.verdict, each.why) for each in answers)
    return [Section("What was claimed", (Table(columns, rows), Paragraph(_SAID)))]


def _seed_cost(method: Method, name: CostName) -> float:
    """Mean cost of a method's stage 0, where that is where it grows from; 0 where it shrinks, or never changes."""
    if method.stages < 2:
        return 0.0
    means = []
    for stage in range(method.stages):
        costs = [cost for run in method.at(stage) if (cost := run.cost(name, stage)) is not None]
        means.append(float(np.mean(costs)) if costs else np.inf)
    return means[0] if means[0] == min(means) and np.isfinite(means[0]) else 0.0


def _verdict(found: Difference, by: float) -> Verdict:
    if found.low is None or found.high is None:
        return "not decided"
    return "held" if found.low > by else "not held" if found.high < by else "not decided"


def _numbers(found: Difference) -> str:
    seeds = f"{found.counts[0]} and {found.counts[1]} seeds"
    if found.low is None or found.high is None:
        why = "all alike" if found.constant else "too few for an interval"
        return f"{points(found.value)} ({seeds}, {why})"
    return f"{points(found.value)} ({points(found.low)} to {points(found.high)}, {seeds})"


_SAID = (
    "Held: the whole 95 % interval over seeds (Welch's) is above what is claimed, at each cost that the claim is "
    "about. Not held: it is below at one of them. Not decided: an interval contains what is claimed, or there is none. "
    "Each cost is judged by itself; of twenty true zeros about one would look like a difference. Where the networks at "
    f"the end are judged, mean costs within {percent(CLOSE, 0)} count as about equal; beyond, no network is better for "
    "being dearer, or worse for being cheaper."
)
