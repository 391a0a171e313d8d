"""What the page of a comparison says: what to doubt, figures, the table of stages, differences at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from energysplit.output.comparison import Comparison, Method
from energysplit.output.comparison_equal import at_equal_cost, listed
from energysplit.output.comparison_last import last_networks_section
from energysplit.output.comparison_plot import compared_figure
from energysplit.output.comparison_statistics import SAME_COST, Mean, ends_of_share, mean_interval
from energysplit.output.document import (
    Block,
    Column,
    Document,
    Facts,
    Gallery,
    KeyNumber,
    Paragraph,
    Picture,
    Section,
    Table,
)
from energysplit.output.numbers import percent
from energysplit.output.report_tables import NOTHING, UNUSED, short, span
from energysplit.recipe.keys import flat


def comparison_document(
    comparison: Comparison, title: str = "Comparison of runs", first: Sequence[Section] = ()
) -> Document:
    """The page of a comparison. first: what stands at its top, below what to doubt."""
    doubts = tuple(Paragraph(text) for text in comparison.warnings)
    return Document(
        title=title,
        summary=summary(comparison),
        key_numbers=_key_numbers(comparison),
        sections=(
            *([Section("To doubt", doubts)] if doubts else []),
            *first,
            *_figures(comparison),
            Section("Stage by stage", (stage_table(comparison), Paragraph(_STAGES))),
            *published_points(comparison),
            *last_networks_section(comparison),
            *(at_equal_cost(comparison, name) for name in comparison.costs),
            _runs(comparison),
            Section("What these numbers are", tuple(Paragraph(text) for text in _NUMBERS)),
        ),
    )


def summary(comparison: Comparison) -> str:
    """What is compared, in one sentence, and how many doubts there are."""
    names = " against ".join(method.label for method in comparison.methods)
    doubts = len(comparison.warnings)
    more = f" {doubts} {'doubt' if doubts == 1 else 'doubts'} below." if doubts else ""
    return f"{names}: accuracy against {listed([name.words for name in comparison.costs])}.{more}"


def _key_numbers(comparison: Comparison) -> tuple[KeyNumber, ...]:
    runs = comparison.runs
    seeds = sorted({len(method.runs) for method in comparison.methods})
    images = sorted({run.records[-1].test.images for run in runs if run.records[-1].test})
    return (
        KeyNumber("Methods", str(len(comparison.methods)), f"seeds of each: {span(seeds)}"),
        KeyNumber("Runs", str(len(runs)), f"finished: {sum(run.finished for run in runs)}"),
        KeyNumber("Epochs in total", span([run.epochs for run in runs]), "of a run, all stages"),
        KeyNumber("Test images", span(images), UNUSED),
    )


def _figures(comparison: Comparison) -> list[Section]:
    pictures = tuple(
        Picture(
            f"accuracy-{name.file}",
            compared_figure(comparison, name),
            f"Test accuracy against {name.words}. A marker is a stage's mean over seeds, its bar the 95 % interval, a "
            "dot one seed, both a little aside; an interval that leaves the figure is whole in the table. A method of "
            "one stage is a point.",
            f"Chart of test accuracy against {name.words}, one line a method; the table below has its numbers.",
        )
        for name in comparison.costs
        if any(method.curves(name) for method in comparison.methods)
    )
    return [Section("Accuracy against cost", (Gallery(pictures),))] if pictures else []


def published_points(comparison: Comparison) -> list[Section]:
    """What others have published, with its sources; no section where nothing is given."""
    if not comparison.published:
        return []
    costs = [name for name in comparison.costs if any(each.curve(name) for each in comparison.published)]
    columns = (Column("Published"), *(Column(name.title) for name in costs), Column("Accuracy"), Column("Source"))
    rows = [
        (
            each.name,
            *(
                short(at[name.provider], comparison.costs[name], name.provider) if name.provider in at else NOTHING
                for name in costs
            ),
            percent(accuracy),
            each.source,
        )
        for each in comparison.published
        for at, accuracy in each.points
    ]
    said = "As published, on others' machines and schedules; drawn as hollow markers, and compared with nothing here."
    return [Section("Published points", (Table(columns, tuple(rows)), Paragraph(said)))]


def stage_table(comparison: Comparison) -> Table:
    """A row for each stage of each method: seeds, mean costs, accuracies with intervals, epochs so far."""
    columns = (
        Column("Method"),
        Column("Stage"),
        Column("Seeds", "counted"),
        *(Column(name.title, "mean") for name in comparison.costs),
        Column("Validation accuracy", "mean"),
        Column("95 % interval"),
        Column("Test accuracy", f"mean, {UNUSED}"),
        Column("95 % interval"),
        Column("Epochs so far", "counted"),
    )
    return Table(
        columns,
        tuple(_stage_row(comparison, method, stage) for method in comparison.methods for stage in range(method.stages)),
    )


def _stage_row(comparison: Comparison, method: Method, stage: int) -> tuple[str, ...]:
    runs = method.at(stage)
    records = [run.records[stage] for run in runs]
    costs = []
    for name, unit in comparison.costs.items():
        values = [value for run in runs if (value := run.cost(name, stage)) is not None]
        costs.append(short(float(np.mean(values)), unit, name.provider) if values else NOTHING)
    tests = [record.test.accuracy for record in records if record.test]
    return (
        method.label,
        str(stage),
        str(len(runs)),
        *costs,
        *_mean_cells(mean_interval([record.validation.accuracy for record in records])),
        *(_mean_cells(mean_interval(tests)) if tests else (NOTHING, NOTHING)),
        span([run.epochs_to(stage) for run in runs]),
    )


def _mean_cells(mean: Mean) -> tuple[str, str]:
    ends = ends_of_share(mean)
    return percent(mean.value), f"{_hundredfold(ends[0])} to {percent(ends[1])}" if ends else NOTHING


def _hundredfold(share: float) -> str:
    return percent(share).removesuffix(" %")


def _runs(comparison: Comparison) -> Section:
    columns = tuple(map(Column, ("Run", "Method", "Seed", "Stages", "Epochs in total", "State")))
    rows = tuple(
        (
            run.folder,
            method.label,
            str(run.seed),
            str(len(run.records)),
            str(run.epochs),
            "finished" if run.finished else "not finished",
        )
        for method in comparison.methods
        for run in method.runs
    )
    differ = _recipes_differ(comparison.methods)
    blocks: list[Block] = [Table(columns, rows)]
    if differ:
        blocks += [Paragraph("Keys of the recipes in which the methods differ:"), Facts(differ)]
    return Section("The runs", tuple(blocks))


def _recipes_differ(methods: Sequence[Method]) -> tuple[tuple[str, str], ...]:
    """Dotted keys that are not the same in all methods, with each one's value."""
    told = {method.label: flat(method.runs[0].recipe) for method in methods}
    keys = dict.fromkeys(key for recipe in told.values() for key in recipe if key not in ("name", "seed"))
    values = {key: {label: _said(recipe.get(key)) for label, recipe in told.items()} for key in keys}
    return tuple(
        (key, "; ".join(f"{label}: {value}" for label, value in given.items()))
        for key, given in values.items()
        if len(set(given.values())) > 1
    )


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


