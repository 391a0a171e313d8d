"""What a report says, from the recipe and the journal; nothing is computed that the journal does not hold.

Written for someone who has not seen the recipe: first what came out, then how, then what each number is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from energysplit.output import plots
from energysplit.output import report_tables as tables
from energysplit.output.document import (
    Block,
    Document,
    Facts,
    Gallery,
    KeyNumber,
    Paragraph,
    Picture,
    Section,
)
from energysplit.output.measured import MeasuredRun
from energysplit.output.numbers import duration, file_name, percent, plain, price_words, provider_name, quantity, times
from energysplit.output.parity import OnnxParity
from energysplit.output.report_baseline import baseline_section, baseline_summary, widths_section
from energysplit.output.report_indices import every, indices_section
from energysplit.output.report_measured import measured_section
from energysplit.output.report_recipe import recipe_section
from energysplit.recipe.changed import RecipeChange
from energysplit.records import GrowthRecord

_FRESH = (
    "started from random weights, at the widths that growth had found by then (growth.last_weights): what came before "
    "was a search for them."
)
_KEPT = (
    "Fresh neurons begin with outgoing weights of zero, so a growth leaves the function, and the loss, as they were: "
    "nothing is predicted of it, and what is realised is rounding. What a growth is worth shows in the accuracy after "
    "the next training."
)


def report_document(
    recipe: Mapping[str, Any],
    records: Sequence[GrowthRecord],
    parity: OnnxParity | None,
    environment: Mapping[str, str],
    environment_title: str,
    measured: MeasuredRun | str | None = None,
    changes: Sequence[RecipeChange] = (),
) -> Document:
    """The report of a run.

    Args:
        recipe: resolved recipe.
        records: journal, at least one line, stages in order.
        parity: of the exported model, if one was exported.
        environment: name -> version or machine.
        environment_title: what `environment` describes.
        measured: prices of the exported model as measured; a sentence why they can't be read; None if there are none.
        changes: of the recipe, while the run went on.
    """
    # A size that changed is not that of all growths; the sizes taken are in the journal.
    return Document(
        title=f"{recipe.get('name', 'energysplit run')}",
        summary=summary(records),
        key_numbers=_key_numbers(records),
        sections=(
            _overview(records),
            _stages(records),
            *(_baseline(records) if tables.replacements(records) else _growth(records)),
            _times(records),
            _export(parity),
            *([measured_section(measured)] if measured is not None else []),
            recipe_section(recipe, records, environment, environment_title, changes),
            _numbers(records),
        ),
    )


def _growth(records: Sequence[GrowthRecord]) -> tuple[Section, ...]:
    """What is said of growths."""
    return (_prediction(records), _widths(records), _budgets(records), indices_section(records))


def _baseline(records: Sequence[GrowthRecord]) -> tuple[Section, ...]:
    """What is said in their place of a baseline."""
    return (baseline_section(records), widths_section(records))


def summary(records: Sequence[GrowthRecord]) -> str:
    """The run in one sentence, with its numbers."""
    if tables.replacements(records):
        return baseline_summary(records)
    first, last = records[0], records[-1]
    name = next(iter(last.prices))
    start, end = first.prices[name], last.prices[name]
    seconds = duration(sum(sum(record.seconds.values()) for record in records))
    test = f" (test {percent(last.test.accuracy)}, {tables.UNUSED})" if last.test else ""
    if len(records) == 1:
        return (
            f"Trained without growth at {quantity(end.value, end.unit)}: validation accuracy "
            f"{percent(last.validation.accuracy)}{test}, in {seconds}."
        )
    ratio = f" ({times(end.value / start.value)})" if start.value else ""
    count = len(tables.growths(records))
    return (
        f"Grown {count} {'time' if count == 1 else 'times'} from {quantity(start.value, start.unit)} to "
        f"{quantity(end.value, end.unit)}{ratio}: validation accuracy went from "
        f"{percent(first.validation.accuracy)} to {percent(last.validation.accuracy)}{test}, in {seconds}."
    )


def _key_numbers(records: Sequence[GrowthRecord]) -> tuple[KeyNumber, ...]:
    first, last = records[0], records[-1]
    began = "stage 0" if tables.begins_wide(records) else "seed"
    numbers = [
        KeyNumber(
            "Validation accuracy", percent(last.validation.accuracy), f"{began}: {percent(first.validation.accuracy)}"
        )
    ]
    if last.test:
        numbers.append(KeyNumber("Test accuracy", percent(last.test.accuracy), tables.UNUSED))
    for name, cost in list(last.prices.items())[:2]:
        start = first.prices[name].value
        ratio = f", {times(cost.value / start)}" if start else ""
        now, then = (tables.short(value, cost.unit, name) for value in (cost.value, start))
        numbers.append(KeyNumber(provider_name(name), now, f"{began}: {then}{ratio}"))
    return tuple(numbers)


def _overview(records: Sequence[GrowthRecord]) -> Section:
    names = {name: price_words(name) for name in records[0].prices}
    wide = tables.begins_wide(records)
    began = "the wide network that pruning begins with" if wide else "the seed"
    darker = "more are left" if wide else "more it grew"
    pictures = [
        Picture(
            f"accuracy-{file_name(name)}",
            plots.accuracy_against(records, name),
            f"Accuracy against {words}. The number at a point is its stage; stage 0 is {began}.",
            f"Line chart of accuracy against {words}, one point a stage; the table below has its numbers.",
        )
        for name, words in names.items()
    ]
    # Second, so that it stands beside the first two charts.
    pictures.insert(
        1,
        Picture(
            "widths",
            plots.widths(records),
            f"Channels of every layer at every stage, darker the {darker}; the last layer's are the outputs.",
            "Table of the channels of every layer at every stage.",
            tall=True,
        ),
    )
    blocks: list[Block] = [Gallery(tuple(pictures))]
    if (shown := len(plots.drawn(records))) < len(records):
        blocks.append(
            Paragraph(f"The figures show {shown} of the {len(records)} stages, spread evenly; the tables have all.")
        )
    return Section("What came out", tuple(blocks))


def _stages(records: Sequence[GrowthRecord]) -> Section:
    last = records[-1]
    images = f"Validation accuracy is top-1 over {last.validation.images} images that are not trained on"
    images += (
        f"; test accuracy over {last.test.images} others, which took part in no decision of this run."
        if last.test
        else "; no test accuracy was measured."
    )
    blocks: list[Block] = [tables.stage_table(records), Paragraph(images)]
    blocks += [
        Paragraph(f"Stage {record.stage} ended the growth: {record.stopped}") for record in records if record.stopped
    ]
    blocks += [Paragraph(f"Stage {record.stage + 1} {_FRESH}") for record in records if record.then_fresh]
    blocks += [Paragraph(f"Stage {record.stage}: {note}.") for record in records for note in record.notes]
    return Section("Stage by stage", tuple(blocks))


def _prediction(records: Sequence[GrowthRecord]) -> Section:
    grown = tables.growths(records)
    if not grown:
        return Section(
            "Predicted and realised loss change", (Paragraph("Nothing was split, so nothing was predicted."),)
        )
    worst = max((growth.step for _, growth in grown), key=lambda step: step.function_error)
    check = (
        "Each growth was first made with step 0, where it must not change the function: the largest relative change of "
        f"an output was {worst.function_error:.1e}, {worst.function_tolerance:g} allowed."
    )
    if tables.is_fresh(records):
        return Section("Predicted and realised loss change", (Paragraph(_KEPT), Paragraph(check)))
    picture = Picture(
        "predicted-realised",
        plots.predicted_against_realised(records),
        "Change of the loss on held-out images by each growth, before any further training; below zero is better. "
        "The line on a predicted bar is one standard error.",
        "Bar chart of predicted and realised loss change of each growth; the table above has its numbers.",
    )
    predicted, orders = "the held-out splitting indices of the neurons that were split", "fourth order"
    if tables.is_signed(records):
        predicted = (
            "the sum, over the neurons that were split, of both held-out ends of their spectrum, the smallest and the "
            "largest eigenvalue, each times the factor that the kind of split has for it"
        )
        orders = "third order (of a signed_pair) and of fourth order"
    text = (
        f"The prediction is of second order: half the squared step times {predicted}. {_small_steps(records)} The "
        f"steps taken are finite ({_step(records)}), so terms of {orders} count too, in which split neurons "
        "act on each other; and where an activation has a kink, it is crossed, while the index smooths it. A "
        "realised change of another size, or even another sign, is therefore no fault. The last column of the "
        "table above compares both at steps of at most 1 % of the weights' norm, where second order is meant to "
        "hold. The standard error says how much the prediction would vary with other images; it does not cover "
        "these terms. What a growth is worth shows in the accuracy after the next training."
    )
    return Section("Predicted and realised loss change", (Gallery((picture,)), Paragraph(text), Paragraph(check)))


def _widths(records: Sequence[GrowthRecord]) -> Section:
    grown = tables.grown_groups(records)
    if not grown:
        return Section("What grew", (Paragraph("Nothing was split, so no group grew."),))
    blocks: list[Block] = [tables.width_table(records)]
    if tables.is_signed(records):
        blocks.append(
            Paragraph(
                "Copies that a kind of split makes of a neuron, and the end of its spectrum that they move along: "
                f"{tables.copies_of_kinds(records)}."
            )
        )
    if rest := [f"{group} ({width})" for group, width in records[0].widths.items() if group not in grown]:
        blocks.append(Paragraph(f"Did not grow (channels): {', '.join(rest)}."))
    return Section("What grew", tuple(blocks))


def _gain(records: Sequence[GrowthRecord]) -> str:
    """What gain is, in this run."""
    if tables.is_fresh(records):
        return (
            "Gain is the sum of the bought values, its sign turned: by how much, to first order, the loss would fall "
            "if the fresh neurons' outgoing weights became as long as those of their groups, along their gradient."
        )
    bought = "the bought indices"
    if tables.is_signed(records):
        bought = "what the bought splits count of both ends of their neurons' spectra"
    relative = any(growth.step.rule != "fixed" for _, growth in tables.growths(records))
    follow = ", times the squared norms of the groups' weights, which steps follow" if relative else ""
    drawn = any(growth.index.shrinkage != "none" for _, growth in tables.growths(records))
    shrunk = (
        " Indices count here as neurons were chosen by them, drawn towards their groups' means, which makes less of "
        "them than the predicted loss changes above do."
        if drawn
        else ""
    )
    return (
        f"Gain is the sum of {bought}, its sign turned{follow}; a step e is predicted to change the loss by -e²/2 "
        f"times it.{shrunk}"
    )


def _relaxation(records: Sequence[GrowthRecord]) -> str:
    """What gaps and shadow prices are, or why there are none."""
    if any(math.isnan(growth.allocation.gap) for _, growth in tables.growths(records)):
        return (
            "Neurons were not chosen for the largest gain here, so there is no bound to compare it with and no shadow "
            "price; it may even be below zero."
        )
    return (
        "The gap compares the predicted gain with the bound of the linear relaxation, in which neurons can be split in "
        "part; where only whole neurons can be bought, it need not close. What a little more of a budget would buy is "
        "that relaxation's shadow price: right for a small step, in parts of neurons."
    )


def _budgets(records: Sequence[GrowthRecord]) -> Section:
    if not tables.growths(records):
        return Section("Budgets", (Paragraph("Nothing was split, so nothing was bought."),))
    text = (
        "Prices are those of the whole grown network, priced anew after the neurons were chosen; none may be above "
        f"its limit. {_gain(records)} {_relaxation(records)}"
    )
    facts: list[tuple[str, str]] = []
    for stage, growth in tables.growths(records):
        facts.append((tables.growth_name(stage), growth.allocation.status))
        if made := tables.kinds_of_split(growth):
            facts.append((f"{tables.growth_name(stage)}, kinds", made))
        facts += tables.more_of_each(stage, growth)
    return Section("Budgets", (tables.budget_table(records), Paragraph(text), Facts(tuple(facts))))


def _times(records: Sequence[GrowthRecord]) -> Section:
    picture = Picture(
        "seconds",
        plots.seconds(records),
        "Wall time of each stage, divided into its parts.",
        "Bar chart of the wall time of each stage; the table below has its numbers.",
    )
    return Section("Where the time went", (Gallery((picture,)), tables.time_table(records)))


def _export(parity: OnnxParity | None) -> Section:
    if parity is None:
        return Section("Exported model", (Paragraph("No ONNX model was exported."),))
    facts = (
        ("File", parity.path.name),
        ("Largest difference from torch", f"{parity.absolute:.1e} (measured on {parity.images} random images)"),
        ("Relative to the largest output", f"{parity.relative:.1e}, {parity.tolerance:g} allowed"),
        ("Compared in", f"{parity.runtime}, on the CPU in float32, opset {parity.opset}, against torch {parity.torch}"),
    )
    return Section("Exported model", (Facts(facts),))


def _numbers(records: Sequence[GrowthRecord]) -> Section:
    sources = "; ".join(
        f"{provider_name(name)}: {', '.join(dict.fromkeys(record.prices[name].source for record in records))}"
        for name in records[0].prices
    )
    estimated = (
        ("Estimated", "splitting indices and the predicted change, from a sample of images; ± is one standard error."),
    )
    facts = (
        ("Counted", "channels, neurons, images; exact."),
        ("Prices", f"{sources}."),
        ("Measured", "accuracy, loss, realised change, wall time, differences of the exported model."),
        *(() if tables.replacements(records) else estimated),
        ("–", "not measured, or it does not apply to this stage."),
    )
    return Section("What kind of number is it", (Facts(facts),))


def _step(records: Sequence[GrowthRecord]) -> str:
    policy = every(growth.step.policy for _, growth in tables.growths(records))
    sizes = [size for _, growth in tables.growths(records) for size in growth.step.size.values()]
    found = f"{_range(sizes)} in weight units" if sizes else "no group moved"
    return f"policy {policy}; {found}"


def _small_steps(records: Sequence[GrowthRecord]) -> str:
    """What the prediction is worth as the step goes to zero, for the curvature that was used."""
    indices = [growth.index for _, growth in tables.growths(records)]
    if any(index.curvature == "producer" for index in indices):
        return "With curvature 'producer' it leaves the followers out, so it can be off however small the step is."
    if any(index.linear == "unit" for index in indices):
        return "With linear = 'unit' groups without a nonlinearity count by a surrogate, so it is off by their share."
    return "For smooth activations it becomes exact as the step goes to zero."


def _range(values: Sequence[float]) -> str:
    low, high = plain(min(values)), plain(max(values))
    return low if low == high else f"{low} to {high}"
