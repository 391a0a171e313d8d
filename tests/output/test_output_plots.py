"""Figures show the journal's numbers and leave matplotlib's settings alone. The journals are synthetic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from energysplit.errors import InputError
from energysplit.output import figure_style, plots
from energysplit.records import GrowthRecord

MakeRecords = Callable[..., list[GrowthRecord]]
ALL: dict[str, Callable[[list[GrowthRecord]], Figure]] = {
    "accuracy": lambda records: plots.accuracy_against(records, "macs"),
    "widths": plots.widths,
    "predicted": plots.predicted_against_realised,
    "seconds": plots.seconds,
    "growth": plots.growth_picture,
}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("stages", "groups"), [(1, 2), (14, 20)])
def test_every_figure_is_well_formed(synthetic_records: MakeRecords, name: str, stages: int, groups: int) -> None:
    figure = ALL[name](synthetic_records(stages=stages, groups=groups, tested=stages > 1))
    assert ElementTree.fromstring(figure_style.to_svg(figure)).tag.endswith("svg")
    inline = ElementTree.fromstring(figure_style.to_inline_svg(figure, "one", "a &lt;label&gt;"))
    assert inline.get("aria-label") == "a <label>"
    assert figure_style.INK.light not in ElementTree.tostring(inline, "unicode")


def test_accuracy_shows_validation_and_test(synthetic_records: MakeRecords) -> None:
    records = synthetic_records()
    test, validation = plots.accuracy_against(records, "params").axes[0].lines
    assert list(validation.get_xdata()) == [record.prices["params"].value for record in records]
    assert list(validation.get_ydata()) == [100 * record.validation.accuracy for record in records]
    assert list(test.get_ydata()) == [100 * record.test.accuracy for record in records if record.test]
    untested = plots.accuracy_against(synthetic_records(tested=False), "macs").axes[0]
    assert len(untested.lines) == 1


def test_widths_are_written_into_the_cells(synthetic_records: MakeRecords) -> None:
    records = synthetic_records()
    found = texts(plots.widths(records))
    for record in records:
        for channels in record.widths.values():
            assert str(channels) in found


def test_bars_are_the_changes(synthetic_records: MakeRecords) -> None:
    records = synthetic_records()
    axes = plots.predicted_against_realised(records).axes[0]
    heights = [patch.get_height() for patch in axes.patches]
    steps = [record.growth.step for record in records if record.growth]
    assert heights == [value for step in steps for value in (step.predicted_change, step.realised_change)]
    assert axes.get_yscale() == "linear"


def test_changes_of_different_size_stay_visible(synthetic_records: MakeRecords) -> None:
    records = synthetic_records(stages=2)
    assert records[0].growth is not None
    step = records[0].growth.step.model_copy(update={"realised_change": 5.0})
    records[0] = records[0].model_copy(update={"growth": records[0].growth.model_copy(update={"step": step})})
    assert plots.predicted_against_realised(records).axes[0].get_yscale() == "symlog"


def test_changes_that_are_not_finite_are_left_out(synthetic_records: MakeRecords) -> None:
    records = synthetic_records(stages=2)
    assert records[0].growth is not None
    step = records[0].growth.step.model_copy(update={"realised_change": float("inf"), "predicted_stderr": float("nan")})
    records[0] = records[0].model_copy(update={"growth": records[0].growth.model_copy(update={"step": step})})
    assert [patch.get_height() for patch in plots.predicted_against_realised(records).axes[0].patches] == [
        step.predicted_change
    ]


def test_seconds_stack_up_to_the_sum(synthetic_records: MakeRecords) -> None:
    records = synthetic_records()
    records[0] = records[0].model_copy(update={"seconds": {**records[0].seconds, "export": 60.0}})
    axes = plots.seconds(records).axes[0]
    ends = [
        max(patch.get_x() + patch.get_width() for patch in axes.patches if patch.get_y() == row - 0.33)
        for row in range(5)
    ]
    assert ends == pytest.approx([sum(record.seconds.values()) / 60 for record in records])
    assert "export" in axes.get_legend_handles_labels()[1]


def test_growth_picture_is_900_pixels_wide_at_100_dots_per_inch(synthetic_records: MakeRecords) -> None:
    figure = plots.growth_picture(synthetic_records())
    assert figure.get_size_inches()[0] * 100 == 900
    assert figure_style.to_png(figure, 100)[:8] == b"\x89PNG\r\n\x1a\n"


def test_same_journal_same_files(synthetic_records: MakeRecords) -> None:
    first, again = (figure_style.to_svg(plots.growth_picture(synthetic_records())) for _ in range(2))
    assert first == again


def test_settings_of_the_caller_stay_and_pyplot_is_not_needed(synthetic_records: MakeRecords) -> None:
    matplotlib.rcParams["font.size"] = 23.0
    before = dict(matplotlib.rcParams)
    figure_style.to_svg(plots.widths(synthetic_records()))
    assert dict(matplotlib.rcParams) == before
    matplotlib.rcdefaults()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_stages_can_be_told_apart_by_lightness() -> None:
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in figure_style.stage_colours(5)]
    assert lightness == sorted(lightness)
    assert min(later - earlier for earlier, later in pairwise(lightness)) > 0.08


def test_bad_input(synthetic_records: MakeRecords) -> None:
    with pytest.raises(InputError, match="no stages given to draw"):
        plots.widths([])
    with pytest.raises(InputError, match="stage 0 has no price 'mac': did you mean 'macs'"):
        plots.accuracy_against(synthetic_records(), "mac")
