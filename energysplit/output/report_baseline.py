"""What a report says of a run that grew nothing: a baseline, which replaced its network between two trainings."""

from __future__ import annotations

from collections.abc import Sequence

from energysplit.output import report_tables as tables
from energysplit.output.document import Block, Column, Facts, Paragraph, Section, Table
from energysplit.output.numbers import duration, percent, provider_name, quantity, times
from energysplit.records import GrowthRecord

_METHODS = {
    "width_multiplier": "Width multiplier: every stage is a network of its own, all groups of the seed times one "
    "factor, as wide as the reference run's stage of the same number was dear; trained from random weights for as many "
    "epochs as the recipe gives all stages up to it.",
    "from_scratch": "From scratch: every stage is a network of its own with the widths of the reference run's stage of "
    "the same number, trained from random weights for as many epochs as the recipe gives all stages up to it.",
    "prune_l1": "Pruning by weights (Li et al. 2016): a wide network loses the neurons whose weights have the smallest "
    "L1 norm, the same part of each group, and is trained on.",
    "prune_batch_norm": "Pruning by batch norm (Liu et al. 2017): a penalty presses on the scales of the batch norms "
    "while the network is trained; the neurons with the smallest scales go, by one threshold for all groups.",
    "morphnet": "MorphNet (Gordon et al. 2018): a penalty presses on the scales of the batch norms while the network "
    "is trained, on each by the price of its neuron; the neurons with the smallest scales go.",
}


def baseline_summary(records: Sequence[GrowthRecord]) -> str:
    """The run in one sentence, with its numbers."""
    first, last = records[0], records[-1]
    name = next(iter(last.prices))
    start, end = first.prices[name], last.prices[name]
    ratio = f" ({times(end.value / start.value)})" if start.value else ""
    seconds = duration(sum(sum(record.seconds.values()) for record in records))
    test = f" (test {percent(last.test.accuracy)}, {tables.UNUSED})" if last.test else ""
    return (
        f"Baseline {tables.replacements(records)[0][1].kind}, {len(records)} networks from "
        f"{quantity(start.value, start.unit)} to {quantity(end.value, end.unit)}{ratio}: validation accuracy went from "
        f"{percent(first.validation.accuracy)} to {percent(last.validation.accuracy)}{test}, in {seconds}."
    )


def baseline_section(records: Sequence[GrowthRecord]) -> Section:
    """What was done between the trainings, and what prices it was held to."""
    done = tables.replacements(records)
    columns = (
        Column("From stage"),
        Column("Weights"),
        Column("Price of"),
        Column("Price after"),
        Column("Limit"),
        Column("Used"),
    )
    rows = [
        (
            tables.growth_name(stage),
            "random" if each.fresh else "kept",
            provider_name(name),
            quantity(cost.value, cost.unit),
            quantity(each.limit[name], cost.unit),
            percent(cost.value / each.limit[name]) if each.limit[name] else tables.NOTHING,
        )
        for stage, each in done
        for name, cost in each.price.items()
    ]
    text = (
        "The limits are the prices that the stages of the reference run had; prices are those of whole networks, and "
        "none may be above its limit."
    )
    blocks: list[Block] = [Paragraph(_METHODS[kind]) for kind in dict.fromkeys(each.kind for _, each in done)]
    blocks += [
        Table(columns, tuple(rows)),
        Paragraph(text),
        Facts(tuple((tables.growth_name(stage), each.status) for stage, each in done)),
    ]
    return Section("What was done in place of growing", tuple(blocks))


def widths_section(records: Sequence[GrowthRecord]) -> Section:
    """The channels of every stage's network."""
    changed = tables.grown_groups(records)
    if not changed:
        return Section("Channels", (Paragraph("All stages have the same channels."),))
    blocks: list[Block] = [tables.width_table(records)]
    if rest := [f"{group} ({width})" for group, width in records[0].widths.items() if group not in changed]:
        blocks.append(Paragraph(f"The same in all stages: {', '.join(rest)}."))
    return Section("Channels", tuple(blocks))
