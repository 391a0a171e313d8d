"""The experiments of the repository: they load, their recipes are valid at both sizes, their claims can be judged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from energysplit.experiment.load import load_experiment
from energysplit.experiment.plan import make_plan
from energysplit.experiment.schema import SIZES

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments").glob("*.toml"))
NAMES = {path.stem for path in FILES}


def test_the_paper_and_ours_are_there() -> None:
    paper = {"figure3_k3", "figure3_k6", "figure4", "figure5", "figure6", "table1", "table2"}
    assert paper | {"curvature", "solvers", "latency", "signed", "devices", "directions"} <= NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_resolves_at_both_sizes(path: Path) -> None:
    comment = path.read_text().split("\n\n")[0]
    for words in ("# Question:", "# Cost:", "# Time:"):
        assert words in comment, f"{path.name}: its first comment does not say '{words}'"
    experiment = load_experiment(path)
    for size in SIZES:
        plan = make_plan(path, size)
        seeds = {run.seed for run in plan.runs}
        assert len(plan.runs) == len(seeds) * len(experiment.methods(size))
        assert len(seeds) >= 3 or size == "full"
        reported = [
            {*run.recipe.report.providers, "training_compute", *(price.name for price in run.recipe.report.price)}
            for run in plan.runs
        ]
        common = set.intersection(*reported)
        assert common >= set(experiment.providers), "compared is what every run reports"
        taking_part = {run.method for run in plan.runs}
        for claim in experiment.claim:
            if {claim.better, claim.than} <= taking_part:
                assert claim.provider in common
                assert not experiment.providers or claim.provider in experiment.providers
        for run in plan.runs:
            assert run.recipe.run.threads is not None
            if size == "small":
                assert run.recipe.data.name == "cifar10"
                assert run.recipe.run.device == "cpu"


def test_the_file_that_the_documentation_shows_is_one(tmp_path: Path) -> None:
    shown = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "experiments.md").read_text(), re.DOTALL)
    assert shown is not None
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "shown.toml"
    file.write_text(shown[1])
    small, full = (make_plan(file, size) for size in SIZES)
    assert [run.method for run in small.runs[:3]] == ["unsigned", "signed", "from scratch"]
    assert {run.method for run in full.runs} == {"unsigned", "signed"}


def test_the_documentation_names_every_experiment() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()
    assert set(re.findall(r"`(\w+)\.toml`", text)) == NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_growths_that_are_compared_at_size_small_train_equally_long(path: Path) -> None:
    runs = make_plan(path, "small").runs
    if path.stem == "find_widths":  # where a short growth and the training that follows on it are one method together
        epochs = {run.method: run.recipe.train for run in runs}
        names = ["short growth", "short growth, then from scratch", "energy-aware"]
        names += ["search in one run", "short growth, its weights kept"]
        names += ["fresh neurons in one run", "prices alone in one run"]
        short, then, *others = ([epochs[name].epochs_at(stage) for stage in range(5)] for name in names)
        assert {sum(each) for each in others} == {sum(short) + sum(then)}
        return
    assert len({run.epochs for run in runs if run.recipe.baseline is None}) == 1
    assert len({run.recipe.train.epochs_at(0) for run in runs}) == 1
