"""The figure of a frontier: predicted gain against one budget, with the other budgets and without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from energysplit.errors import InputError
from energysplit.output.figure_style import BLUE, MUTED, ORANGE, PAPER, VERMILLION, new_figure, style
from energysplit.output.numbers import provider_name, quantity, unit_name
from energysplit.output.plots import WIDTH, price_axis

if TYPE_CHECKING:
    from energysplit.allocation.frontier import Frontier, Point
from energysplit.output.numbers import file_name

FRONTIER_FILES = "frontier-*.svg"


def frontier_file(budget: str) -> str:
    """Name of the figure of a budget.

    Example:
        >>> frontier_file("macs:stage")
        'frontier-macs-stage.svg'
    """
    return f"frontier-{file_name(budget)}.svg"


def frontier_figure(found: Frontier, chosen: tuple[float, float] | None = None, title: str = "") -> Figure:
    """Predicted gain against what a budget may cost: a marker for each choice found, joined by a thin line of steps.

    The thin line is what is known between the limits tried: what fits a smaller limit fits a larger one too. With the
    other budgets markers are filled, without them open and their line dashed.

    Args:
        found: the frontier.
        chosen: price and gain of what the run itself bought at this stage, if anything.
        title: what it is a frontier of.

    Raises:
        InputError: nothing can be gained at any limit.
    """
    if not found.most > 0:
        raise InputError(f"frontier of budget {found.name!r}: there is nothing to buy at any limit, so nothing to draw")
    with style():
        figure = new_figure(WIDTH, 3.7)
        axes = figure.add_subplot()
        axes.axvline(found.present.value, color=MUTED.light, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        axes.axvline(found.limit, color=MUTED.light, linewidth=1.2, zorder=1)
        if found.alone is not None:
            axes.step(
                *_line(found.alone),
                where="post",
                color=ORANGE.light,
                linestyle=(0, (4, 2)),
                linewidth=0.8,
                marker="o",
                markersize=6,
                markerfacecolor="none",
                markevery=slice(0, -1),
                label="alone",
            )
        axes.step(
            *_line(found.points),
            where="post",
            color=BLUE.light,
            linewidth=0.8,
            marker="o",
            markersize=4.5,
            markevery=slice(0, -1),
            label="the only budget" if found.alone is None else "with the other budgets",
        )
        if chosen is not None:
            axes.plot(
                *chosen,
                "D",
                color=VERMILLION.light,
                markersize=7,
                markeredgecolor="white",
                label="the run's own choice",
            )
        price_axis(axes, [point.limit for point in found.points if point.limit > 0], _label(found))
        axes.set_title(title, pad=20)
        tried = f"{len(found.points)} limits tried; between them gains may be higher"
        axes.annotate(
            tried, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", color=MUTED.light, fontsize=8
        )
        axes.set_ylabel("predicted gain")
        axes.set_ylim(0, 1.08 * max(found.most, chosen[1] if chosen else 0.0))
        axes.margins(x=0.05)
        _name_line(axes, found.present.value, f"now {quantity(found.present.value, found.unit)}", high=True)
        _name_line(axes, found.limit, f"limit {quantity(found.limit, found.unit)}", high=False)
        share = axes.secondary_yaxis("right", functions=_percent_of(found.most))
        share.set_ylabel("of all there is to gain (%)")
        share.spines["right"].set_visible(False)
        figure.legend(loc="outside upper center", ncols=3, handlelength=1.6, columnspacing=1.2)
    return figure


def _name_line(axes: Axes, at: float, text: str, high: bool) -> None:
    """Write what an upright line is beside it, on the side where there is more room.

    high: at the upper end, where lines near the left have room; else at the lower, or one row down the upper.
    """
    (across, _) = axes.transAxes.inverted().transform(axes.transData.transform((at, 0)))
    left = across > 0.5
    # Gains rise to the right: low on the right half and high on the left one nothing else is drawn.
    low = left and not high
    axes.annotate(
        text,
        (at, 0 if low else 1),
        (-4 if left else 4, 4 if low else (-4 if high else -16)),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom" if low else "top",
        color=MUTED.light,
        fontsize=8,
        bbox={"facecolor": PAPER.light, "edgecolor": "none", "pad": 1, "alpha": 0.8},
    )


def _label(found: Frontier) -> str:
    """The price in words, with the budget's scope where its name has one, and its unit."""
    title, unit = provider_name(found.name), unit_name(found.unit)
    return title if title.lower().startswith(unit.lower()) else f"{title}, {unit}"


def _percent_of(most: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Gain to percent, and back, for arrays as well."""
    return (lambda gain: 100 * gain / most), (lambda share: share * most / 100)


def _line(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Gain against price: a choice can be had from its own price on, whatever limit it was found at."""
    prices: list[float] = []
    gains: list[float] = []
    for price, gain in sorted((point.price.value, point.gain) for point in points):
        if not gains or gain > gains[-1]:
            prices.append(price)
            gains.append(gain)
    return [*prices, points[-1].limit], [*gains, gains[-1]]
