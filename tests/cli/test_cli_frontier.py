"""`energysplit frontier`: a table and a figure for every budget of a saved stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import growth_runs
import pytest
from typer.testing import CliRunner

from energysplit import growth
from energysplit.allocation.frontier import frontier
from energysplit.cli import app
from energysplit.cli.console import si
from energysplit.growth import journal
from energysplit.growth.saved import load_saved
from energysplit.growth.solve_again import ask_again
from energysplit.output.numbers import percent, plain
from energysplit.recipe import from_dict

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
    asked = ask_again(load_saved(run, from_dict(json.loads((run / "recipe.json").read_text()))))
    found = frontier(asked.saved.net, asked.saved.index, asked.budgets, points=5, **asked.arguments)
    lines = text.splitlines()
    for name, each in found.items():
        start = lines.index(f"what {name} buys, the other budgets at their limits (alone: without them)")
        assert lines[start + 1].split()[:6] == ["limit", "price", "gain", "of", "all", "alone"]
        assert each.alone is not None
        for place, (point, alone) in enumerate(zip(each.points, each.alone, strict=True)):
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
    assert "what peak_memory buys\n" in text
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
