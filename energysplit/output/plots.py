"""The figures of a report, each made from the journal alone.

Every function returns a `Figure`; `figure_style` turns it into SVG or PNG. They are sized so that text keeps its size
on a phone, where a figure fills the width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from energysplit.errors import InputError, nearest
from energysplit.output.figure_style import (
    BLUE,
    GREEN,
    GROWTH,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    Colour,
    new_figure,
    no_grid,
    stage_colours,
    style,
)
from energysplit.output.numbers import compact, duration, provider_name, signed, unit_name
from energysplit.output.report_tables import begins_wide, growth_name, growths, origin, replacements
from energysplit.records import GrowthRecord

WIDTH = 4.8
_PARTS: dict[str, Colour] = {"train": BLUE, "evaluate": SKY, "index": ORANGE, "allocate": GREEN, "surgery": PURPLE}
_LONGEST_NAME = 26
MOST_STAGES = 40
"""Stages that a figure shows; with more, marks and labels would cover each other, and drawing takes minutes."""


def drawn(records: Sequence[GrowthRecord]) -> Sequence[GrowthRecord]:
    """The stages that figures show: all, or `MOST_STAGES` spread evenly, the first and the last among them."""
    if len(records) <= MOST_STAGES:
        return records
    return [records[round(place)] for place in np.linspace(0, len(records) - 1, MOST_STAGES)]


def accuracy_against(records: Sequence[GrowthRecord], provider: str) -> Figure:
    """Validation accuracy, and test accuracy where it was measured, at each stage's price."""
    _check(records, provider)
    records = drawn(records)
    prices = [record.prices[provider].value for record in records]
    with style():
        figure = new_figure(WIDTH, 3.3)
        axes = figure.add_subplot()
        tested = [(price, record.test.accuracy) for price, record in zip(prices, records, strict=True) if record.test]
        if tested:
            axes.plot(
                [price for price, _ in tested],
                [100 * accuracy for _, accuracy in tested],
                color=VERMILLION.light,
                linestyle=(0, (4, 2)),
                linewidth=1.5,
                marker="s",
                markersize=5,
                markerfacecolor="none",
                label="test (chose nothing)",
            )
        values = [100 * record.validation.accuracy for record in records]
        axes.plot(prices, values, color=BLUE.light, marker="o", label="validation")
        for record, price, value in zip(records, prices, values, strict=True):
            axes.annotate(
                str(record.stage), (price, value), (0, 7), textcoords="offset points", ha="center", color=BLUE.light
            )
        price_axis(axes, prices, f"{provider_name(provider)} ({_axis_unit(records, provider)})")
        axes.set_ylabel("accuracy (%)")
        axes.margins(x=0.08, y=0.16)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="lower right")
    return figure


def widths(records: Sequence[GrowthRecord]) -> Figure:
    """Channels of every group (rows) at every stage (columns), shaded by growth since the seed, or what is left."""
    _check(records)
    records = drawn(records)
    groups = list(records[0].widths)
    table = np.array([[record.widths[group] for record in records] for group in groups], dtype=float)
    growth = table / table[:, :1]
    with style():
        figure = new_figure(WIDTH, max(2.4, 0.9 + 0.3 * len(groups)))
        axes = figure.add_subplot()
        smallest = min(growth.min(), 1.0)
        largest = max(growth.max(), smallest + 0.01)
        image = axes.pcolormesh(growth, cmap=GROWTH, vmin=smallest, vmax=largest, edgecolors=PAPER.light, linewidth=1.5)
        axes.invert_yaxis()
        # Past a dozen columns the numbers would touch: every k-th is written.
        every = math.ceil(len(records) / 12)
        for (row, column), channels in np.ndenumerate(table):
            if column % every == 0 or column == len(records) - 1:
                dark = (growth[row, column] - smallest) / (largest - smallest) > 0.5
                colour = "#ffffff" if dark else "#14202a"
                axes.text(
                    column + 0.5, row + 0.52, f"{channels:.0f}", ha="center", va="center", fontsize=8, color=colour
                )
        axes.set_yticks(np.arange(len(groups)) + 0.5, [_short(group) for group in groups])
        axes.set_xticks(np.arange(len(records)) + 0.5, [str(record.stage) for record in records])
        axes.tick_params(length=0)
        no_grid(axes, "both")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("stage")
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("times stage 0's width" if begins_wide(records) else "times the seed's width")
        bar.ax.grid(False)
    return figure


