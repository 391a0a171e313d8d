"""Grouping into methods, shared costs, doubts, and the page, from made-up journals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from compared_runs import cost, made_up

from energysplit.errors import InputError, RunError
from energysplit.growth.compared import read_run
from energysplit.output.comparison import Comparison, CostName
from energysplit.output.comparison_content import comparison_document, stage_table, summary
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_equal import differences, points, significance
from energysplit.output.comparison_files import check_folder, write_comparison
from energysplit.output.comparison_plot import compared_figure, stage_points
from energysplit.output.comparison_statistics import Difference
from energysplit.output.document import Facts, Table
from energysplit.recipe import load

MACS = CostName("macs")
VANILLA: Any = {"growth": {"method": "top_k"}}


def _compared(*folders: Path, providers: tuple[str, ...] = ()) -> Comparison:
    return compared([read_run(folder) for folder in folders], providers)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three seeds of a grown method, three of a vanilla one, and a width multiplier of one seed and stage."""
    grown = [
        made_up(tmp_path / f"g{seed}", [(10e6, 0.60 + seed / 100), (20e6, 0.70 + seed / 100)], name="grown", seed=seed)
        for seed in range(3)
    ]
    vanilla = [
        made_up(tmp_path / f"v{seed}", [(10e6, 0.60), (20e6, 0.64 + seed / 100)], name="vanilla", seed=seed, **VANILLA)
        for seed in range(3)
    ]
    wide = made_up(tmp_path / "w", [(14.14e6, 0.61)], name="wide", epochs=8, growth={"stages": 0})
    return [*grown, *vanilla, wide]


def test_runs_that_differ_in_seed_and_name_are_one_method(folders: list[Path]) -> None:
    found = _compared(*folders)
    assert [(method.label, [run.seed for run in method.runs]) for method in found.methods] == [
        ("grown", [0, 1, 2]),
        ("vanilla", [0, 1, 2]),
        ("wide", [0]),
    ]
    assert found.costs == {MACS: "MAC"}
    assert found.warnings == ()


def test_a_methods_label_is_what_its_names_share_or_its_folders(tmp_path: Path) -> None:
    same = [made_up(tmp_path / f"a{seed}", [(10e6, 0.6)], name=f"macs-k3-seed{seed}", seed=seed) for seed in (1, 2)]
    other = [made_up(tmp_path / f"b{s}", [(10e6, 0.6)], name=n, seed=s, **VANILLA) for s, n in ((1, "x"), (2, "y"))]
    assert [method.label for method in _compared(*same, *other).methods] == ["macs-k3", "b1, b2"]
    twin = made_up(tmp_path / "c1", [(10e6, 0.6)], name="macs-k3", growth={"method": "lp"})
    assert [method.label for method in _compared(*same, twin).methods] == ["a1, a2", "c1"]


def test_stage_means_and_intervals(folders: list[Path]) -> None:
    grown = _compared(*folders).methods[0]
    (_, first), (at, second) = stage_points(grown, MACS)
    assert (at, second.count) == (20e6, 3)
    assert second.value == pytest.approx(0.71)
    # s = 0.01, t(0.975, 2) = 4.302653.
    assert second.high == pytest.approx(0.71 + 4.302653 * 0.01 / 3**0.5, abs=1e-7)
    assert first.low == pytest.approx(0.61 - 4.302653 * 0.01 / 3**0.5, abs=1e-7)


def test_differences_at_equal_cost(folders: list[Path]) -> None:
    grown, vanilla, wide = _compared(*folders).methods
    assert [(at, round(each.value, 6)) for at, each in differences(grown, vanilla, MACS)] == [
        (10e6, 0.01),
        (20e6, 0.06),
    ]
    ((at, each),) = differences(grown, wide, MACS)
    # 14.14 M is half way from 10 M to 20 M in the logarithm: 0.66 of the grown against 0.61.
    assert (at, each.counts) == (14.14e6, (3, 1))
    assert each.value == pytest.approx(0.05, abs=1e-4)
    assert each.low is None