_STAGES = (
    "Costs and accuracies are means over the seeds that have finished the stage; intervals are 95 % intervals of the "
    "mean over seeds (Student's t), where there are at least two, shown between 0 and 100 %. Test accuracy is reported "
    "only: no run, stage or method was chosen by it."
)
_NUMBERS = (
    "Runs whose recipes differ in seed and name only are one method. A measured cost is that of the exported model, so "
    "only last stages have one.",
    "At equal cost, each seed's test accuracy is taken between two of its stages, linear in the logarithm of the cost, "
    "and only inside the range that all seeds of both methods reach; it is never extrapolated. Compared are the ends "
    f"of that range and the stages' mean costs inside it. Costs that differ by at most {percent(SAME_COST, 0)} count "
    "as equal. Of several stages at one cost the last counts, whatever its accuracy.",
    "Differences of means and their 95 % intervals are Welch's, which needs no equal spread, with seeds as samples. "
    "Each row is judged by itself: of twenty rows without any difference, about one would show one. Equal cost is not "
    "equal training: the table of stages has the epochs up to each, of those that are in its network; a "
    "baseline's stage that starts from random weights has nothing of the stages before.",
    "Training compute, where every journal says how many images an epoch has, is counted: three times the MACs of each "
    "stage's network for every image trained on, and four for every image of a sweep for splitting indices and of the "
    "held-out images (six where splits are signed). Evaluation, steps that were tried and a teacher's passes are left "
    "out.",
)
