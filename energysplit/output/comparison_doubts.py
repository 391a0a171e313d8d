"""What makes runs not comparable, each in one sentence that names the keys that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from energysplit.output.comparison import (
    ComparedRun,
    Comparison,
    CostName,
    Method,
    common_costs,
    methods_of,
    refuse_twice,
)
from energysplit.output.report_tables import origin
from energysplit.recipe.keys import value_at

DATA_KEYS = ("data.name", "data.image_size", "data.validation", "data.limit")


def compared(runs: Sequence[ComparedRun], providers: Sequence[str] = ()) -> Comparison:
    """The comparison of runs, with what to doubt about it.

    Args:
        runs: at least one, each once.
        providers: only costs of these; empty for all that every run reports.

    `refuse_twice` and `common_costs` refuse what can't be compared at all.
    """
    refuse_twice(runs)
    costs, methods = common_costs(runs, providers), methods_of(runs)
    warnings = (
        *_unequal(methods, costs),
        *_changed(runs),
        *_unfinished(runs),
        *_not_in_all(runs, costs, providers),
        *_seeds(methods),
    )
    return Comparison(methods, costs, warnings)


def _unequal(methods: Sequence[Method], costs: Iterable[CostName]) -> list[str]:
    """What must be the same for a fair comparison and is not."""
    values: dict[str, dict[str, list[str]]] = {}
    for method in methods:
        for run in method.runs:
            for key, value in _must_agree(run, costs).items():
                values.setdefault(key, {}).setdefault(_word(value), []).append(method.label)
    found = []
    for key, given in values.items():
        if len(given) > 1:
            who = "; ".join(f"{value} ({', '.join(dict.fromkeys(labels))})" for value, labels in given.items())
            found.append(f"Not comparable: {key} differs: {who}.")
    return found


def _must_agree(run: ComparedRun, costs: Iterable[CostName]) -> dict[str, Any]:
    """What should be the same in all runs, by key."""
    last = run.records[-1]
    found = {key: value_at(run.recipe, key) for key in DATA_KEYS}
    found["validation images"] = last.validation.images
    if last.test is not None:
        found["test images"] = last.test.images
    if run.files:
        found["images (digest of the files' names)"] = run.files[:12]
    found["epochs in total"] = run.epochs
    for name in costs:
        if name.measured:
            found[f"where {name.words} was read"] = _where(run, name)
        else:
            found[f"origin of {name.words}"] = _source(run, name)
    return found


def _where(run: ComparedRun, name: CostName) -> str:
    assert run.measured is not None
    at = run.measured.prices[name.provider]
    return f"{at.machine}, {at.runtime}, {at.execution_provider}, {at.threads} threads, {at.precision}"


def _source(run: ComparedRun, name: CostName) -> str:
    """Counted, or by which device and tables; whether a price was looked up or interpolated makes no difference."""
    prices = [record.prices[name.provider] for record in run.records if name.provider in record.prices]
    if all(origin(price) == "counted" for price in prices):  # training compute has no price, and is counted
        return "counted"
    for further in value_at(run.recipe, "report.price") or ():
        if further.get("name") == name.provider and "profile" in (options := further.get("options") or {}):
            said = (f"{key} = {value}" for key, value in sorted(options.items()))
            return f"{further.get('provider')} ({', '.join(said)})"
    given = [value_at(run.recipe, f"hardware.{key}") for key in ("profile", "tables")]
    return ", ".join(str(part) for part in given if part) or "no hardware named"


def _word(value: Any) -> str:
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _changed(runs: Sequence[ComparedRun]) -> list[str]:
    """Runs that had not one recipe from their beginning to their end."""
    return [
        f"{run.folder} had not one recipe throughout: from stage {change.stage} on {', '.join(change.values)}."
        for run in runs
        for change in run.changes
    ]


def _unfinished(runs: Sequence[ComparedRun]) -> list[str]:
    """Runs that go on, and runs without test accuracy."""
    found = [
        f"{run.folder} is not finished: compared as far as stage {run.records[-1].stage}."
        for run in runs
        if not run.finished
    ]
    untested = [run.folder for run in runs if all(record.test is None for record in run.records)]
    if untested:
        found.append(f"No test accuracy was measured in {', '.join(untested)}: in the tables only, and in no figure.")
    return found


def _not_in_all(runs: Sequence[ComparedRun], costs: Mapping[CostName, str], providers: Sequence[str]) -> list[str]:
    """Costs left out because some runs lack them or have them in another unit."""
    if providers:
        return []
    reported = dict.fromkeys(name for run in runs for name in run.units())
    return [
        f"{name.words[0].upper()}{name.words[1:]} is left out: "
        f"{', '.join(run.folder for run in runs if name not in run.units()) or 'one of the runs'} "
        "does not report it in the unit of the others."
        for name in reported
        if name not in costs
    ]


def _seeds(methods: Sequence[Method]) -> list[str]:
    """Methods in which a seed occurs twice, with different weights."""
    found = []
    for method in methods:
        seeds = [run.seed for run in method.runs]
        if again := sorted({str(seed) for seed in seeds if seeds.count(seed) > 1}):
            found.append(
                f"{method.label}: several runs have seed {', '.join(again)}; each counts as a sample of its own, so "
                "the intervals may be too narrow."
            )
    return found
