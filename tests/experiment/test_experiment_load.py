"""Experiments from files: what they become, and what is said about a wrong one; all without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from experiment_files import TINY, experiment_file, tiny_plan

from energysplit import plain_data
from energysplit.errors import RecipeError
from energysplit.experiment.load import load_experiment
from energysplit.experiment.plan import make_plan
from energysplit.experiment.recipe_file import write_recipe
from energysplit.recipe import load


def test_runs_seeds_folders_and_what_is_shared(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path)
    names = ["grown-seed0", "top-k-vanilla-seed0", "grown-seed1", "top-k-vanilla-seed1"]
    assert [run.name for run in plan.runs] == names
    assert plan.folder == tmp_path / "runs" / "tiny-growth" / "small"
    assert [run.folder for run in plan.runs] == [plan.folder / name for name in names]
    assert [run.recipe.name for run in plan.runs] == ["grown", "Top k (vanilla)"] * 2
    assert [run.recipe.seed for run in plan.runs] == [0, 0, 1, 1]
    assert [run.recipe.growth.method for run in plan.runs] == ["milp", "top_k"] * 2
    assert [plan.leader(run).name for run in plan.runs] == [names[0], names[0], names[2], names[2]]
    assert (sum(run.epochs for run in plan.runs), plan.saved_epochs) == (8, 2)


LAYERS = """
title = "t"
question = "q?"
recipe = "tiny.toml"
[size.small]
expect = "e"
set = { "train.epochs" = 3, "train.batch_size" = 64, "index.images" = 100, "run.threads" = 2 }
[size.full]
recipe = "other.toml"
seeds = [7]
expect = "e"
[[method]]
name = "a"
[method.set]
train = { batch_size = 32 }
index.images = 90
[method.size.small.set]
"index.images" = 80
"budget.0.limit" = "2x"
[[method]]
name = "b"
sizes = ["full"]
set = { "growth.method" = "greedy" }
"""


def test_the_more_particular_wins_and_tables_merge(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, LAYERS, overrides=["train.epochs=5"])
    assert [run.seed for run in plan.runs] == [0, 1, 2]
    recipe = plan.runs[0].recipe
    assert all(run.recipe == recipe.model_copy(update={"seed": run.seed}) for run in plan.runs)
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.learning_rate) == (5, 32, 0.1)
    assert (recipe.index.images, recipe.index.held_out_images) == (80, 128)
    assert (recipe.budget[0].limit, recipe.budget[0].provider, recipe.run.threads) == ("2x", "macs", 2)


def test_sizes_have_bases_seeds_and_methods_of_their_own(tmp_path: Path) -> None:
    path = experiment_file(tmp_path, LAYERS)
    (tmp_path / "other.toml").write_text('extends = "tiny.toml"\n[train]\nepochs = 9\n')
    plan = make_plan(path, "full")
    assert [(run.method, run.seed, run.recipe.train.epochs) for run in plan.runs] == [("a", 7, 9), ("b", 7, 9)]


def test_a_number_of_threads_nobody_sets_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = experiment_file(tmp_path)
    text = (tmp_path / "tiny.toml").read_text()
    assert "threads = 1\n" in text
    (tmp_path / "tiny.toml").write_text(text.replace("threads = 1\n", ""))
    assert load(tmp_path / "tiny.toml").run.threads is None
    read, read_toml = [], plain_data.read_toml
    monkeypatch.setattr(plain_data, "read_toml", lambda file: read.append(file.name) or read_toml(file))
    plan = make_plan(path)
    assert {run.recipe.run.threads for run in plan.runs} == {1}
    assert read.count("tiny.toml") == len(plan.runs)  # what was asked about is what is used
    assert {run.recipe.run.threads for run in make_plan(path, overrides=["run.threads=2"]).runs} == {2}


FOLLOWING = TINY.replace(
    '[[method]]\nname = "grown"',
    '[[method]]\nname = "scratch"\nset = { baseline = { kind = "from_scratch", sizes_of = "{run:grown}" } }\n'
    '[[method]]\nname = "pupil"\nset = { train.teacher.run = "{run:scratch}/stages/1" }\n'
    '[[method]]\nname = "grown"',
)


def test_placeholders_become_folders_of_the_same_seed_and_make_an_order(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, FOLLOWING)
    assert [run.method for run in plan.runs] == ["grown", "scratch", "pupil", "Top k (vanilla)"] * 2
    run = plan.run("scratch-seed1")
    assert run.needs == ("grown-seed1",)
    assert run.recipe.baseline is not None
    assert run.recipe.baseline.sizes_of == str(plan.folder / "grown-seed1")
    assert run.epochs == 3, "stage 1 has fresh weights, so it trains as long as both stages together"
    pupil = plan.run("pupil-seed0")
    assert pupil.recipe.train.teacher is not None
    assert pupil.recipe.train.teacher.run == str(plan.folder / "scratch-seed0" / "stages" / "1")
    assert plan.leader(pupil) is pupil, "a teacher makes another training"
    assert plan.leader(run) is plan.run("grown-seed1")


def test_chosen_methods_bring_those_they_follow(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, FOLLOWING, methods=["scratch"], seeds=[5])
    assert [run.name for run in plan.runs] == ["grown-seed5", "scratch-seed5"]
    with pytest.raises(RecipeError, match="--method grwn: no such method at size small; did you mean 'grown'"):
        tiny_plan(tmp_path, FOLLOWING, methods=["grwn"])


def test_a_circle_is_named(tmp_path: Path) -> None:
    text = FOLLOWING.replace('name = "grown"\n', 'name = "grown"\nset = { train.teacher.run = "{run:pupil}" }\n')
    with pytest.raises(RecipeError, match="in a circle: 'scratch' -> 'grown' -> 'pupil' -> 'scratch'"):
        tiny_plan(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Tiny"', 'titel = "Tiny"', "titel: unknown key; did you mean 'title'"),
        ('title = "Tiny"\n', "", "title: missing; expected a string (title of the page)"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "seeds: expected seeds that differ, given 0 twice"),
        ("seeds = [0, 1]", "seeds = []", "seeds: "),
        ("seeds = [0, 1]", 'seeds = ["0"]', "seeds.0: expected a whole number >= 0"),
        ("[size.small]", "[size.smal]", "size.smal: unknown key; did you mean 'small'"),
        ('expect = "seconds"', "", "size.small.expect: missing"),
        ('name = "grown"', 'name = "a/b"', "method.0.name: expected a name of 100 characters or fewer"),
        ('name = "grown"', f'name = "{"x" * 300}"', "method.0.name: expected a name of 100 characters or fewer"),
        ('name = "grown"', 'name = "top K vanilla"', "expected names of methods (letters and digits of them)"),
        ('name = "grown"', 'name = "grown"\nsizes = ["smal"]', "expected 'small' or 'full'"),
        ('"growth.method"', '"growth..method"', "method.1.set: expected dotted keys"),
        ('"growth.method" = "top_k"', "seed = 3", "'seed' is set by the experiment itself"),
        ('"growth.method" = "top_k"', '"growth.sizes_of" = "{run:grow}"', "no method 'grow'; did you mean 'grown'"),
        ('better = "grown"', 'better = "gron"', "claim.0.better: no method 'gron'; did you mean 'grown'"),
        ('than = "Top k (vanilla)"', 'than = "grown"', "claim.0: expected two methods, given 'grown' twice"),
        ('than = "Top k (vanilla)"', 'than = "Top k (vanilla)"\nat = "first"', "claim.0.at: expected 'every stage'"),
        (
            'than = "Top k (vanilla)"',
            'than = "Top k (vanilla)"\nprovider = "mac"',
            "'mac' is no cost of the comparison",
        ),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TINY
    path = experiment_file(tmp_path, TINY.replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        load_experiment(path)
    said = str(caught.value).splitlines()
    assert [line for line in said if line.startswith(f"{path}: ") and message in line], caught.value


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("[]", "reference.0.points"),
        ("[{ macs = 1e6 }]", "expected an accuracy from 0 to 1"),
        ("[{ macs = 1e6, accuracy = 70.5 }]", "expected an accuracy from 0 to 1"),
        ("[{ accuracy = 0.7 }]", "expected a cost > 0 beside the accuracy"),
        ("[{ macs = 0, accuracy = 0.7 }]", "expected a cost > 0 beside the accuracy"),
    ],
)
def test_published_points_are_checked(tmp_path: Path, points: str, message: str) -> None:
    text = TINY + f'[[reference]]\nname = "AMC"\nsource = "He et al. 2018"\npoints = {points}\n'
    with pytest.raises(RecipeError) as caught:
        load_experiment(experiment_file(tmp_path, text))
    assert message in str(caught.value)


def test_a_wrong_recipe_key_names_the_table_it_came_from(tmp_path: Path) -> None:
    path = experiment_file(tmp_path, TINY.replace('"growth.method" = "top_k"', '"growth.methd" = "top_k"'))
    with pytest.raises(RecipeError, match=r"tiny-growth\.toml, method 'Top k \(vanilla\)': growth\.methd: unknown key"):
        make_plan(path)
    path = experiment_file(tmp_path, TINY.replace('"seconds"', '"seconds"\nset = { "train.epochs" = 0 }'))
    with pytest.raises(RecipeError, match=r"tiny-growth\.toml, size small: train\.epochs: expected"):
        make_plan(path)
    path = experiment_file(tmp_path, TINY.replace('"tiny.toml"', '"tinny.toml"'))
    with pytest.raises(RecipeError, match="no such recipe file; did you mean 'tiny.toml'"):
        make_plan(path)


def test_what_the_command_line_may_not_do(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    with pytest.raises(RecipeError, match="--set seed=3: seed is set by the experiment itself; give seeds with --seed"):
        make_plan(path, overrides=["seed=3"])
    with pytest.raises(RecipeError, match=r"there is no \[size\.full\]; add it, or run --size small"):
        make_plan(path, "full")
    with pytest.raises(RecipeError, match="'grown' and 'Top k .vanilla.' have the same recipe with seed 0"):
        make_plan(path, overrides=["growth.method=lp"])
    with pytest.raises(RecipeError, match="no such experiment file; did you mean 'tiny-growth.toml'"):
        make_plan(path.with_name("tiny-grown.toml"))


def test_a_resolved_recipe_is_written_whole(tmp_path: Path) -> None:
    recipe = tiny_plan(tmp_path, FOLLOWING).run("pupil-seed1").recipe
    path = write_recipe(tmp_path / "deeper" / "pupil.toml", recipe)
    assert load(path) == recipe
    with pytest.raises(RecipeError, match=r"null in model\.args"):
        write_recipe(path, recipe.model_copy(update={"model": recipe.model.model_copy(update={"args": {"a": None}})}))


def test_planning_needs_no_torch(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    code = (
        "import sys\nfrom energysplit.experiment.plan import make_plan\nimport energysplit.experiment.runner\n"
        f"from energysplit.experiment.state import state_of\nrun = make_plan({str(path)!r}).runs[0]\n"
        "state_of(run.folder, run.recipe)\nprint([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
