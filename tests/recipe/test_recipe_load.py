"""Recipes from files: extends, --set, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from energysplit.errors import RecipeError
from energysplit.recipe import Recipe, before_and_now, changes, from_dict, load, override

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

MINIMAL = """
[model]
name = "mlp"
[data]
name = "digits"
[train]
epochs = 2
[growth]
stages = 1
[[budget]]
provider = "macs"
limit = "1.5x"
scope = "stage"
"""


@pytest.fixture
def write(tmp_path):
    """Writes a recipe beside the others of the test."""

    def write(text: str, name: str = "small.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_minimal_recipe_has_the_documented_defaults(write):
    recipe = load(write(MINIMAL))
    assert recipe.name == "small"
    assert recipe.index.method == "lobpcg"
    assert recipe.index.curvature == "exact"
    assert recipe.train.schedule == "cosine"
    assert recipe.growth.method == "milp"
    assert recipe.report.providers == ("macs", "params")
    assert recipe.budget[0].limit == "1.5x"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_loads_and_says_what_to_expect(path):
    recipe = load(path)
    assert recipe.name == path.stem
    comment = path.read_text().split("\n\n")[0]
    for words in ("Expected accuracy:", "Cost:", "Time:"):
        assert words in comment, f"{path.name}: its first comment does not say '{words}'"


def test_extends_merges_tables_deeply_and_replaces_lists(write):
    write(MINIMAL + '[model.args]\nwidths = [4, 4]\nactivation = "relu"\n', "base.toml")
    child = write('extends = "base.toml"\n[model.args]\nwidths = [8]\n[train]\nbatch_size = 7\n', "child.toml")
    recipe = load(child)
    assert recipe.model.args == {"widths": [8], "activation": "relu"}
    assert (recipe.train.epochs, recipe.train.batch_size) == (2, 7)
    assert recipe.name == "child"


def test_extends_is_relative_to_the_file_and_goes_several_steps(write):
    write('name = "seedling"\nseed = 1\n' + MINIMAL, "base.toml")
    write('extends = "../base.toml"\nseed = 2\n', "deeper/middle.toml")
    recipe = load(write('extends = "deeper/middle.toml"\n[train]\nepochs = 9\n', "top.toml"))
    assert (recipe.seed, recipe.train.epochs) == (2, 9)
    assert recipe.name == "top", "the base's name would send both runs to one folder"


def test_a_circle_of_extends_is_refused(write):
    write('extends = "b.toml"\n', "a.toml")
    write('extends = "c.toml"\n', "b.toml")
    path = write('extends = "b.toml"\n', "c.toml")
    with pytest.raises(RecipeError, match=r"circle: .*c\.toml -> .*b\.toml -> .*c\.toml"):
        load(path)
    itself = write('extends = "self.toml"\n', "self.toml")
    with pytest.raises(RecipeError, match="circle"):
        load(itself)


@pytest.mark.parametrize(
    ("override_text", "key", "expected"),
    [
        ("train.epochs=[3, 1]", "train.epochs", (3, 1)),
        ("train.learning_rate=1e-2", "train.learning_rate", 0.01),
        ("data.augment=false", "data.augment", False),
        ("model.name=cnn", "model.name", "cnn"),
        ('model.name="cnn"', "model.name", "cnn"),
        ("data.root=/some/where", "data.root", "/some/where"),
        ("data.root=a=b", "data.root", "a=b"),
        (" train.epochs = 4 ", "train.epochs", 4),
    ],
)
def test_overrides_are_read_as_toml_else_as_text(write, override_text, key, expected):
    recipe = load(write(MINIMAL), [override_text])
    section, name = key.split(".")
    assert getattr(getattr(recipe, section), name) == expected


def test_overrides_reach_list_items_tables_and_new_arguments(write):
    path = write(MINIMAL)
    recipe = load(path, ["budget.0.limit=2e6", "budget.0.scope=network", "model.args.widths=[5]", "step.size=0.1"])
    assert (recipe.budget[0].limit, recipe.budget[0].scope) == (2e6, "network")
    assert recipe.model.args == {"widths": [5]}
    assert recipe.step.size == 0.1
    two = load(path, ['budget=[{provider="macs", limit=1.0}, {provider="params", limit="2x"}]'])
    assert [budget.provider for budget in two.budget] == ["macs", "params"]


def test_overrides_are_never_evaluated_nor_smuggle_in_keys(write):
    path = write(MINIMAL)
    assert load(path, ["data.root=__import__('os').getcwd()"]).data.root == "__import__('os').getcwd()"
    assert load(path, ["data.root=1\nseed = 3"]).data.root == "1\nseed = 3"
    assert load(path, ["data.root=1\nseed = 3"]).seed == 0


@pytest.mark.parametrize(
    ("override_text", "message"),
    [
        ("train.epochs", r"--set train\.epochs: expected key=value"),
        ("=3", "expected key=value"),
        ("train..epochs=3", "expected key=value"),
        ("train.epohcs=3", r"--set train\.epohcs: train\.epohcs: unknown key; did you mean 'epochs'"),
        ("trian.epochs=3", r"--set trian\.epochs: trian: unknown key; did you mean 'train'"),
        ("budget.1.limit=3", "budget is a list; expected a number from 0 to 0, given '1'"),
        (f"budget.{'1' * 5000}.limit=3", "budget is a list; expected a number from 0 to 0, given '11"),
        ("budget.limit=3", "budget is a list; expected a number from 0 to 0, given 'limit'"),
        ("train.epochs.0=3", r"train\.epochs has the value 2 \(a whole number\) and no keys"),
        (
            "train.epochs=ten",
            r'--set train\.epochs: train\.epochs: expected a whole number >= 1.*given "ten" \(a string\)',
        ),
        ("train=3", "--set train: train: expected a table"),
        ("data.root=/d/\udce9", r"--set data\.root: data\.root: it holds a character that can't be written"),
        ("data.root=a\0b", r"--set data\.root: data\.root: it holds a character that can't be written"),
        ("model.args.x=[1, {a='\udce9'}]", r"model\.args: it holds a character that can't be written"),
        ("model.args.\udce9=1", r"model\.args: it holds a character that can't be written"),
    ],
)
def test_wrong_overrides_say_what_was_expected(write, override_text, message):
    with pytest.raises(RecipeError, match=message):
        load(write(MINIMAL), [override_text])


def test_files_that_are_not_there_or_no_toml(write, tmp_path):
    write(MINIMAL, "digits.toml")
    with pytest.raises(RecipeError, match=r"digit\.toml: no such recipe file; did you mean 'digits\.toml'"):
        load(tmp_path / "digit.toml")
    with pytest.raises(RecipeError, match="no such recipe file; expected the path of a TOML file"):
        load(tmp_path / "nowhere" / "x.toml")
    with pytest.raises(RecipeError, match=r"child\.toml: extends: .*gone\.toml: no such recipe file"):
        load(write('extends = "gone.toml"', "child.toml"))
    with pytest.raises(RecipeError, match="is a folder; expected a recipe file"):
        load(tmp_path)
    with pytest.raises(RecipeError, match=r"broken\.toml: not valid TOML: .*line 2"):
        load(write("seed = 1\n[model\n", "broken.toml"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8 text"):
        load(binary)
    with pytest.raises(RecipeError, match=r"extends: expected the file name of one recipe, given \[1\] \(a list\)"):
        load(write("extends = [1]", "list.toml"))


def test_an_error_names_the_file_the_key_stands_in(write):
    write(MINIMAL.replace("epochs = 2", "epochs = 0"), "base.toml")
    child = write('extends = "base.toml"\n[data]\nvalidation = 2.0\n', "child.toml")
    with pytest.raises(RecipeError) as caught:
        load(child, ["run.device=gpu"])
    lines = str(caught.value).splitlines()
    assert [line for line in lines if "base.toml: train.epochs: expected a whole number >= 1" in line]
    assert [line for line in lines if "child.toml: data.validation: expected a number > 0 and < 1" in line]
    assert [line for line in lines if line.startswith("--set run.device: run.device: expected 'auto', 'cpu'")]
    assert len(lines) == 3


def test_resolved_is_complete_json_and_reads_back_equal(write):
    import json

    for path in [*RECIPES.glob("*.toml"), write(MINIMAL)]:
        recipe = load(path)
        stored = json.loads(json.dumps(recipe.resolved(), allow_nan=False))
        assert from_dict(stored) == recipe
        assert changes(recipe, stored) == []
        assert set(stored) == set(Recipe.model_fields)


def test_a_run_from_before_there_was_hardware_can_be_resumed(write):
    recipe = load(write(MINIMAL))
    old = recipe.resolved()
    del old["hardware"], old["export"]["measure"], old["budget"][0]["options"]
    kept = str(old)
    assert changes(recipe, old) == []
    assert str(old) == kept, "what was compared is left as it is"
    new = override(recipe, ["hardware.profile=gap9", "export.measure=false", "budget.0.options.precision=int8"])
    assert changes(new, old) == ["budget.0.options", "budget.0.options.precision", "export.measure", "hardware.profile"]


def test_a_run_from_before_there_were_bounds_and_signed_splits_can_be_resumed(write):
    recipe = load(write(MINIMAL))
    old = recipe.resolved()
    for key in ("risk", "signed", "mass", "bounds"):
        del old["growth"][key]
    assert changes(recipe, old) == []
    new = override(recipe, ["growth.risk=1", "growth.signed=true", "growth.bounds.stem.max_channels=8"])
    assert changes(new, old) == [
        "growth.bounds", "growth.bounds.stem.frozen", "growth.bounds.stem.max_channels", "growth.risk", "growth.signed",
    ]  # fmt: skip


def test_a_run_from_before_there_was_shrinkage_goes_on_without(write):
    recipe = load(write(MINIMAL))
    old = recipe.resolved()
    del old["index"]["shrinkage"]
    assert changes(recipe, old) == ["index.shrinkage"]
    assert changes(override(recipe, ["index.shrinkage=none"]), old) == []


def test_bounds_of_a_file_add_to_those_of_its_base(write):
    write(MINIMAL + '[growth.bounds]\n"blocks.*" = { max_channels = 8 }\nstem = { frozen = true }\n', "base.toml")
    child = load(write('extends = "base.toml"\n[growth.bounds."blocks.*"]\nmax_channels = 9\n', "child.toml"))
    assert {name: bound.max_channels for name, bound in child.growth.bounds.items()} == {"blocks.*": 9, "stem": None}


def test_changes_names_the_keys_that_differ(write):
    path = write(MINIMAL)
    old = load(path)
    new = override(old, ["budget.0.limit=3.0", "data.limit=9", "model.args.widths=[1]"])
    assert changes(new, old.resolved()) == ["budget.0.limit", "data.limit", "model.args", "model.args.widths"]
    # A list of numbers is one value, and what a new table has says that it is new.
    assert before_and_now(new, old.resolved(), changes(new, old.resolved())) == {
        "budget.0.limit": ("1.5x", 3.0),
        "data.limit": (None, 9),
        "model.args.widths": (None, [1]),
    }
    new = override(old, ["train.epochs=[1, 2]", "growth.stages=2"])
    assert changes(new, old.resolved()) == ["growth.stages", "train.epochs"]
    without = old.resolved()
    del without["step"]["largest"]
    assert changes(old, without) == ["step.largest"]


def test_from_dict_names_its_source():
    with pytest.raises(RecipeError, match=r"run/recipe\.json: expected a table of recipe keys, given 3"):
        from_dict(3, "run/recipe.json")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"run/recipe\.json: model: missing; expected a table \(the seed network\)"):
        from_dict({"name": "x"}, "run/recipe.json")
