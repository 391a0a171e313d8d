"""Code that a recipe names is run without asking only where the recipe lies in the working folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from compared_runs import made_up
from typer.testing import CliRunner

from energysplit import models
from energysplit.cli.app import app
from energysplit.errors import RecipeError
from energysplit.experiment.plan import make_plan
from energysplit.recipe import Setting, from_dict, load
from energysplit.recipe.own_code import LIBRARIES, check_code, in_working_folder
from energysplit.recipe.saved import saved_recipe

PLAIN = """
[model]
name = "mlp"
[data]
name = "digits"
[train]
epochs = 1
[index]
images = 8
held_out_images = 8
[growth]
stages = 1
[[budget]]
provider = "macs"
limit = "1.5x"
"""
CODE = PLAIN.replace('"mlp"', '"stranger_code:net"')
STRANGER = "from pathlib import Path\n\nPath(__file__).with_name('was_run').touch()\n\nnet = price = None\n"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside the working folder, with a module that can be imported and leaves a mark when it is."""
    for name in ("elsewhere", "working"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.delitem(sys.modules, "stranger_code", raising=False)
    (tmp_path / "elsewhere" / "stranger_code.py").write_text(STRANGER)
    return tmp_path / "elsewhere"


def was_run(elsewhere: Path) -> bool:
    return (elsewhere / "was_run").exists()


def written(folder: Path, text: str, name: str = "theirs.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def run_of(folder: Path, **changed: dict[str, Any]) -> Path:
    """A run folder with a finished stage; what its seed is of is only read after its recipe."""
    run = made_up(folder / "run", [(100.0, 0.5), (200.0, 0.6)])
    recipe = from_dict({**saved_recipe(run), "train": {"epochs": 1}}).resolved()
    recipe = {
        key: {**value, **changed.get(key, {})} if isinstance(value, dict) else value for key, value in recipe.items()
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "stages" / "0").mkdir(parents=True)
    for name in ("network.json", "index.safetensors"):
        (run / "stages" / "0" / name).write_text("{}")
    return run


CODE_KEYS = [
    (CODE, "model.name = 'stranger_code:net'"),
    (PLAIN.replace('"macs"', '"stranger_code:Cost"'), "budget.0.provider = 'stranger_code:Cost'"),
    (PLAIN + '[report]\nproviders = ["macs", "stranger_code:Cost"]\n', "report.providers.1 = 'stranger_code:Cost'"),
    (
        PLAIN + '[[report.price]]\nname = "a"\nprovider = "stranger_code:Cost"\n',
        "report.price.0.provider = 'stranger_code:Cost'",
    ),
    (
        PLAIN.replace('"macs"', '"weighted"') + '[budget.options.parts]\n"stranger_code:Cost" = 1.0\n',
        "budget.0.options.parts.stranger_code:Cost = 'stranger_code:Cost'",
    ),
    (
        PLAIN + '[[report.price]]\nname = "a"\nprovider = "weighted"\noptions.parts.b = { weight = 1.0, provider = '
        '"weighted", parts = { c = { weight = 1.0, provider = "stranger_code:Cost" } } }\n',
        "report.price.0.options.parts.b.parts.c.provider = 'stranger_code:Cost'",
    ),
]


@pytest.mark.parametrize(("text", "said"), CODE_KEYS)
def test_every_key_that_names_code_is_named(elsewhere, text, said):
    theirs = written(elsewhere, text)
    with pytest.raises(RecipeError, match="add --allow-code") as refused:
        load(theirs, allow_code=False)
    assert str(refused.value).startswith(f"{theirs}: {said} runs code, and the file is not in the working folder")
    assert load(theirs) == load(written(Path.cwd(), text), allow_code=False)


def test_what_comes_with_libraries_is_no_code_of_anybodys(elsewhere):
    for name in ("torchvision:resnet18", "timm:repvgg_a0"):
        load(written(elsewhere, PLAIN.replace('"mlp"', f'"{name}"')), allow_code=False)
    assert set(LIBRARIES) == {models.torchvision_models.PREFIX, models.timm_models.PREFIX}
    assert not any(":" in name for name in models.names())


def test_the_file_that_names_code_is_what_counts(elsewhere):
    theirs, base = written(elsewhere, PLAIN), written(elsewhere, CODE, "base.toml")
    load(theirs, ["model.name=stranger_code:net"], allow_code=False)  # typed
    ours = written(Path.cwd(), f'extends = "{base}"\n', "ours.toml")
    with pytest.raises(RecipeError, match=r"base\.toml: model\.name"):
        load(ours, allow_code=False)
    load(written(Path.cwd(), f'extends = "{base}"\nmodel.name = "mlp"\n', "ours.toml"), allow_code=False)
    with pytest.raises(RecipeError, match=r"set\.toml: model\.name"):
        load(ours, (), [Setting("model.name", "stranger_code:net", "there", elsewhere / "set.toml")], allow_code=False)
    Path("link.toml").symlink_to(base)
    with pytest.raises(RecipeError, match=r"link\.toml: model\.name"):
        load("link.toml", allow_code=False)


def test_an_address_is_never_in_the_working_folder(elsewhere):
    folder = Path("https:") / "example.org"
    folder.mkdir(parents=True)
    with pytest.raises(RecipeError, match=r"https:/example\.org/theirs\.toml: model\.name"):
        load(f"{written(folder, CODE)}", allow_code=False)
    assert not in_working_folder(Path("file://x/theirs.toml"))
    assert in_working_folder(Path("a") / "b:c" / "theirs.toml")


def test_a_teachers_recipe_is_asked_for_too(elsewhere):
    run = run_of(elsewhere, model={"name": "stranger_code:net"})
    for folder in (run, run / "stages" / "0"):
        with pytest.raises(RecipeError, match=r"recipe\.json: model\.name = 'stranger_code:net' runs code"):
            check_code({"train": {"teacher": {"run": str(folder)}}}, lambda _: None)
    shutil.copytree(run / "stages", Path("kept"))  # the stage may lie elsewhere; where it is named is what counts
    shutil.rmtree(run / "stages" / "0")
    (run / "stages" / "0").symlink_to(Path("kept", "0").resolve())
    with pytest.raises(RecipeError, match=r"recipe\.json: model\.name = 'stranger_code:net' runs code"):
        check_code({"train": {"teacher": {"run": str(run / "stages" / "0")}}}, lambda _: None)
    (run / "recipe.json").write_text("damaged")
    check_code({"train": {"teacher": {"run": str(run)}}}, lambda _: None)


EXPERIMENT = """
title = "t"
question = "q"
seeds = [0]
recipe = "ours.toml"
[[method]]
name = "a"
set = { "model.name" = "stranger_code:net" }
[size.small]
expect = "nothing"
"""


def test_what_an_experiment_sets_counts_as_its_own(elsewhere):
    for folder in (elsewhere, Path.cwd()):
        written(folder, PLAIN, "ours.toml")
        written(folder, EXPERIMENT, "experiment.toml")
    with pytest.raises(RecipeError, match=r"experiment\.toml: model\.name"):
        make_plan(elsewhere / "experiment.toml", allow_code=False)
    assert make_plan("experiment.toml", allow_code=False).runs[0].recipe.model.name == "stranger_code:net"


def commands(recipe: Path, run: Path, experiment: Path) -> dict[str, list[str]]:
    return {
        "grow": ["grow", str(recipe), "--dry-run"],
        "price a recipe": ["price", str(recipe)],
        "price a recipe of another name": ["price", str(recipe.parent / "theirs.txt")],
        "price a run": ["price", str(run)],
        "profile": ["profile", "--for", str(recipe), "--kit", "kit.zip"],
        "allocate": ["allocate", str(run)],
        "frontier": ["frontier", str(run)],
        "export": ["export", str(run), "--out", "model.onnx"],
        "experiment": ["experiment", str(experiment), "--dry-run"],
    }


@pytest.mark.parametrize("command", commands(Path(), Path(), Path()))
def test_every_command_that_would_run_code_asks(elsewhere, command):
    written(elsewhere, PLAIN, "ours.toml")
    written(elsewhere, CODE, "theirs.txt")
    theirs = written(elsewhere, CODE), run_of(elsewhere, model={"name": "stranger_code:net"})
    arguments = commands(*theirs, written(elsewhere, EXPERIMENT, "experiment.toml"))[command]
    asked = CliRunner().invoke(app, arguments)
    assert (asked.exit_code, asked.stdout) == (2, "")
    assert "model.name = 'stranger_code:net' runs code" in asked.stderr
    assert asked.stderr.rstrip().endswith("then add --allow-code")
    assert not was_run(elsewhere)
    allowed = CliRunner().invoke(app, [*arguments, "--allow-code"])
    assert "runs code" not in allowed.stderr, allowed.output
    assert was_run(elsewhere) or command == "experiment"  # which lists recipes and builds none


@pytest.mark.parametrize("arguments", [["report", "RUN"], ["compare", "RUN", "--out", "comparison"]])
def test_what_only_shows_a_run_runs_nothing_of_it(elsewhere, arguments, monkeypatch):
    for draw, nothing in (("to_svg", ""), ("to_png", b"")):
        monkeypatch.setattr(f"energysplit.output.figure_style.{draw}", lambda *_, nothing=nothing, **__: nothing)
    run = run_of(elsewhere, model={"name": "stranger_code:net"})
    shown = CliRunner().invoke(app, [str(run) if word == "RUN" else word for word in arguments])
    assert shown.exit_code == 0, shown.output
    assert not was_run(elsewhere)


@pytest.mark.parametrize(("first", "safe"), [("", False), ("WORKING", False), ("elsewhere", True)])
def test_runs_of_an_experiment_look_for_modules_where_it_looks(elsewhere, monkeypatch, first, safe):
    from energysplit.experiment import processes

    written(elsewhere, PLAIN, "ours.toml")
    run = make_plan(written(elsewhere, EXPERIMENT, "experiment.toml")).runs[0]
    started: list[list[str]] = []
    monkeypatch.setattr(processes, "GroupProcess", lambda command, *_: started.append(command))
    monkeypatch.setattr(sys, "path", [str(Path.cwd()) if first == "WORKING" else first])
    processes.start_process(run, Path("ours.toml"), Path("log"), resume=False)
    assert ("-P" in started[0]) == safe
    assert "--allow-code" in started[0]