def predicted_against_realised(records: Sequence[GrowthRecord]) -> Figure:
    """Loss change of each growth: predicted from the indices, with its standard error, and measured after surgery."""
    _check(records)
    records = drawn(records)
    grown = [(stage, growth.step) for stage, growth in growths(records)]
    with style():
        figure = new_figure(WIDTH, 3.3)
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED.light, linewidth=1)
        finite = [
            change
            for _, step in grown
            for change in (step.predicted_change, step.realised_change)
            if math.isfinite(change)
        ]
        # With more growths the labels would touch; the report's table has the numbers.
        labelled = len(grown) <= 6
        for place, (_, step) in enumerate(grown):
            if math.isfinite(step.predicted_change):
                error = step.predicted_stderr if math.isfinite(step.predicted_stderr) else 0.0
                axes.bar(place - 0.19, step.predicted_change, 0.34, color=SKY.light, label=_once(place, "predicted"))
                axes.errorbar(place - 0.19, step.predicted_change, error, color=INK.light, capsize=3, linewidth=1)
                if labelled:
                    end = step.predicted_change + math.copysign(error, step.predicted_change)
                    _label_bar(axes, place - 0.19, end, step.predicted_change)
            if math.isfinite(step.realised_change):
                axes.bar(
                    place + 0.19, step.realised_change, 0.34, color=VERMILLION.light, label=_once(place, "realised")
                )
                if labelled:
                    _label_bar(axes, place + 0.19, step.realised_change, step.realised_change)
        sizes = sorted(abs(change) for change in finite if change)
        if sizes and sizes[-1] > 30 * sizes[0]:
            # Bars a hundredth of the largest would vanish; between -t and t the axis stays linear.
            axes.set_yscale("symlog", linthresh=sizes[0], linscale=0.6)
        axes.set_xticks(range(len(grown)), [growth_name(stage) for stage, _ in grown])
        axes.set_xlabel("growth (stage → next)")
        axes.set_ylabel("change of held-out loss")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _bare(signed(value))))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.18)
        no_grid(axes, "x")
        if finite:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
        else:
            axes.text(0.5, 0.5, "no growth", transform=axes.transAxes, ha="center", color=MUTED.light)
    return figure


def seconds(records: Sequence[GrowthRecord]) -> Figure:
    """Wall time of each stage, divided into its parts."""
    _check(records)
    records = drawn(records)
    parts = [part for part in _PARTS if any(part in record.seconds for record in records)]
    others = sorted({part for record in records for part in record.seconds} - set(_PARTS))
    longest = max(sum(record.seconds.values()) for record in records)
    unit, name = (3600.0, "hours") if longest >= 7200 else (60.0, "minutes") if longest >= 120 else (1.0, "seconds")
    with style():
        figure = new_figure(WIDTH, max(2.2, 1.3 + 0.32 * len(records)))
        axes = figure.add_subplot()
        left = np.zeros(len(records))
        for part in [*parts, *others]:
            lengths = np.array([record.seconds.get(part, 0.0) / unit for record in records])
            axes.barh(range(len(records)), lengths, 0.66, left=left, color=_PARTS.get(part, MUTED).light, label=part)
            left += lengths
        for place, record in enumerate(records):
            total = duration(sum(record.seconds.values()))
            axes.annotate(total, (left[place], place), (5, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(records)), [str(record.stage) for record in records])
        axes.invert_yaxis()
        axes.set_ylabel("stage")
        axes.set_xlabel(f"wall time ({name})")
        axes.set_xlim(0, max(left.max(), 1e-9) * 1.2)
        axes.tick_params(axis="y", length=0)
        no_grid(axes, "y")
        figure.legend(
            loc="outside upper center", ncols=min(5, len(parts) + len(others)), handlelength=1, columnspacing=1.2
        )
    return figure


