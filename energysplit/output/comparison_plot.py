"""The figure of a comparison: test accuracy against one cost, a line for each method, the seeds around their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from energysplit.errors import InputError
from energysplit.output.comparison import Comparison, CostName, Method, Published
from energysplit.output.comparison_statistics import Mean, ends_of_share, mean_interval
from energysplit.output.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    new_figure,
    style,
)
from energysplit.output.numbers import provider_name, unit_name
from energysplit.output.plots import WIDTH, price_axis
from energysplit.output.report_tables import origin

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK, MUTED)
_MARKERS = "os^DvPX*"
_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_LONGEST_LABEL = 34


def compared_figure(comparison: Comparison, name: CostName) -> Figure:
    """Test accuracy against a cost by stage: seeds faint, their mean with its interval, a method of one stage a point.

    Raises:
        InputError: no run has a test accuracy.
    """
    methods = [method for method in comparison.methods if method.curves(name)]
    if not methods:
        raise InputError(f"no test accuracy was measured, so nothing to draw against {name.words}")
    published = [each for each in comparison.published if each.curve(name)]
    rows = (len(methods) + len(published) + 1) // 2
    with style():
        figure = new_figure(WIDTH, 3.3 + 0.2 * rows)
        axes = figure.add_subplot()
        ends: list[float] = []
        for number, method in enumerate(comparison.methods):
            if method in methods:
                ends += _draw(axes, method, name, number, _aside(method, methods))
        for number, each in enumerate(published):
            _draw_published(axes, each, name, number)
        every = [point for method in methods for points in method.curves(name) for point in points]
        every += [point for each in published for point in each.curve(name)]
        price_axis(axes, [cost for cost, _ in every], _label(comparison, name))
        axes.set_ylabel("test accuracy (%)")
        axes.margins(x=0.08)
        axes.set_ylim(*_limits([100 * accuracy for _, accuracy in every], ends))
        columns = min(2, len(methods) + len(published))
        figure.legend(loc="outside upper center", ncols=columns, handlelength=2.2, columnspacing=1.2)
    return figure


def stage_points(method: Method, name: CostName) -> list[tuple[float, Mean]]:
    """Mean cost and mean test accuracy of each stage, over the seeds that have both."""
    found = []
    for stage in range(method.stages):
        tests = [(run.cost(name, stage), run.records[stage].test) for run in method.at(stage)]
        pairs = [(cost, test.accuracy) for cost, test in tests if cost is not None and test is not None]
        if pairs:
            costs, accuracies = zip(*pairs, strict=True)
            found.append((float(np.mean(costs)), mean_interval(accuracies)))
    return found


def _draw(axes: Axes, method: Method, name: CostName, number: int, aside: float) -> list[float]:
    """Draw one method; the ends of its intervals, in percent.

    aside: how far right of their markers its bars and seeds stand, in typographic points.
    """
    beside = axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
    colour, marker = _COLOURS[number % len(_COLOURS)].light, _MARKERS[number % len(_MARKERS)]
    points = sorted(stage_points(method, name), key=lambda point: point[0])  # pruning goes from right to left
    costs, means = [cost for cost, _ in points], [mean for _, mean in points]
    for points_of_seed in method.curves(name) if max(mean.count for mean in means) > 1 else []:
        seeds = zip(*points_of_seed, strict=True)
        across, up = (np.array(values) for values in seeds)
        axes.plot(across, 100 * up, ".", color=colour, alpha=0.45, markersize=4, zorder=2, transform=beside)
    axes.plot(
        costs,
        [100 * mean.value for mean in means],
        linestyle=_LINES[number // len(_COLOURS) % len(_LINES)] if len(points) > 1 else "none",
        marker=marker,
        markeredgecolor="white",
        markeredgewidth=0.6,
        color=colour,
        label=_short(method.label),
        zorder=4,
    )
    ends = []
    for cost, mean in points:
        if shares := ends_of_share(mean):
            low, high = 100 * shares[0], 100 * shares[1]
            axes.plot([cost, cost], [low, high], color=colour, linewidth=1.1, zorder=3, transform=beside)
            ends += [low, high]
    return ends


def _draw_published(axes: Axes, published: Published, name: CostName, number: int) -> None:
    """Hollow grey markers without a line: others' points are no curve of ours."""
    costs, accuracies = zip(*published.curve(name), strict=True)
    axes.plot(
        costs,
        [100 * accuracy for accuracy in accuracies],
        linestyle="none",
        marker=_MARKERS[number % len(_MARKERS)],
        markerfacecolor="none",
        color=MUTED.light,
        label=_short(f"{published.name} (published)"),
        zorder=2.5,
    )


def _aside(method: Method, methods: Sequence[Method]) -> float:
    """How far right of its markers a method's bars stand, in points.

    Grown to one budget, methods have one cost, and their bars would hide each other; methods of one stage stay put.
    """
    grown = [each for each in methods if each.stages > 1]
    if method not in grown:
        return 0.0
    return (grown.index(method) - (len(grown) - 1) / 2) * min(2.5, 8 / max(1, len(grown) - 1))


def _limits(values: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Ends of the upright axis: all intervals, as far as these leave the seeds themselves a third of the height."""
    span = max(max(values) - min(values), 0.5)
    low = max(min([*values, *ends]), min(values) - span)
    high = min(max([*values, *ends]), max(values) + span)
    margin = 0.08 * max(high - low, span)
    return low - margin, high + margin


def _label(comparison: Comparison, name: CostName) -> str:
    """A cost with its unit and where its numbers come from."""
    kinds = {"measured"}
    if not name.measured:
        prices = [record.prices.get(name.provider) for run in comparison.runs for record in run.records]
        kinds = {origin(price) if price else "counted" for price in prices}
    unit = unit_name(comparison.costs[name])
    words = [] if unit.lower() == provider_name(name.provider).lower() else [unit]
    return f"{name.title} ({', '.join([*words, *sorted(kinds)])})"


def _short(label: str) -> str:
    """A label's beginning; a leading underscore would hide it from the legend."""
    label = label.lstrip("_") or "method"
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