def test_sentences_of_significance(folders: list[Path]) -> None:
    grown, vanilla, _ = _compared(*folders).methods
    even, better = [each for _, each in differences(grown, vanilla, MACS)]
    assert significance("a", "b", even).startswith("No difference is shown: the interval holds zero (p = ")
    assert significance("a", "b", better).startswith("a is better by 6.00 points; seeds alone would rarely do this")
    turned = Difference(-0.06, -0.08, -0.04, 1e-6, (3, 3))
    assert significance("a", "b", turned).startswith("b is better by 6.00 points")
    assert "p < 0.0001" in significance("a", "b", turned)
    one = "a and b have one seed each, so nothing can be said about chance."
    assert significance("a", "b", Difference(0.1, None, None, None, (1, 1))) == one
    assert "came out alike" in significance("a", "b", Difference(0.1, None, None, None, (2, 2), constant=True))


def test_table_of_stages(folders: list[Path]) -> None:
    table = stage_table(_compared(*folders))
    assert [column.title for column in table.columns] == [
        "Method",
        "Stage",
        "Seeds",
        "MACs",
        "Validation accuracy",
        "95 % interval",
        "Test accuracy",
        "95 % interval",
        "Epochs so far",
    ]
    assert table.rows[1] == (
        "grown",
        "1",
        "3",
        "20.00 M",
        "71.50 %",
        "69.02 to 73.98 %",
        "71.00 %",
        "68.52 to 73.48 %",
        "8",
    )
    assert table.rows[-1] == ("wide", "0", "1", "14.14 M", "61.50 %", "–", "61.00 %", "–", "8")


def test_no_interval_of_an_accuracy_is_shown_below_nothing_or_above_all(tmp_path: Path) -> None:
    """Two seeds' intervals are wide; their statistics stay what they are."""
    runs = [
        made_up(tmp_path / f"s{seed}", [(10e6, 0.02 + seed / 10), (20e6, 0.85 + seed / 10)], seed=seed)
        for seed in range(2)
    ]
    found = _compared(*runs)
    (_, low), (_, high) = stage_points(found.methods[0], MACS)
    assert (low.low, high.high) == (pytest.approx(0.07 - 12.7062 * 0.05), pytest.approx(0.9 + 12.7062 * 0.05))
    assert [row[5] for row in stage_table(found).rows] == ["0.00 to 71.03 %", "26.97 to 100.00 %"]
    assert [row[7] for row in stage_table(found).rows] == ["0.00 to 70.53 %", "26.47 to 100.00 %"]
    (axes,) = compared_figure(found, MACS).axes
    bars = [list(line.get_ydata()) for line in axes.lines if list(line.get_xdata()) in ([10e6, 10e6], [20e6, 20e6])]
    assert bars == [[0, pytest.approx(70.531)], [pytest.approx(26.469), 100]]


@pytest.mark.parametrize(
    ("changed", "doubt"),
    [
        ({"data": {"name": "cifar10"}}, "Not comparable: data.name differs: digits (grown); cifar10 (other)."),
        ({"data": {"image_size": 16}}, "Not comparable: data.image_size differs: not set (grown); 16 (other)."),
        ({"data": {"validation": 0.2}}, "Not comparable: data.validation differs: 0.1 (grown); 0.2 (other)."),
        ({"data": {"limit": 100}}, "Not comparable: data.limit differs: not set (grown); 100 (other)."),
        ({"epochs": 5}, "Not comparable: epochs in total differs: 4 (grown); 5 (other)."),
        ({"finished": False}, "other is not finished: compared as far as stage 0."),
    ],
)
def test_what_makes_runs_not_comparable_is_named(tmp_path: Path, changed, doubt) -> None:
    changed = {"name": "other", "growth": {"method": "lp"}, **changed}
    folders = made_up(tmp_path / "grown", [(10e6, 0.6)]), made_up(tmp_path / "other", [(10e6, 0.6)], **changed)
    (found,) = _compared(*folders).warnings
    assert found.replace(f"{tmp_path}/", "") == doubt


