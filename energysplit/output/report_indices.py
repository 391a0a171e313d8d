"""What a report says of splitting indices, or of the values of fresh neurons: how they were found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from energysplit.output import report_tables as tables
from energysplit.output.document import Facts, Paragraph, Section
from energysplit.records import GrowthRecord

_CURVATURE = {
    "exact": "exact: through every nonlinearity and follower on the channel's way to its consumers",
    "producer": "producer: at the nonlinearity after the producer only, as in Wang et al. 2019; followers ignored",
}
_STATISTICS = {
    "running": "running: they keep their statistics when neurons move, as in inference",
    "batch": "batch: their statistics follow each batch when neurons move, as in training",
}
_SHRINKAGE = {
    "none": "none: neurons were chosen by their own held-out values",
    "group": "group: neurons were chosen by held-out values drawn towards their group's mean, the more the larger the "
    "standard error",
}
_LINEAR = {
    "skip": "skip: groups without a nonlinearity have index 0 and are left alone",
    "unit": "unit: groups without a nonlinearity are given the second derivative 1, the paper's surrogate",
    "outgoing": "outgoing: offspring may differ in their outgoing weights too, so groups without a nonlinearity grow",
}


def indices_section(records: Sequence[GrowthRecord]) -> Section:
    """The section of a run's indices."""
    grown = tables.growths(records)
    if not grown:
        return Section("Splitting indices", (Paragraph("None were computed."),))
    if tables.is_fresh(records):
        return _values_of_fresh(records)
    indices = [growth.index for _, growth in grown]
    facts = (
        ("Curvature", every(_CURVATURE.get(index.curvature, index.curvature) for index in indices)),
        ("Batch norms", every(_STATISTICS.get(index.statistics, index.statistics) for index in indices)),
        ("Shrinkage", every(_SHRINKAGE.get(index.shrinkage, index.shrinkage) for index in indices)),
        ("Linear groups", every(_LINEAR.get(index.linear, index.linear) for index in indices)),
        (
            "Kinks",
            every(
                f"an activation with a kink (ReLU, ReLU6) is smoothed as softplus with beta {growth.index.kink_beta:g}"
                for _, growth in grown
            ),
        ),
    )
    sums = "the sums are over all neurons."
    if tables.is_signed(records):
        sums = (
            "that is the lower end of its spectrum. Signed splits gain from the upper end as well, where a copy is "
            "subtracted; the sums and counts here are of the lower ends alone, over all neurons."
        )
    by_chance = {growth.index.solver == "random" for _, growth in grown}
    along = "its best direction" if by_chance == {False} else "a direction drawn at random (solver 'random')"
    optimistic = " On the images the directions were found on the sum is optimistic." if False in by_chance else ""
    chosen = _chosen_by(records)
    text = (
        f"A splitting index is the loss change of splitting a neuron along {along}, per half squared step; "
        f"{sums}{optimistic} The held-out sum, on other images, is the honest one{chosen}; ± is its standard error."
    )
    return Section("Splitting indices", (Facts(facts), tables.index_table(records), Paragraph(text)))


def _chosen_by(records: Sequence[GrowthRecord]) -> str:
    """What the held-out values have to do with the choice of neurons."""
    grown = tables.growths(records)
    if any(tables.by_chance(growth) for _, growth in grown):
        return ""
    if any(growth.index.shrinkage != "none" for _, growth in grown):
        return "; neurons were chosen by its values after they were drawn towards their groups' means"
    return ", and the one neurons were chosen by"


def _values_of_fresh(records: Sequence[GrowthRecord]) -> Section:
    indices = [growth.index for _, growth in tables.growths(records)]
    facts = (
        ("Batch norms", every(_STATISTICS.get(index.statistics, index.statistics) for index in indices)),
        ("Shrinkage", every(_SHRINKAGE.get(index.shrinkage, index.shrinkage) for index in indices)),
    )
    chosen = _chosen_by(records)
    text = (
        "No neuron was split: what was asked is what a new neuron beside each old one would bring, with rows drawn at "
        "random. A value is by how much, to first order, the loss changes if that neuron's outgoing weights, zero at "
        "first, become as long as those of its group, along their gradient; the sums are over all such neurons. On the "
        "images that the gradient was found on the sum is optimistic. The held-out sum, on other images, is the honest "
        f"one{chosen}."
    )
    return Section("What fresh neurons would bring", (Facts(facts), tables.index_table(records), Paragraph(text)))


def every(values: Iterable[str]) -> str:
    """The values that occur, once each."""
    return "; ".join(dict.fromkeys(values))
