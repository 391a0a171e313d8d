"""Growths that choose by chance, and growths with the sizes of another: what they take, what they refuse, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from growth_runs import journal, tiny

from energysplit.costs import NetworkPricer
from energysplit.errors import InputError, RecipeError, RunError
from energysplit.growth import grow
from energysplit.growth.given_sizes import decide
from energysplit.growth.journal import read
from energysplit.growth.planning import plan
from energysplit.growth.priced import priced
from energysplit.growth.reference import Reference, read_reference
from energysplit.growth.saved import load_saved
from energysplit.growth.solve_again import ask_again
from energysplit.output.indices import load_index

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A finished growth of one stage, chosen by its indices."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("energysplit.growth.loop.write_report", lambda *_: None)
        grow(tiny(train={"epochs": 1}, growth={"stages": 1}), run_dir=folder)
    return folder


@pytest.fixture
def no_figures(monkeypatch) -> None:
    monkeypatch.setattr("energysplit.growth.loop.write_report", lambda *_: None)


def recipe(reference: Path | None = None, seed: int = 0, **sections):
    growth = {"stages": 1, **({"sizes_of": str(reference)} if reference else {}), **sections.pop("growth", {})}
    return tiny(seed=seed, train={"epochs": 1}, growth=growth, **sections)


def test_random_neurons_along_random_directions(tmp_path):
    """All of it by chance: the budget is kept, the journal says how, the run resumes and its stage is asked again."""
    by_chance = recipe(growth={"method": "random"}, index={"method": "random"})
    grow(by_chance, run_dir=tmp_path / "run")
    first, last = read(tmp_path / "run" / "journal.jsonl")
    assert first.train.images == plan(by_chance).train_images
    bought, index = first.growth.allocation, first.growth.index
    assert bought.method == "random"
    assert math.isnan(bought.gap)
    assert bought.price["macs"].value <= bought.limit["macs"]
    assert {name: last.widths[name] - first.widths[name] for name in bought.split} == {
        name: len(neurons) for name, neurons in bought.split.items()
    }
    assert (index.solver, index.sweeps) == ("random", 0.0)
    assert math.isnan(index.sum_same_images)
    assert math.isfinite(index.sum_held_out)
    again = ask_again(load_saved(tmp_path / "run", by_chance))
    assert again.solve().split == bought.split, "the same seed, long afterwards"
    other = recipe(seed=1, growth={"method": "random"}, index={"method": "random"})
    grow(other, run_dir=tmp_path / "other")
    assert read(tmp_path / "other" / "journal.jsonl")[0].growth.allocation.split != bought.split


def test_sizes_of_another_run(tmp_path, reference):
    """The widths of the reference, stage by stage: with the smallest indices, as it chose, or with random neurons."""
    theirs = read(reference / "journal.jsonl")
    grow(recipe(reference, growth={"method": "top_k"}), run_dir=tmp_path / "best")
    best = read(tmp_path / "best" / "journal.jsonl")
    assert [each.widths for each in best] == [each.widths for each in theirs]
    assert best[0].growth.allocation.method == "sizes, best"
    # The same seed: the same stage 0, so the same indices, of which the reference took the best of each group.
    assert best[0].growth.allocation.split == theirs[0].growth.allocation.split
    assert best[1].weights_sha256 == theirs[1].weights_sha256

    grow(recipe(reference, growth={"method": "random"}), run_dir=tmp_path / "random")
    random = read(tmp_path / "random" / "journal.jsonl")
    assert [each.widths for each in random] == [each.widths for each in theirs]
    assert random[0].growth.allocation.method == "sizes, random"
    assert random[0].growth.allocation.split != theirs[0].growth.allocation.split
    mine, other = (load_index(run / "stages/0/index.safetensors") for run in (tmp_path / "random", reference))
    assert all(torch.equal(mine[name].value, other[name].value) for name in other)


def test_resuming_needs_no_second_decision(tmp_path, reference):
    """Killed after its first stage it goes on from the journal, to the bit."""
    given = recipe(reference, growth={"method": "random"})
    grow(given, run_dir=tmp_path / "whole")
    grow(given, run_dir=tmp_path / "cut")
    lines = (tmp_path / "cut" / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut" / "journal.jsonl").write_text(lines[0])
    grow(given, run_dir=tmp_path / "cut", resume=True)
    assert journal(tmp_path / "cut") == journal(tmp_path / "whole")
    note = json.loads((tmp_path / "cut" / "reference.json").read_text())
    (tmp_path / "cut" / "reference.json").write_text(json.dumps({**note, "sizes_sha256": "other"}))
    with pytest.raises(RunError, match="started with other sizes than"):
        grow(given, run_dir=tmp_path / "cut", resume=True)


def test_the_dry_run_shows_it(reference):
    found = plan(recipe(reference, growth={"method": "random", "risk": 1.0, "multiple_of": 2}))
    assert found.sizes == f"as many neurons of each group as {reference} split, random neurons"
    theirs = read(reference / "journal.jsonl")
    assert found.widths == {
        name: [each.widths[name] for each in theirs]
        for name in theirs[0].widths
        if theirs[0].widths[name] != theirs[1].widths[name]
    }
    assert any("growth.multiple_of has no effect with growth.sizes_of" in text for text in found.warnings)
    assert any("growth.risk has no effect" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"baseline": {"kind": "from_scratch", "sizes_of": "runs/a"}}, RecipeError, "growth.sizes_of is for growths"),
        ({"growth": {"stages": 2}}, RecipeError, "growth.stages = 2 given, but the run of growth.sizes_of = .* grew 1"),
        ({"model": {"args": {"widths": [4, 4], "in_channels": 1}}}, RecipeError, "began with another network"),
        (
            {"budget": [{"provider": "macs", "limit": "1.1x", "scope": "stage"}]},
            RecipeError,
            "what that run grew out of stage 0 costs .* more than budget 'macs' allows here",
        ),
        (
            {"growth": {"bounds": {"*": {"frozen": True}}}},
            RecipeError,
            "out of stage 0, above .*, which growth.bounds allow; leave the bound out",
        ),
    ],
)
def test_sizes_that_can_t_be_had_are_refused_before_anything_is_written(tmp_path, reference, sections, error, message):
    with pytest.raises(error, match=message):
        grow(recipe(reference, **sections), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_there_or_not_finished(tmp_path, reference):
    with pytest.raises(RunError, match="growth.sizes_of = .*nowhere.*no run is there"):
        grow(recipe(tmp_path / "nowhere"), run_dir=tmp_path / "run")
    half = tmp_path / "half"
    half.mkdir()
    (half / "recipe.json").write_bytes((reference / "recipe.json").read_bytes())
    (half / "journal.jsonl").write_text((reference / "journal.jsonl").read_text().splitlines(keepends=True)[0])
    with pytest.raises(RunError, match="not finished, 1 of 2 stages are"):
        grow(recipe(half), run_dir=tmp_path / "run")


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-here/run"], ids=["too long", "no home"])
def test_a_folder_that_can_t_be(name):
    with pytest.raises(RunError, match="growth.sizes_of = .*: can't be read"):
        read_reference(name, "growth.sizes_of", 1)


def test_a_recipe_nested_too_deep(tmp_path):
    (tmp_path / "recipe.json").write_text("[" * 200000)
    with pytest.raises(RunError, match="is damaged"):
        read_reference(tmp_path, "growth.sizes_of", 1)


def test_a_stage_asked_again_or_of_a_reference_that_changed(tmp_path, reference):
    """Its budgets chose nothing, so a method must be given; and the stage's widths must be the reference's still."""
    given = recipe(reference)
    grow(given, run_dir=tmp_path / "run")
    saved = load_saved(tmp_path / "run", given)
    found = priced(given)
    seed_price = {"macs": NetworkPricer(saved.net, "macs").price().value}
    records = read(reference / "journal.jsonl")
    same = Reference(reference, "growth.sizes_of", tuple(records))
    assert decide(given, found, seed_price, same, 0, saved.net, saved.index).split == saved.bought.split
    wider = records[0].model_copy(update={"widths": {**records[0].widths, "blocks.0.conv": 9}})
    changed = Reference(reference, "growth.sizes_of", (wider, *records[1:]))
    with pytest.raises(RunError, match="its stage 0 has other widths .* was it grown again since this run began"):
        decide(given, found, seed_price, changed, 0, saved.net, saved.index)
    with pytest.raises(InputError, match="this run took the sizes of .* give --method milp"):
        ask_again(saved)
    assert ask_again(saved, growth={"method": "milp"}).solve().method == "milp"


@pytest.mark.parametrize("growth", [{"method": "random"}, {"sizes_of": "runs/a"}])
def test_signed_splits_are_refused(growth):
    with pytest.raises(ValueError, match="signed = true does not go with"):
        recipe(growth={"signed": True, **growth})


def test_old_journals_have_no_images(reference):
    record = read(reference / "journal.jsonl")[0]
    told = json.loads(record.model_dump_json())
    del told["train"]["images"]
    assert type(record).model_validate_json(json.dumps(told)).train.images == 0


def test_sizes_are_given_or_found():
    with pytest.raises(ValueError, match="method = 'cheapest' chooses sizes, which sizes_of gives"):
        recipe(growth={"method": "cheapest", "sizes_of": "runs/grown"})