def growth_picture(records: Sequence[GrowthRecord], provider: str = "macs") -> Figure:
    """A whole growth in one wide picture: accuracy against price, and the widths of every layer, stage by stage.

    Made for 900 pixels of width; both halves share the stages' colours.
    """
    _check(records, provider)
    records = drawn(records)
    colours = stage_colours(len(records))
    prices = [record.prices[provider].value for record in records]
    groups = list(records[0].widths)
    with style():
        figure = new_figure(9.0, 3.7)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
        tested = [(price, record.test.accuracy) for price, record in zip(prices, records, strict=True) if record.test]
        values = [100 * record.validation.accuracy for record in records]
        left.plot(prices, values, color=MUTED.light, linewidth=1.5, zorder=2)
        left.scatter(prices, values, s=95, c=colours, edgecolors="white", linewidths=1.5, zorder=3, label="validation")
        if tested:
            left.plot(
                [price for price, _ in tested],
                [100 * accuracy for _, accuracy in tested],
                "s",
                color=VERMILLION.light,
                markersize=5,
                markerfacecolor="none",
                label="test (chose nothing)",
            )
        price_axis(left, prices, f"{provider_name(provider)} ({_axis_unit(records, provider)})")
        left.set_title("Accuracy against price")
        left.set_ylabel("accuracy (%)")
        left.margins(x=0.1, y=0.14)
        left.legend(loc="lower right")
        # The largest stage first: each smaller one covers the part of the bar it had.
        bars = list(zip(records, colours, strict=True))
        for record, colour in bars if begins_wide(records) else reversed(bars):
            name = "seed" if record is records[0] and not begins_wide(records) else f"stage {record.stage}"
            heights = [record.widths[group] for group in groups]
            right.bar(range(len(groups)), heights, 0.78, color=colour, label=name)
        right.set_title("Channels" if replacements(records) else "Where it grew")
        right.set_ylabel("channels")
        right.set_xlabel("layers, first to last")
        right.set_xticks(range(len(groups)), [str(place + 1) for place in range(len(groups))])
        right.tick_params(axis="x", length=0)
        if len(groups) > 24:
            right.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        no_grid(right, "x")
        handles, labels = right.get_legend_handles_labels()
        right.legend(
            handles[::-1],
            labels[::-1],
            loc="upper left",
            ncols=1 if len(records) < 8 else 2,
            handlelength=1,
            fontsize=8,
        )
    return figure


def _check(records: Sequence[GrowthRecord], provider: str | None = None) -> None:
    if not records:
        raise InputError("no stages given to draw; a journal with at least one line is expected")
    if provider is not None and (missing := [record for record in records if provider not in record.prices]):
        raise InputError(f"stage {missing[0].stage} has no price {provider!r}: {nearest(provider, missing[0].prices)}")


def price_axis(axes: Axes, prices: Sequence[float], label: str) -> None:
    """Make the x axis one of prices, with SI prefixes; logarithmic where they differ more than five times."""
    if min(prices) > 0 and max(prices) > 5 * min(prices):
        axes.set_xscale("log")
        axes.set_xticks(_round_prices(min(prices), max(prices)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
        label += ", logarithmic"
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.set_xlabel(label)


def _round_prices(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the range, a little beyond its ends; of a short range 3 and 7 times too."""
    digits = (1, 2, 5) if high > 20 * low else (1, 2, 3, 5, 7)
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    return [tick for tick in ticks if low / 1.3 <= tick <= high * 1.3]


def _tick(value: float) -> str:
    """A round price, without zeros behind the point."""
    number, _, prefix = compact(value).partition(" ")
    return f"{_bare(number)} {prefix}".strip()


def _bare(number: str) -> str:
    """Printed digits without the zeros that end a fraction."""
    return number.rstrip("0").rstrip(".") if "." in number and "e" not in number else number


def _axis_unit(records: Sequence[GrowthRecord], provider: str) -> str:
    cost = records[-1].prices[provider]
    kind = origin(cost)
    name = unit_name(cost.unit)
    return kind if name.lower() == provider_name(provider).lower() else f"{name}, {kind}"


def _label_bar(axes: Axes, x: float, end: float, value: float) -> None:
    """Write a bar's value beyond its end."""
    above = value >= 0
    axes.annotate(
        signed(value, 2),
        (x, end),
        (0, 5 if above else -5),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize=7.5,
    )


def _once(place: int, label: str) -> str | None:
    return label if place == 0 else None


def _short(name: str) -> str:
    """A group's name, its beginning left out when it is long: layers differ at the end."""
    return name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME + 1 :]}"