def test_prices_of_different_devices_are_doubted_and_counted_ones_are_not(tmp_path: Path) -> None:
    latency = [{"latency": cost(0.002, "s", "interpolated: table")}]
    boards = [
        made_up(tmp_path / name, [(10e6, 0.6)], name=name, prices=latency, hardware={"profile": name})
        for name in ("pi4", "pi5")
    ]
    assert _compared(*boards).warnings == ("Not comparable: origin of latency differs: pi4 (pi4); pi5 (pi5).",)
    assert _compared(*boards, providers=("macs",)).warnings == ()


def test_costs_that_some_runs_lack_are_left_out_and_said(tmp_path: Path) -> None:
    more = made_up(tmp_path / "more", [(10e6, 0.6)], prices=[{"params": cost(50, "param"), "size": cost(8, "B")}])
    less = made_up(tmp_path / "less", [(10e6, 0.6)], name="less", prices=[{"size": cost(8, "KiB")}], **VANILLA)
    found = _compared(more, less)
    assert list(found.costs) == [MACS]
    assert found.warnings[0] == f"Parameters is left out: {less} does not report it in the unit of the others."
    assert found.warnings[1].startswith("Size is left out")
    with pytest.raises(InputError, match=r"--provider params: it is not reported by .*less; known: macs"):
        _compared(more, less, providers=("params",))
    with pytest.raises(InputError, match=r"--provider mcas: no run reports it; did you mean 'macs'\?"):
        _compared(more, less, providers=("mcas",))


def test_measured_latency_is_a_cost_of_the_last_stage(tmp_path: Path) -> None:
    folders = [
        made_up(tmp_path / "a", [(10e6, 0.6), (20e6, 0.7)], measured=0.002),
        made_up(tmp_path / "b", [(10e6, 0.6), (20e6, 0.65)], name="b", measured=0.00201, **VANILLA),
    ]
    found = _compared(*folders)
    name = CostName("latency", measured=True)
    assert found.costs[name] == "s"
    assert found.methods[0].curves(name) == [((0.002, 0.7),)]
    ((at, each),) = differences(*found.methods, name)
    assert at == pytest.approx(0.002, rel=0.01)
    assert each.value == pytest.approx(0.05)
    latencies = [row[4] for row in stage_table(found).rows]
    assert latencies == ["–", "2.00 ms", "–", "2.01 ms"]
    assert list(_compared(*folders, providers=("latency",)).costs) == [name]


def test_a_run_twice_is_refused(tmp_path: Path) -> None:
    one, copy = (made_up(tmp_path / name, [(10e6, 0.6)]) for name in ("one", "copy"))
    with pytest.raises(RunError, match=r"one: the same run twice; give each run once"):
        _compared(one, tmp_path / "copy" / ".." / "one")
    with pytest.raises(RunError, match=r"one and .*copy: the same run twice"):
        _compared(one, copy)


def test_a_seed_twice_with_other_weights_is_doubted(tmp_path: Path) -> None:
    folders = made_up(tmp_path / "a", [(10e6, 0.6)]), made_up(tmp_path / "b", [(10e6, 0.61)])
    (doubt,) = _compared(*folders).warnings
    assert doubt.startswith("grown: several runs have seed 0; each counts as a sample of its own")


def test_no_shared_cost_is_refused(tmp_path: Path) -> None:
    made_up(tmp_path / "a", [(10e6, 0.6)])
    made_up(tmp_path / "b", [(float("inf"), 0.6)], name="b", **VANILLA)
    with pytest.raises(RunError, match=r"no cost is reported by all runs .*a: MACs; .*b: none"):
        _compared(tmp_path / "a", tmp_path / "b")


def test_runs_without_test_accuracy_are_in_the_table_only(tmp_path: Path) -> None:
    folders = made_up(tmp_path / "a", [(10e6, None)]), made_up(tmp_path / "b", [(10e6, 0.6)], name="b", **VANILLA)
    found = _compared(*folders)
    assert found.warnings[-1].startswith(f"No test accuracy was measured in {folders[0]}: in the tables only")
    assert stage_table(found).rows[0][4:8] == ("50.00 %", "–", "–", "–")
    assert differences(*found.methods, MACS) == []
    with pytest.raises(InputError, match="no test accuracy was measured, so nothing to draw"):
        compared_figure(_compared(folders[0]), MACS)
    assert comparison_document(_compared(folders[0])).pictures() == []


