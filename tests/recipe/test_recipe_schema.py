"""The schema's bounds, and the sentences that say what a key takes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from energysplit.errors import RecipeError
from energysplit.recipe import Recipe, from_dict, override

BASE = {
    "name": "small",
    "model": {"name": "mlp"},
    "data": {"name": "digits"},
    "train": {"epochs": 2},
    "growth": {"stages": 1},
    "budget": [{"provider": "macs", "limit": "1.5x"}],
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=-1", r"seed: expected a whole number >= 0 \(seed of everything random\), given -1"),
        ("seed=1.5", r"given 1\.5 \(a number\)"),
        ("seed=true", "seed: expected a whole number >= 0.*, given true$"),
        ("name=a/b", "name: expected a name without /"),
        ("name=..", "name: expected a name without /"),
        ("data.validation=0", "expected a number > 0 and < 1"),
        ("data.validation=1", "expected a number > 0 and < 1"),
        ("train.epochs=0", r"expected a whole number >= 1, or a list, each item a whole number >= 1 \(epochs"),
        ("train.epochs=[]", "train.epochs: expected a whole number >= 1, or a list"),
        ("train.epochs=[3, 0]", r"given \[3, 0\] \(a list\)"),
        ("train.learning_rate=0", "learning_rate: expected a number > 0, or a list"),
        ("train.learning_rate=[0.1, nan]", "learning_rate: expected a number > 0"),
        ("train.optimizer=sdg", r"optimizer: expected .sgd."),
        ("train.schedule=cosin", "did you mean 'cosine'"),
        ("train.momentum=1", "momentum: expected a number >= 0 and < 1"),
        ("train.weight_decay=inf", "weight_decay: expected a number >= 0"),
        ("train.milestones=[0.8, 0.2]", "milestones: expected fractions that rise"),
        ("train.milestones=[1.5]", "milestones"),
        ("index.method=lobcpg", "expected 'lobpcg', 'rmsprop', 'exact', 'random' or 'fresh'.*did you mean 'lobpcg'"),
        ("index.linear=outgoin", "expected 'skip', 'unit' or 'outgoing'.*did you mean 'outgoing'"),
        ("index.images=0", "index.images: expected a whole number >= 1"),
        ("step.size=0", "step.size: expected a number > 0"),
        ("step.tolerance=0.9", "step.tolerance: expected a number >= 1"),
        ("growth.stages=-1", "growth.stages: expected a whole number >= 0"),
        ("growth.multiple_of=0", "multiple_of"),
        ("budget=[]", "budget: expected a list, each item a table"),
        (
            "budget.0.limit=0",
            "expected a number > 0, an amount with its unit such as '8 ms'.*multiple above 1x such as",
        ),
        ("budget.0.limit=1x", r"multiple above 1x.*given \"1x\""),
        ("budget.0.limit=0.5x", "multiple above 1x"),
        ("budget.0.limit=0 MAC", r"budget\.0\.limit: expected a number > 0.*given \"0 MAC\""),
        (
            "budget.0.limit=x1.5",
            r"budget\.0\.limit: limit 'x1\.5' does not begin with a number; expected .*a factor such as",
        ),
        ("budget.0.limit=-8 ms", r"budget\.0\.limit: limit '-8 ms' is not a finite number of at least 0; .*'1\.5x'$"),
        ('budget.0.limit="nan"', r"budget\.0\.limit: limit 'nan' is not a finite number"),
        ("budget.0.limit=nan", r"budget\.0\.limit: expected a number > 0.*given NaN"),
        ('budget.0.limit=""', r"budget\.0\.limit: limit '' is empty"),
        ("budget.0.limit=1,5 ms", r"a comma may mean thousands"),
        ("budget.0.limit=1e16 MAC", r"limit '1e16 MAC' is above 1e\+15"),
        ("growth.risk=-1", r"growth\.risk: expected a number >= 0 \(standard errors"),
        ("growth.risk=inf", r"growth\.risk: expected a number >= 0"),
        ("growth.signed=1", r"growth\.signed: expected true or false"),
        ("growth.mass=0.5", r"growth\.mass: expected a number >= 1"),
        ("growth={stages=1, signed=true, mass=1}", r"growth: signed = true needs mass > 1, given 1"),
        ("growth.bounds=3", r"growth\.bounds: expected a table of group or pattern = \{ max_channels = N \} or"),
        ("growth.bounds={a=3}", r"growth\.bounds\.a: expected a table, \{ max_channels = N \} or \{ frozen = true \}"),
        ("growth.bounds={a={max_chanels=3}}", r"bounds\.a\.max_chanels: unknown key; did you mean 'max_channels'\?"),
        ("growth.bounds={a={max_channels=0}}", r"growth\.bounds\.a\.max_channels: expected a whole number >= 1"),
        ("growth.bounds={a={frozen=1}}", r"growth\.bounds\.a\.frozen: expected true or false"),
        ("growth.bounds={a={}}", r"bounds\.a: expected one of max_channels = N and frozen = true, given neither"),
        ("growth.bounds={a={frozen=false}}", r"expected one of max_channels = N and frozen = true, given neither"),
        ("growth.bounds={a={frozen=true, max_channels=4}}", r"max_channels = N and frozen = true, given both"),
        ('growth.bounds={" "={frozen=true}}', r"growth\.bounds: expected the name of a group, or a pattern such as"),
        ("budget.0.scope=networks", "expected 'network' or 'stage'.*did you mean 'network'"),
        ("budget.0.scop=stage", r"budget\.0\.scop: unknown key; did you mean 'scope'"),
        ("run.device=cuda:", "expected 'auto', 'cpu', 'cuda' or 'cuda:N'"),
        ("run.threads=0", "run.threads: expected a whole number >= 1"),
        ("export.onnx=1", "export.onnx: expected true or false"),
        ("export.measure=1", "export.measure: expected true or false"),
        ("growth.multiple_of=auo", r"growth.multiple_of: expected a whole number >= 1, 'auto', or a table of group"),
        ("growth.multiple_of={conv = 0}", r"growth.multiple_of: expected a whole number >= 1, 'auto'"),
        ("hardware.profil=x", r"hardware\.profil: unknown key; did you mean 'profile'"),
        ("hardware.tables=3", "hardware.tables: expected a string"),
        ("hardware.strict=1", "hardware.strict: expected true or false"),
        ("budget.0.options=3", r"budget\.0\.options: expected a table"),
        ("report.providers=macs", "report.providers: expected a list, each item a string"),
    ],
)
def test_bounds_are_checked_and_said(text, message):
    with pytest.raises(RecipeError, match=message):
        override(from_dict(BASE), [text])


def test_nesterov_needs_momentum():
    with pytest.raises(RecipeError, match=r"nesterov = true needs momentum > 0"):
        override(from_dict(BASE), ["train.nesterov=true", "train.momentum=0.0"])


def test_outgoing_directions_need_exact_curvature():
    index = override(from_dict(BASE), ["index.linear=outgoing"]).index
    assert (index.linear, index.curvature) == ("outgoing", "exact")
    with pytest.raises(RecipeError, match=r"index: linear = 'outgoing' needs curvature = 'exact'"):
        override(from_dict(BASE), ["index.linear=outgoing", "index.curvature=producer"])


def test_two_limits_for_one_price_are_refused_but_two_scopes_are_not():
    both = [{"provider": "macs", "limit": 5.0}, {"provider": "macs", "limit": "1.5x", "scope": "stage"}]
    assert len(from_dict({**BASE, "budget": both}).budget) == 2
    with pytest.raises(RecipeError, match="expected one limit of 'macs' for scope 'network', given several"):
        from_dict({**BASE, "budget": [both[0], both[0]]})


def test_one_price_may_have_limits_on_two_devices():
    first = {"provider": "energy", "limit": 1.0, "options": {"profile": "stm32l4r5"}}
    second = {**first, "options": {"profile": "gap9"}}
    assert len(from_dict({**BASE, "budget": [first, second]}).budget) == 2
    with pytest.raises(RecipeError, match="expected one limit of 'energy' for scope 'network', given several"):
        from_dict({**BASE, "budget": [first, {**first, "limit": 2.0}]})


def test_multiples_are_a_number_a_word_or_a_table():
    for text, value in (
        ("4", 4),
        ("auto", "auto"),
        ('{ "blocks.0.conv" = 8, other = 1 }', {"blocks.0.conv": 8, "other": 1}),
    ):
        recipe = override(from_dict(BASE), [f"growth.multiple_of={text}"])
        assert recipe.growth.multiple_of == value
        assert from_dict(recipe.resolved()) == recipe


@pytest.mark.parametrize(
    "limit", ["8 ms", "8ms", "100 MMAC", "1 M params", "512 KiB", "1e6", "100M", "5 wonky", " 2 x"]
)
def test_limits_may_be_text_with_a_unit(limit):
    recipe = from_dict({**BASE, "budget": [{"provider": "macs", "limit": limit}]})
    assert recipe.budget[0].limit == limit
    assert from_dict(recipe.resolved()) == recipe


def test_bounds_are_tables_by_group_or_pattern():
    text = 'growth.bounds={"blocks.*.conv" = { max_channels = 16 }, stem = { frozen = true }}'
    recipe = override(from_dict(BASE), [text, "growth.risk=1.5", "growth.signed=true", "growth.mass=3"])
    bounds = recipe.growth.bounds
    assert {name: (bound.max_channels, bound.frozen) for name, bound in bounds.items()} == {
        "blocks.*.conv": (16, False),
        "stem": (None, True),
    }
    assert (recipe.growth.risk, recipe.growth.signed, recipe.growth.mass) == (1.5, True, 3.0)
    assert from_dict(recipe.resolved()) == recipe


def test_the_device_of_a_recipe():
    recipe = override(from_dict(BASE), ["hardware.profile=gap9", "hardware.strict=true", "budget.0.options.factor=2"])
    assert (recipe.hardware.profile, recipe.hardware.tables, recipe.hardware.strict) == ("gap9", None, True)
    assert recipe.budget[0].options == {"factor": 2}
    assert from_dict(recipe.resolved()) == recipe


def test_a_list_gives_one_value_a_stage_and_its_last_for_all_later():
    train = override(from_dict(BASE), ["train.epochs=[5, 3]", "train.learning_rate=[0.1, 0.02]"]).train
    assert [train.epochs_at(stage) for stage in range(4)] == [5, 3, 3, 3]
    assert [train.learning_rate_at(stage) for stage in range(3)] == [0.1, 0.02, 0.02]
    assert from_dict(BASE).train.epochs_at(7) == 2


def test_a_recipe_can_not_be_changed():
    recipe = from_dict(BASE)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.epochs = 3
    assert from_dict(BASE).budget == recipe.budget


def test_every_key_has_a_description():
    def keys(model: type[BaseModel], prefix: str = ""):
        for name, field in model.model_fields.items():
            yield prefix + name, field.description
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from keys(field.annotation, f"{prefix}{name}.")

    assert [name for name, description in keys(Recipe) if not description] == []


@given(st.floats(min_value=1.0001, max_value=1e6).map(lambda value: f"{value:.4f}x"))
def test_multiples_above_one_are_accepted(limit):
    recipe = from_dict({**BASE, "budget": [{"provider": "macs", "limit": limit}]})
    assert recipe.budget[0].limit == limit


SECTIONS = [name for name in Recipe.model_fields if name not in ("name", "seed")]
WRONG = st.one_of(st.integers(), st.text(max_size=5), st.lists(st.integers()), st.booleans(), st.floats())


@given(section=st.sampled_from(SECTIONS), value=WRONG)
def test_a_section_that_is_no_table_is_a_recipe_error_that_names_it(section, value):
    with pytest.raises(RecipeError) as caught:
        from_dict({**BASE, section: value})
    assert str(caught.value).startswith(f"recipe: {section}")


@given(key=st.text(max_size=8).filter(lambda key: key not in Recipe.model_fields), value=WRONG)
def test_an_unknown_key_is_a_recipe_error_that_names_it(key, value):
    with pytest.raises(RecipeError) as caught:
        from_dict({**BASE, key: value})
    assert str(caught.value).startswith(f"recipe: {key}: unknown key; ")


def test_recipes_are_read_without_torch():
    code = (
        "import sys, energysplit.recipe as r\n"
        f"r.from_dict({BASE!r})\n"
        "print([name for name in ('torch', 'numpy', 'rich', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("section", "key"), [("train", "learning_rate"), ("index", "batch_size"), ("step", "size"), ("index", "kink_beta")]
)
def test_numbers_that_overflow_are_refused(section: str, key: str) -> None:
    tree: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": "mlp"},
        "data": {"name": "digits"},
        "train": {"epochs": 2},
        "growth": {"stages": 1},
        "budget": [{"provider": "macs", "limit": "1.5x"}],
    }
    tree.setdefault(section, {})[key] = 10**30 if key == "batch_size" else 1e308
    with pytest.raises(RecipeError, match=f"{key} is above 1e.15"):
        from_dict(tree)
