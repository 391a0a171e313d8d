"""The tables of a report: one row a stage or a growth, every column saying where its numbers come from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from energysplit.kinds import FRESH, kinds
from energysplit.output.document import Column, Table
from energysplit.output.numbers import (
    compact,
    counted_kinds,
    duration,
    percent,
    plain,
    provider_name,
    quantity,
    signed,
    times,
    unit_name,
    would_buy,
)
from energysplit.records import CostRecord, GrowthRecord, ReplacementRecord, SplitRecord
from energysplit.types import BLIND, SIZES_RANDOM

NOTHING = "–"
UNUSED = "not used to choose anything"


def stage_table(records: Sequence[GrowthRecord]) -> Table:
    """What each stage was, how well it did, and the growth out of it; of a baseline its epochs in place of that."""
    providers, baseline = list(records[0].prices), bool(replacements(records))
    of_growth: tuple[Column, ...] = (
        Column("Neurons split", "counted"),
        Column("Predicted loss change", "estimated"),
        Column("Realised loss change", "measured"),
        Column("Realised / predicted"),
        Column("The same at a small step"),
    )
    if is_fresh(records):  # of whose loss nothing is predicted
        of_growth = (Column("Fresh neurons", "counted"),)
    columns = [
        Column("Stage"),
        *(Column(provider_name(name), _origin(records, name)) for name in providers),
        Column("Channels", "counted"),
        Column("Validation accuracy", "measured"),
        Column("Test accuracy", f"measured, {UNUSED}"),
        *((Column("Epochs", "counted"),) if baseline else of_growth),
    ]
    rows = []
    for record in records:
        growth = record.growth
        growth_cells = _growth_cells(growth)[: len(of_growth)] if growth else [NOTHING] * len(of_growth)
        rows.append(
            (
                str(record.stage),
                *(price(record.prices[name], name) for name in providers),
                str(sum(record.widths.values())),
                percent(record.validation.accuracy),
                percent(record.test.accuracy) if record.test else NOTHING,
                *([str(record.train.epochs)] if baseline else growth_cells),
            )
        )
    return Table(tuple(columns), tuple(rows))


def _growth_cells(growth: SplitRecord) -> list[str]:
    step = growth.step
    return [
        str(neurons_split(growth)),
        f"{signed(step.predicted_change)} ± {plain(step.predicted_stderr, 2)}",
        signed(step.realised_change),
        _ratio(step.realised_change, step.predicted_change),
        _ratio(step.small_realised_change, step.small_predicted_change),
    ]


def _ratio(realised: float, predicted: float) -> str:
    return times(realised / predicted) if predicted else NOTHING


def index_table(records: Sequence[GrowthRecord]) -> Table:
    """How the splitting indices of each growth were found, and how optimistic the images they were found on are."""
    end = " of lower ends" if is_signed(records) else ""
    columns = (
        Column("Growth"),
        Column("Solver"),
        Column("Sweeps", "counted"),
        Column("Images", "counted"),
        Column("Held-out images", "counted"),
        Column(f"Sum{end}, same images", "measured"),
        Column(f"Sum{end}, held-out images", "estimated"),
        Column("Lower ends below zero" if end else "Indices below zero", "counted"),
    )
    rows = [
        (
            growth_name(stage),
            growth.index.solver,
            f"{growth.index.sweeps:.3g}" if math.isfinite(growth.index.sweeps) else NOTHING,
            str(growth.index.images),
            str(growth.index.held_out_images),
            signed(growth.index.sum_same_images) if math.isfinite(growth.index.sum_same_images) else NOTHING,
            _with_error(growth.index.sum_held_out, growth.index.stderr),
            f"{growth.index.negative} of {growth.index.neurons}",
        )
        for stage, growth in growths(records)
    ]
    return Table(columns, tuple(rows))


def width_table(records: Sequence[GrowthRecord]) -> Table:
    """Channels of the groups that changed, stage by stage; of signed splits how many there were of each kind too."""
    made = _kinds_by_group(records)
    first = "Stage 0" if begins_wide(records) else "Seed"
    columns = [Column("Group"), *(Column(f"Stage {r.stage}" if n else first) for n, r in enumerate(records))]
    if made:
        columns.append(Column("Splits by kind", "all growths"))
    rows = []
    for group in grown_groups(records):
        row = [group, *(str(record.widths[group]) for record in records)]
        rows.append((*row, made.get(group, NOTHING)) if made else tuple(row))
    return Table(tuple(columns), tuple(rows))


def grown_groups(records: Sequence[GrowthRecord]) -> list[str]:
    """The groups that end wider than they began, or narrower where neurons were removed."""
    return [group for group, width in records[0].widths.items() if records[-1].widths[group] != width]


def _kinds_by_group(records: Sequence[GrowthRecord]) -> dict[str, str]:
    """Group -> how many splits of each kind it made in all growths; empty where none was signed."""
    found: dict[str, Counter[str]] = {}
    mass = 1.0
    for _, growth in growths(records):
        mass = max(mass, growth.allocation.mass)
        for group, by_neuron in growth.allocation.kinds.items() if growth.allocation.mass > 1 else ():
            found.setdefault(group, Counter()).update(by_neuron.values())
    return {group: counted_kinds(count.elements(), mass) for group, count in found.items()}


def is_signed(records: Sequence[GrowthRecord]) -> bool:
    """Whether copies could have negative shares in a growth of this run."""
    return any(growth.allocation.mass > 1 for _, growth in growths(records))


def _with_error(value: float, stderr: float) -> str:
    return f"{signed(value)} ± {plain(stderr, 2)}" if math.isfinite(stderr) else signed(value)


def is_fresh(records: Sequence[GrowthRecord]) -> bool:
    """Whether fresh neurons were added in a growth of this run, in place of splits."""
    return any(growth.index.solver == FRESH for _, growth in growths(records))


def copies_of_kinds(records: Sequence[GrowthRecord]) -> str:
    """How many copies each kind of split makes of a neuron, and along which ends of its spectrum they move.

    Example:
        >>> copies_of_kinds([])
        'pair 2 (lower end)'
    """
    mass = max((growth.allocation.mass for _, growth in growths(records)), default=1.0)
    ends = {(True, False): "lower end", (False, True): "upper end", (True, True): "both ends"}
    return ", ".join(
        f"{kind.name} {len(kind.copies)} ({ends[kind.low > 0, kind.high < 0]})" for kind in kinds(mass).values()
    )


def budget_table(records: Sequence[GrowthRecord]) -> Table:
    """What each growth bought under each budget; a price is that of the whole grown network, priced anew."""
    columns = (
        Column("Growth"),
        Column("Budget"),
        Column("Price after"),
        Column("Limit"),
        Column("Used"),
        Column("Left"),
        Column("Gap to the bound"),
        Column("Method"),
    )
    rows = []
    for stage, growth in growths(records):
        bought = growth.allocation
        for name, cost in bought.price.items():
            limit = bought.limit[name]
            rows.append(
                (
                    growth_name(stage),
                    provider_name(name),
                    quantity(cost.value, cost.unit),
                    quantity(limit, cost.unit),
                    percent(cost.value / limit) if limit else NOTHING,
                    quantity(limit - cost.value, cost.unit),
                    NOTHING if math.isnan(bought.gap) else percent(bought.gap),
                    bought.method,
                )
            )
    return Table(columns, tuple(rows))


def more_of_each(stage: int, growth: SplitRecord) -> list[tuple[str, str]]:
    """What a little more of each budget of a growth would buy, by growth and budget."""
    bought = growth.allocation
    return [
        (
            f"{growth_name(stage)}, {provider_name(name)}",
            would_buy(bought.shadow_price.get(name, 0.0), bought.limit[name], cost.unit, bought.predicted_gain),
        )
        for name, cost in bought.price.items()
        if not math.isnan(bought.shadow_price.get(name, 0.0))
    ]


def by_chance(growth: SplitRecord) -> bool:
    """Whether its neurons were chosen at random, within each group at least."""
    return growth.allocation.method in (*BLIND, SIZES_RANDOM)


def kinds_of_split(growth: SplitRecord) -> str:
    """How many splits of each kind a growth made, and of what mass; "" where all are alike."""
    bought = growth.allocation
    if bought.mass == 1:
        return ""
    made = counted_kinds([kind for by_neuron in bought.kinds.values() for kind in by_neuron.values()], bought.mass)
    return f"{made}; mass {bought.mass:g}"


def time_table(records: Sequence[GrowthRecord]) -> Table:
    """Wall time of each part of each stage, with the sums."""
    parts = list(dict.fromkeys(part for record in records for part in record.seconds))
    columns = (Column("Stage"), *(Column(part.capitalize(), "measured") for part in parts), Column("All"))
    rows = [
        (
            str(record.stage),
            *(duration(record.seconds[part]) if part in record.seconds else NOTHING for part in parts),
            duration(sum(record.seconds.values())),
        )
        for record in records
    ]
    sums = [sum(record.seconds.get(part, 0.0) for record in records) for part in parts]
    return Table(columns, (*rows, ("All", *(duration(value) for value in sums), duration(sum(sums)))))


def growths(records: Sequence[GrowthRecord]) -> list[tuple[int, SplitRecord]]:
    """The stages something was grown from, with the growth."""
    return [(record.stage, record.growth) for record in records if record.growth is not None]


def replacements(records: Sequence[GrowthRecord]) -> list[tuple[int, ReplacementRecord]]:
    """The stages after which a baseline replaced the network, with what it did; empty for a growth."""
    return [(record.stage, record.replacement) for record in records if record.replacement is not None]


def begins_wide(records: Sequence[GrowthRecord]) -> bool:
    """Whether neurons are removed from stage to stage, so that stage 0 is the widest network and not the seed."""
    return any(not done.fresh for _, done in replacements(records))


def growth_name(stage: int) -> str:
    """A growth, named by the stages it lies between."""
    return f"{stage} → {stage + 1}"


def neurons_split(growth: SplitRecord) -> int:
    """Neurons that were split, in all groups."""
    return sum(len(neurons) for neurons in growth.allocation.split.values())


def price(cost: CostRecord, provider: str) -> str:
    """A price under its provider's name, with its interval if it has one."""
    value, low, high = (short(number, cost.unit, provider) for number in (cost.value, cost.low, cost.high))
    return value if cost.low == cost.value == cost.high else f"{value} ({low} to {high})"


def span(values: Sequence[int]) -> str:
    """One count, or the least and the largest; a dash for none.

    Example:
        >>> span([23, 23]), span([19, 23])
        ('23', '19 to 23')
    """
    if not values:
        return NOTHING
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def short(value: float, unit: str, provider: str) -> str:
    """A price with its unit, unless its provider's name is the unit (MACs, parameters).

    Example:
        >>> short(7_120, "MAC", "macs"), short(8.15e-6, "s", "latency"), short(1_410, "B", "peak_memory")
        ('7.12 k', '8.15 µs', '1.41 kB')
    """
    return compact(value) if unit_name(unit).lower() == provider_name(provider).lower() else quantity(value, unit)


def origin(cost: CostRecord) -> str:
    """The first word of a price's source: counted, measured, interpolated or estimated."""
    return cost.source.partition(":")[0].strip()


def _origin(records: Sequence[GrowthRecord], provider: str) -> str:
    return ", ".join(dict.fromkeys(origin(record.prices[provider]) for record in records))