def test_points_of_percent() -> None:
    assert [points(value) for value in (0.0123, -0.2, 0.000001, -0.000001)] == ["+1.23", "−20.00", "0.00", "0.00"]


def test_the_page_and_the_markdown_hold_the_same(folders: list[Path], tmp_path: Path) -> None:
    found = _compared(*folders)
    out = tmp_path / "out"
    assert write_comparison(out, found) == out / "compare.html"
    page, markdown = (out / "compare.html").read_text(), (out / "compare.md").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["compare.html", "compare.md", "figures"]
    ElementTree.fromstring((out / "figures" / "accuracy-macs.svg").read_text())
    assert "![" in markdown
    assert "(figures/accuracy-macs.svg)" in markdown
    document = comparison_document(found)
    tables = [block for section in document.sections for block in section.blocks if isinstance(block, Table)]
    assert len(tables) == 4
    for cell in {cell for table in tables for row in table.rows for cell in row}:
        assert cell in page
        assert cell.replace("_", r"\_") in markdown
    for text in (summary(found), "Test accuracy is reported only", "never extrapolated", "growth.method"):
        assert text in re.sub(r"&nbsp;", " ", page)
        assert text in markdown
    # Nothing is loaded: no script, no address.
    assert not re.search(r"<script|<link|https?://|url\((?!#)|src=", page)
    assert 'name="viewport"' in page


def test_keys_in_which_methods_differ_are_those_that_set_takes(tmp_path: Path) -> None:
    one, other = (made_up(tmp_path / name, [(1e6, 0.5)], name=name) for name in ("one", "other"))
    recipe = load("recipes/digits.toml")
    (one / "recipe.json").write_text(json.dumps(recipe.resolved()))
    (other / "recipe.json").write_text(json.dumps(load("recipes/digits.toml", ["budget.0.limit=1.9x"]).resolved()))
    (facts,) = [
        block.rows
        for section in comparison_document(_compared(one, other)).sections
        for block in section.blocks
        if isinstance(block, Facts)
    ]
    assert facts == (("budget.0.limit", f"one: {recipe.budget[0].limit}; other: 1.9x"),)


def test_writing_again_gives_the_same_bytes(folders: list[Path], tmp_path: Path) -> None:
    found = _compared(*folders)
    write_comparison(tmp_path / "out", found)
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    write_comparison(tmp_path / "out", found)
    assert len(files) == 3
    assert files == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}


@pytest.mark.parametrize("name", ["notes.txt", "figures/widths.svg", "journal.jsonl"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("kept")
    with pytest.raises(RunError, match=rf"out holds something else \({name}\); expected a new folder"):
        check_folder(tmp_path / "out")
    with pytest.raises(RunError, match="is a file; expected a new folder"):
        check_folder(file)
    assert file.read_text() == "kept"


def test_what_a_killed_writer_left_is_no_obstacle(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".figures.partial").mkdir(parents=True)
    (out / ".compare.md.abc123.partial").write_text("half")
    assert write_comparison(out, _compared(folders[0])).is_file()


def test_seeds_that_came_less_far_count_as_far_as_they_came(tmp_path: Path) -> None:
    points = [(10e6, 0.60), (20e6, 0.70)]
    whole = made_up(tmp_path / "a", points)
    part = made_up(tmp_path / "b", [(10e6, 0.62)], seed=1, finished=False)
    other = made_up(tmp_path / "c", points, name="c", **VANILLA)
    found = _compared(whole, part, other)
    assert [row[2] for row in stage_table(found).rows] == ["2", "1", "1", "1"]
    # At 20 M one seed of the first has nothing, so nothing is compared there.
    assert [at for at, _ in differences(found.methods[0], found.methods[1], MACS)] == [10e6]
    assert f"{part} is not finished: compared as far as stage 0." in found.warnings
    assert "Not comparable: epochs in total differs: 8 (grown, c); 4 (grown)." in found.warnings
