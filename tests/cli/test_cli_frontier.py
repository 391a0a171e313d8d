"""`energysplit frontier`: a table and a figure for every budget of a saved stage."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import growth_runs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from energysplit import growth
from energysplit.allocation.frontier import Frontier, Point, frontier
from energysplit.cli import app
from energysplit.cli.console import console, si
from energysplit.cli.frontier import rows_shown, show_frontier
from energysplit.growth import journal
from energysplit.growth.saved import load_saved
from energysplit.growth.solve_again import ask_again
from energysplit.output.numbers import percent, plain, row_step
from energysplit.recipe import from_dict
from energysplit.recipe.saved import saved_recipe
from energysplit.types import Allocation, Cost

BUDGETS = [
    {"provider": "macs", "limit": "1.6x", "scope": "stage"},
    {"provider": "params", "limit": "2.2x", "scope": "network"},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two budgets and no report yet."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth.loop, "write_report", lambda *_: None)
        growth.grow(growth_runs.tiny(budget=BUDGETS, growth={"stages": 1}), run_dir=folder)  # type: ignore[arg-type]
    return folder


def _frontier(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["frontier", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_tables_hold_the_frontiers_and_figures_lie_in_the_run_folder(run: Path) -> None:
    text = _frontier(run, "--points", 5)
    asked = ask_again(load_saved(run, from_dict(saved_recipe(run))))
    found = frontier(asked.saved.net, asked.index, asked.budgets, points=5, **asked.arguments)
    lines = text.splitlines()
    for name, each in found.items():
        words = {"macs": "MACs", "params": "parameters"}[name]
        start = lines.index(f"gain against {words}, the other budgets at their limits (alone: without them)")
        assert lines[start + 1].split()[:6] == ["limit", "price", "gain", "of", "all", "alone"]
        assert each.alone is not None
        for place, number in enumerate(rows_shown(each)):
            point, alone = each.points[number], each.alone[number]
            row = lines[start + 2 + place]
            for cell in (
                si(point.limit, each.unit),
                si(point.price.value, each.unit),
                plain(point.gain, 4),
                percent(point.gain / each.most, 1),
                percent(alone.gain / each.most, 1),
            ):
                assert cell in row
            assert row.rstrip().endswith("<- the limit") == (point.limit == each.limit)
        file = run / "figures" / f"frontier-{name}.svg"
        assert f"figure: {file}" in lines
        assert ElementTree.fromstring(file.read_text()).tag.endswith("svg")
    # Stage 0 bought at these limits, so the run's own choice is one of the points.
    bought = journal.read(run / "journal.jsonl")[0].growth.allocation
    assert asked.bought_at(asked.budgets[0]) == (bought.price["macs"].value, bought.predicted_gain)
    assert found["macs"].own.gain == bought.predicted_gain
    # A log gets plain lines of progress.
    assert "  frontier: " in text
    assert "\x1b" not in text


def test_other_budgets_and_a_single_one(run: Path) -> None:
    text = _frontier(run, "--budget", "peak_memory=1.5x", "--points", 3, "--method", "greedy")
    assert "gain against peak memory\n" in text
    assert "alone" not in text
    assert (run / "figures" / "frontier-peak_memory.svg").is_file()


def test_the_report_keeps_the_figures(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    _frontier(other, "--points", 2)
    drawn = (other / "figures" / "frontier-macs.svg").read_bytes()
    result = CliRunner().invoke(app, ["report", str(other)])
    assert result.exit_code == 0, result.output
    assert (other / "figures" / "frontier-macs.svg").read_bytes() == drawn
    assert (other / "figures" / "growth.svg").is_file()


def test_nothing_to_buy_draws_nothing(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("figures"))
    text = _frontier(other, "--bound", "*=frozen")
    assert "no figures: there is nothing to buy at any limit" in text
    assert not (other / "figures").exists()


def _made_up(
    rows: Sequence[tuple[float, float, float]], limit: float, alone: Sequence[float] = (), unit: str = "MAC"
) -> Frontier:
    """A frontier of limits, gains and shadow prices; what gains the same is the same choice."""

    def point(limit: float, gain: float, slope: float) -> Point:
        split = {"a": list(range(round(10 * gain)))}
        return Point(limit, Cost.exact(50 + gain, unit), gain, 0.0, slope, Allocation(split, gain, {}, {}, 0.0, {}, ""))

    points = tuple(point(*row) for row in rows)
    free = tuple(point(row[0], gain, 0.0) for row, gain in zip(rows, alone, strict=True)) if alone else None
    most = max([*(row[1] for row in rows), *alone])
    return Frontier("macs", unit, Cost.exact(50.0, unit), limit, points, free, most)


def _shown(found: Frontier, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_frontier(found, console())
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_no_row_promises_more_than_there_is_to_gain(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(5_000, 0.0, 2e-3), (10_000, 1.0, 2e-3), (50_000, 1.9, 2e-3), (90_000, 1.9999, 1.0), (99_000, 2.0, 1e-3)]
    lines = _shown(_made_up(rows, 50_000.0), capsys)
    assert lines[1].split()[-5:] == ["a", "step", "of", "would", "buy"]
    ends = [line.removesuffix("  <- the limit").split()[-4:] for line in lines[2:7]]
    # A fifth of the row's own limit; what remains to gain; less than one MAC; nothing left.
    assert ends[0] == ["1", "k", "MACs", "2.00"]
    assert ends[1][-3:] == ["100", "MACs", "0.200"]
    assert ends[2][-3:] == ["10", "MACs", "0.0200"]
    assert ends[3][-2:] == ends[4][-2:] == ["-", "-"]
    assert "nothing changes" not in "\n".join(lines)


@given(
    slope=st.floats(1e-12, 1e12),
    limit=st.floats(1e-9, 1e12),
    remains=st.floats(1e-9, 1e6),
    unit=st.sampled_from(["MAC", "s", "B"]),
)
def test_steps_are_round_and_small_enough(slope: float, limit: float, remains: float, unit: str) -> None:
    step = row_step(slope, limit, unit, remains)
    if step is None:
        assert unit != "s"
        assert 1.0 * slope > remains or limit < 5 * (1 + 1e-9)
        return
    assert step * slope <= remains
    assert step <= limit / 5 * (1 + 1e-9)
    assert f"{step:.3e}".startswith("1.000e")
    # The next larger power of ten would be too large for one of the two.
    assert 10 * step * slope > remains * (1 - 1e-9) or 10 * step > limit / 5 * (1 - 1e-9)


def test_rows_of_the_same_choice_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(50, 0.0, 0.1), (60, 1.0, 0.1), (70, 1.0, 0.1), (80, 2.0, 0.0), (90, 2.0, 0.0), (100, 2.0, 0.0)]
    found = _made_up([(float(limit), gain, slope) for limit, gain, slope in rows], 90.0)
    assert [found.points[number].limit for number in rows_shown(found)] == [50, 60, 80, 90]
    lines = _shown(found, capsys)
    assert lines[5].endswith("<- the limit")
    assert lines[6] == "from 80 MACs on nothing changes"
    bound = _made_up([(float(limit), gain, slope) for limit, gain, slope in rows], 90.0, [0.0, 1.0, 1.5, 2.0, 4.0, 4.0])
    assert _shown(bound, capsys)[6] == (
        "from 80 MACs on nothing changes: the other budgets bind (alone: 100.0 % at 90 MACs)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "1"], "error: RUN: stage 1 has no splitting indices"),
        (["--stage", "9"], "error: RUN: no stage 9; its stages: 0, 1 (those with indices: 0)"),
        (["--budget", "macs=3ms"], "error: budget 'macs': limit '3ms' is in seconds (s), but its prices are in MAC"),
        (["--budget", "params=-1"], "error: budget 'params': limit '-1' is not a finite number of at least 0"),
        (["--bound", "x.*=frozen"], "error: bounds: no group of this network matches 'x.*'"),
        (["--points", "1"], "error: --points 1: a whole number of at least 2 expected"),
    ],
)
def test_bad_input_is_one_message(run: Path, arguments: list[str], message: str) -> None:
    assert message.replace("RUN", str(run)) in _frontier(run, *arguments, code=2)
