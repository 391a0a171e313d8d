"""Training compute as a cost: counted by hand, from the start of the weights, absent where a journal can't say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compared_runs import GROWTH, cost, made_up

from energysplit.growth.compared import read_run
from energysplit.output.comparison import CostName
from energysplit.output.comparison_content import comparison_document, stage_table
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_equal import differences
from energysplit.output.comparison_plot import compared_figure

COMPUTE = CostName("training_compute")
POINTS = [(10e6, 0.6), (20e6, 0.7), (40e6, 0.75)]
OTHER: Any = {"growth": {"method": "top_k"}}


def test_growth_pays_for_training_and_for_its_indices(tmp_path: Path) -> None:
    """4 epochs of 1,000 images a stage, 3 MACs each; 6 sweeps over 64 images and one over 64 held out, 4 MACs each."""
    run = read_run(made_up(tmp_path / "a", POINTS, images=1000))
    trained = [3 * 4 * 1000 * macs for macs, _ in POINTS]
    indexed = [4 * macs * (6 * 64 + 64) for macs, _ in POINTS]
    assert [run.compute_to(stage) for stage in range(3)] == [
        trained[0],
        trained[0] + indexed[0] + trained[1],
        trained[0] + indexed[0] + trained[1] + indexed[1] + trained[2],
    ]
    assert run.units()[COMPUTE] == "MAC"
    assert run.cost(COMPUTE, 1) == run.compute_to(1)


def test_sweeps_by_chance_cost_nothing_and_signed_ones_more(tmp_path: Path) -> None:
    by_chance = GROWTH.model_copy(update={"index": GROWTH.index.model_copy(update={"sweeps": 0.0})})
    signed = GROWTH.model_copy(update={"allocation": GROWTH.allocation.model_copy(update={"mass": 2.0})})
    unknown = GROWTH.model_copy(update={"index": GROWTH.index.model_copy(update={"sweeps": float("nan")})})
    made = [
        read_run(made_up(tmp_path / str(n), POINTS[:2], images=1000, split=split)).compute_to(1)
        for n, split in enumerate((by_chance, signed, unknown))
    ]
    training = 3 * 4 * 1000 * 30e6
    assert made == [training + 4 * 10e6 * 64, training + 6 * 10e6 * 448, None]


def test_a_stage_of_fresh_weights_pays_for_itself_only(tmp_path: Path) -> None:
    fresh = read_run(made_up(tmp_path / "wide", POINTS, images=1000, replaced="fresh"))
    pruned = read_run(made_up(tmp_path / "pruned", POINTS[::-1], images=1000, replaced="pruned"))
    assert [fresh.compute_to(stage) for stage in range(3)] == [3 * 4 * 1000 * macs for macs, _ in POINTS]
    assert [fresh.epochs_to(stage) for stage in range(3)] == [4, 4, 4]
    assert [pruned.compute_to(stage) for stage in range(3)] == [3 * 4 * 1000 * macs for macs in (40e6, 60e6, 70e6)]
    assert [pruned.epochs_to(stage) for stage in range(3)] == [4, 8, 12]


def test_it_is_a_cost_of_the_page(tmp_path: Path) -> None:
    runs = [
        read_run(made_up(tmp_path / f"{name}{seed}", POINTS, name=name, seed=seed, images=1000, **changed))
        for name, changed in (("grown", {}), ("vanilla", OTHER))
        for seed in range(2)
    ]
    found = compared(runs)
    assert list(found.costs) == [CostName("macs"), COMPUTE]
    assert found.warnings == ()
    table = stage_table(found)
    column = [each.title for each in table.columns].index("Training compute")
    assert [row[column] for row in table.rows[:2]] == ["120.0 G MACs", "377.9 G MACs"]
    sections = [section.title for section in comparison_document(found).sections]
    assert "At equal training compute" in sections
    assert differences(*found.methods, COMPUTE)
    (axes,) = compared_figure(found, COMPUTE).axes
    assert axes.get_xlabel() == "Training compute (MACs, counted), logarithmic"
    assert list(compared(runs, ("training_compute",)).costs) == [COMPUTE]


def test_journals_that_do_not_say_leave_it_out(tmp_path: Path) -> None:
    says = read_run(made_up(tmp_path / "new", POINTS, images=1000))
    silent = read_run(made_up(tmp_path / "old", POINTS, name="old", **OTHER))
    bare = read_run(made_up(tmp_path / "bare", POINTS, name="old", seed=1, **OTHER))
    assert silent.compute_to(0) is None
    found = compared([says, silent])
    assert COMPUTE not in found.costs
    assert found.warnings[-1] == (
        f"Training compute is left out: {silent.folder} does not report it in the unit of the others."
    )
    assert compared([silent, bare]).warnings == (), "nobody asked for it"


def test_a_price_of_that_name_is_the_users(tmp_path: Path) -> None:
    own = [{"training_compute": cost(5.0, "h")} for _ in POINTS]
    run = read_run(made_up(tmp_path / "a", POINTS, images=1000, prices=own))
    assert run.units()[COMPUTE] == "h"
    assert run.cost(COMPUTE, 0) == 5.0


def test_prices_of_one_name_by_one_device_are_not_doubted(tmp_path: Path) -> None:
    """The recipes' own hardware differs, but the further price names its device itself."""
    board = [{"pixel": cost(0.002, "s", "estimated: roofline")}]

    def run(name: str, profile: str):
        shown = {"price": [{"name": "pixel", "provider": "roofline", "options": {"profile": profile}}]}
        folder = made_up(
            tmp_path / f"{name}-{profile}", [(10e6, 0.6)], name=name, prices=board, hardware={"profile": name}
        )
        text = (folder / "recipe.json").read_text()
        (folder / "recipe.json").write_text(json.dumps({**json.loads(text), "report": shown}))
        return read_run(folder)

    assert compared([run("a", "pixel"), run("b", "pixel")], ("pixel",)).warnings == ()
    (doubt,) = compared([run("c", "pixel"), run("d", "phone")], ("pixel",)).warnings
    assert "origin of pixel differs: roofline (profile = pixel) (c); roofline (profile = phone) (d)" in doubt


def test_the_line_of_a_pruned_method_goes_from_left_to_right(tmp_path: Path) -> None:
    found = compared([read_run(made_up(tmp_path / "p", POINTS[::-1], replaced="pruned"))])
    (axes,) = compared_figure(found, CostName("macs")).axes
    (line,) = [line for line in axes.lines if line.get_label() != "_child0" and len(line.get_xdata()) == 3]
    assert list(line.get_xdata()) == [10e6, 20e6, 40e6]
    assert list(line.get_ydata()) == pytest.approx([60, 70, 75])
