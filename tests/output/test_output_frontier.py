"""The figure of a frontier shows its points. The frontiers are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.text import Text

from energysplit.allocation.frontier import Frontier, Point
from energysplit.errors import InputError
from energysplit.output.figure_style import to_svg
from energysplit.output.frontier_plot import frontier_figure, frontier_file
from energysplit.types import Allocation, Cost


def _points(gains: Sequence[tuple[float, float, float]]) -> tuple[Point, ...]:
    """Points of limits, prices and gains."""
    bought = Allocation({}, 0.0, {}, {}, 0.0, {}, "made up")
    return tuple(Point(limit, Cost.exact(price, "s"), gain, 0.0, 0.0, bought) for limit, price, gain in gains)


POINTS = _points([(0.002, 0.002, 0.0), (0.003, 0.0028, 0.4), (0.004, 0.0028, 0.4), (0.006, 0.0055, 0.7)])
ALONE = _points([(0.002, 0.002, 0.0), (0.003, 0.0028, 0.5), (0.004, 0.0039, 0.8), (0.006, 0.006, 1.0)])
BOTH = Frontier("latency:stage", "s", Cost.exact(0.002, "s"), 0.004, POINTS, ALONE, 1.0)


def test_lines_are_gains_from_the_price_they_are_had_for() -> None:
    figure = frontier_figure(BOTH, (0.0027, 0.38), "Stage 3: gain against latency")
    present, limit, alone, together, chosen = figure.axes[0].lines
    assert list(present.get_xdata()) == [0.002, 0.002]
    assert list(limit.get_xdata()) == [0.004, 0.004]
    assert list(alone.get_xdata()) == [0.002, 0.0028, 0.0039, 0.006, 0.006]
    assert list(alone.get_ydata()) == [0.0, 0.5, 0.8, 1.0, 1.0]
    assert alone.get_linestyle() == "--"
    assert list(together.get_xdata()) == [0.002, 0.0028, 0.0055, 0.006]
    assert list(together.get_ydata()) == [0.0, 0.4, 0.7, 0.7]
    assert together.get_linestyle() == "-"
    for line in (alone, together):
        # Markers are the choices; the line between them is thin, and has none where nothing was bought any more.
        assert (line.get_drawstyle(), line.get_marker(), line.get_markevery()) == ("steps-post", "o", slice(0, -1))
        assert line.get_linewidth() < 1
    assert (list(chosen.get_xdata()), list(chosen.get_ydata())) == ([0.0027], [0.38])
    words = [text.get_text() for text in figure.findobj(Text)]
    for word in ("now 2.00 ms", "limit 4.00 ms", "Latency (stage), s", "alone", "with the other budgets",
                 "the run's own choice", "Stage 3: gain against latency", "of all there is to gain (%)",
                 "4 limits tried; between them gains may be higher"):  # fmt: skip
        assert word in words
    assert ElementTree.fromstring(to_svg(figure)).tag.endswith("svg")


def test_a_budget_by_itself_has_one_line() -> None:
    one = Frontier("macs", "MAC", Cost.exact(0.002, "MAC"), 0.004, POINTS, None, 0.7)
    figure = frontier_figure(one)
    *_, line = figure.axes[0].lines
    assert line.get_label() == "the only budget"
    assert "MACs" in [text.get_text() for text in figure.findobj(Text)]


def test_a_choice_that_gains_less_for_more_is_left_out_of_the_line() -> None:
    odd = _points([(1.0, 1.0, 0.0), (2.0, 1.9, 0.5), (3.0, 1.5, 0.6)])
    *_, line = frontier_figure(Frontier("x", "s", Cost.exact(1.0, "s"), 2.0, odd, None, 0.6)).axes[0].lines
    assert list(line.get_xdata()) == [1.0, 1.5, 3.0]


@pytest.mark.parametrize("at", [0.002, 0.003, 0.004, 0.006])
def test_names_of_lines_stay_inside_the_axes_and_apart(at: float) -> None:
    figure = frontier_figure(replace(BOTH, limit=at))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    named = [text.get_window_extent() for text in axes.texts if text.get_text().startswith(("now", "limit"))]
    assert len(named) == 2
    for box in named:
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 <= box.y1 <= axes.bbox.y1
    assert not named[0].overlaps(named[1])


def test_names_of_files_are_safe() -> None:
    assert frontier_file("macs:stage#2") == "frontier-macs-stage-2.svg"


def test_nothing_to_gain_is_nothing_to_draw() -> None:
    flat = Frontier("macs", "MAC", Cost.exact(1.0, "MAC"), 2.0, _points([(1.0, 1.0, 0.0), (2.0, 1.0, 0.0)]), None, 0.0)
    with pytest.raises(InputError, match="frontier of budget 'macs': there is nothing to buy at any limit"):
        frontier_figure(flat)
