"""`energysplit allocate`: a stage's indices solved again, as the run did it and under other budgets."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import growth_runs
import pytest
from typer.testing import CliRunner

import energysplit as es
from energysplit import growth
from energysplit.cli import app
from energysplit.costs import price
from energysplit.errors import CheckpointError
from energysplit.growth import journal
from energysplit.growth.saved import load_saved
from energysplit.growth.solve_again import GivenBudget, ask_again
from energysplit.output.indices import INDEX_FILE, load_index, save_index
from energysplit.recipe import from_dict
from energysplit.recipe.saved import saved_recipe

BUDGETS = [
    {"provider": "macs", "limit": "1.6x", "scope": "stage"},
    {"provider": "params", "limit": "2.2x", "scope": "network"},
]


def _grow(folder: Path, **sections: object) -> Path:
    """A small run without its report, whose figures take longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth.loop, "write_report", lambda *_: None)
        growth.grow(growth_runs.tiny(**sections), run_dir=folder)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: stages 0 and 1 have indices, stage 2 has none."""
    return _grow(tmp_path_factory.mktemp("saved") / "run", budget=BUDGETS)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose copies may have negative shares."""
    return _grow(tmp_path_factory.mktemp("signed") / "run", growth={"stages": 1, "signed": True})


def _allocate(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["allocate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    if code == 0:
        return result.stdout
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    return result.stderr


def _solved(tmp_path: Path, *arguments: object) -> dict:
    file = tmp_path / "allocation.json"
    _allocate(*arguments, "--out", file)
    return json.loads(file.read_text())


@pytest.mark.parametrize("stage", [0, 1])
def test_the_recipes_question_has_the_answer_the_run_found(run: Path, tmp_path: Path, stage: int) -> None:
    found = _solved(tmp_path, run, "--stage", stage)
    records = journal.read(run / "journal.jsonl")
    bought = records[stage].growth.allocation
    assert found["split"] == bought.split
    assert found["predicted_gain"] == bought.predicted_gain
    assert found["limit"] == bought.limit
    assert found["gap"] == bought.gap
    assert found["shadow_price"] == bought.shadow_price
    assert {name: price["value"] for name, price in found["price"].items()} == {
        name: price.value for name, price in bought.price.items()
    }
    assert found["widths"] == records[stage + 1].widths
    assert found["index_sha256"] == records[stage].index_sha256
    # Policy "relative" of the recipe, size 0.3. The run itself predicts by held-out values that are not shrunk.
    assert found["predicted_loss_change"] == pytest.approx(-(0.3**2) / 2 * bought.predicted_gain)


def test_without_shrinkage_the_prediction_is_the_run_s_own(tmp_path: Path) -> None:
    run = _grow(tmp_path / "run", growth={"stages": 1}, index={"shrinkage": "none"})
    record = journal.read(run / "journal.jsonl")[0].growth
    found = _solved(tmp_path, run, "--stage", 0)
    assert found["split"] == record.allocation.split
    assert found["predicted_loss_change"] == pytest.approx(record.step.predicted_change, rel=1e-4)
    # A run from before there was shrinkage is asked again as it was.
    resolved = saved_recipe(run)
    del resolved["index"]["shrinkage"]
    (run / "recipe.json").write_text(json.dumps(resolved))
    assert _solved(tmp_path, run, "--stage", 0)["predicted_gain"] == found["predicted_gain"]
    assert "drawn towards" not in _allocate(run)


def test_the_last_stage_with_indices_is_meant(run: Path) -> None:
    text = _allocate(run)
    assert f"run {run}, stage 1: splitting indices of " in text
    assert "128 held-out images" in text
    rows: dict[str, list[str]] = {}
    for line in filter(str.strip, text.splitlines()):
        rows.setdefault(line.split()[0], line.split())
    records = journal.read(run / "journal.jsonl")
    # Seed, now and after are the prices of the run's three stages.
    assert [rows["Parameters"][2 + 2 * place] for place in range(3)] == [
        f"{record.prices['params'].value:.0f}" for record in records
    ]


def test_seed_prices_are_those_of_the_seed(run: Path) -> None:
    saved = load_saved(run, from_dict(saved_recipe(run)), 1)
    seed = es.load(run / "stages" / "0")
    assert saved.seed_widths == seed.widths
    for name in ("macs", "params", "peak_memory"):
        assert saved.seed_price(name) == price(seed, name)


def test_other_budgets_take_the_place_of_the_recipes(run: Path, tmp_path: Path) -> None:
    net = es.load(run / "stages" / "1")
    present, seed = price(net, "macs").value, price(es.load(run / "stages" / "0"), "macs").value
    at_stage = _solved(tmp_path, run, "--budget", "macs=1.5x")
    assert at_stage["limit"] == {"macs": 1.5 * present}
    assert at_stage["budgets"] == [{"name": "macs", "scope": "stage", "given": "1.5x"}]
    in_all = _solved(tmp_path, run, "--budget", "macs=2x:network")
    assert in_all["limit"] == {"macs": 2 * seed}
    absolute = _solved(tmp_path, run, "--budget", "macs=12.5 kMAC", "--budget", "params=0.5 k")
    assert absolute["limit"] == {"macs": 12_500, "params": 500}
    assert [budget["scope"] for budget in absolute["budgets"]] == ["network", "network"]
    widths = absolute["widths"]
    assert absolute["price"]["macs"]["value"] == price(net, "macs", widths).value <= 12_500
    assert absolute["left"]["params"] == 500 - price(net, "params", widths).value
    richer = _solved(tmp_path, run, "--budget", "macs=2.5x")
    assert richer["predicted_gain"] > at_stage["predicted_gain"]


def test_method_bounds_risk_and_multiples_are_obeyed(run: Path, tmp_path: Path) -> None:
    plenty = ("--budget", "macs=10x")
    all_of_it = _solved(tmp_path, run, *plenty)
    assert len(all_of_it["split"]) == 2
    frozen = _solved(tmp_path, run, *plenty, "--bound", "blocks.0.*=frozen", "--bound", "blocks.1.*=8")
    assert "blocks.0.conv" not in frozen["split"]
    assert frozen["widths"]["blocks.1.conv"] == 8
    assert frozen["bounds"] == {
        "blocks.0.*": {"max_channels": None, "frozen": True},
        "blocks.1.*": {"max_channels": 8, "frozen": False},
    }
    aligned = _solved(tmp_path, run, *plenty, "--multiple-of", "4", "--method", "greedy")
    assert aligned["method"] == "greedy"
    assert all(aligned["widths"][group] % 4 == 0 for group in aligned["split"])
    index = load_index(run / "stages" / "1" / INDEX_FILE)
    risky = _solved(tmp_path, run, *plenty, "--risk", "2")
    assert risky["risk"] == 2
    for group, found in index.items():
        sure = (found.value + 2 * found.stderr < 0).nonzero().flatten().tolist()
        assert risky["split"].get(group, []) == sure
    assert risky["predicted_gain"] < all_of_it["predicted_gain"]


def test_it_says_what_the_budgets_are_worth(run: Path) -> None:
    text = _allocate(run, "--budget", "params=1.4x", "--budget", "macs=100k")
    assert "predicted loss change" in text
    assert "at the recipe's step (relative, 0.3)" in text
    assert "gap to the bound" in text
    assert "not binding: more of it would buy nothing" in text
    assert " more would buy 0.0" in text
    assert "% more gain), by the slope of the relaxation; whole neurons come in steps\n" in text.replace(" \n", "\n")
    assert "buy nothing, by the slope" not in text
    assert ("MACs" in text, "\nmacs " in text) == (True, False)
    assert " s by milp" in text


def test_signed_splits_are_shown_by_kind(signed: Path, tmp_path: Path) -> None:
    found = _solved(tmp_path, signed)
    bought = journal.read(signed / "journal.jsonl")[0].growth.allocation
    assert found["mass"] == 2.0
    assert found["kinds"] == {
        group: {str(neuron): kind for neuron, kind in kinds.items()} for group, kinds in bought.kinds.items()
    }
    assert found["widths"] == journal.read(signed / "journal.jsonl")[1].widths
    rows = [line.split() for line in _allocate(signed).splitlines()]
    assert ["group", "kinds", "width", "after", "neurons", "split"] in rows
    plain = _solved(tmp_path, signed, "--mass", "1")
    assert plain["kinds"] == {}
    assert plain["predicted_gain"] < found["predicted_gain"]


def test_neither_data_nor_training_is_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("not needed")

    for place in ("energysplit.data.load", "energysplit.splitting.splitting_index", "energysplit.growth.setup.prepare"):
        monkeypatch.setattr(place, fail)
    before = growth_runs.files(run)
    _allocate(run)
    assert growth_runs.files(run) == before


def test_an_unfinished_run_is_solved_too(run: Path, tmp_path: Path) -> None:
    half = shutil.copytree(run, tmp_path / "half")
    lines = (half / "journal.jsonl").read_text().splitlines(keepends=True)
    # Killed while stage 2 was in training.
    (half / "journal.jsonl").write_text("".join(lines[:2]))
    shutil.rmtree(half / "stages" / "2")
    assert _solved(tmp_path, half)["split"] == _solved(tmp_path, run)["split"]
    # Killed between the files of stage 1 and its line.
    (half / "journal.jsonl").write_text(lines[0])
    assert _solved(tmp_path, half)["split"] == _solved(tmp_path, run)["split"]
    assert _solved(tmp_path, half)["index_sha256"] is None
    # Killed before the first line.
    (half / "journal.jsonl").unlink()
    assert _solved(tmp_path, half, "--stage", 0)["split"] == _solved(tmp_path, run, "--stage", 0)["split"]
    assert "a run's journal is expected there" in _allocate(half, "--stage", 1, code=2)


def test_a_device_given_here_goes_before_the_recipes(run: Path, tmp_path: Path) -> None:
    found = _solved(tmp_path, run, "--budget", "energy=1.5x", "--profile", "generic_45nm")
    assert found["price"]["energy"]["unit"] == "J"
    assert "estimated" in found["price"]["energy"]["source"]
    assert "--profile: none of the budgets' providers (macs) takes it; give a --budget of one that does: energy" in (
        _allocate(run, "--budget", "macs=1.5x", "--profile", "generic_45nm", code=2)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "7"], "no stage 7; its stages: 0, 1, 2 (those with indices: 0, 1)"),
        (["--stage", "2"], "stage 2 has no splitting indices, because no growth followed it"),
        (["--budget", "mcas=1.5x"], "budget 'mcas': unknown cost provider 'mcas'; did you mean 'macs'?"),
        (["--budget", "macs=8ms"], "budget 'macs': limit '8ms' is in seconds (s), but its prices are in MAC"),
        (["--budget", "macs=-5"], "budget 'macs': limit '-5' is not a finite number of at least 0"),
        (["--budget", "macs=-2x"], "--budget macs=-2x: limit '-2x' is not a finite number of at least 0"),
        (["--budget", "macs=nan"], "budget 'macs': limit 'nan' is not a finite number of at least 0"),
        (["--budget", "macs=100"], "is below the price of the network as it is"),
        (["--budget", "latency=6"], "on the command line --tables, --profile)"),
        (["--budget", "macs=1.2"], "; did you mean '1.2x'?"),
        (["--budget", "macs"], "--budget macs: expected PROVIDER=LIMIT, such as latency=6ms or macs=1.5x:stage"),
        (["--budget", "macs=2x:stge"], "--budget macs=2x:stge: scope 'stge': did you mean 'stage'?"),
        (["--budget", "macs=2x", "--budget", "macs=3x"], "budget 'macs' of scope 'stage' is given twice"),
        (["--budget", "macs=3x", "--budget", "macs=6k"], "for the first stage is above 6,000 MAC"),
        (["--bound", "blok*=3"], "no group of this network matches 'blok*'"),
        (["--bound", "blocks.*=0"], "--bound blocks.*=0: expected PATTERN=CHANNELS or PATTERN=frozen"),
        (["--bound", "a=1", "--bound", "a=frozen"], "--bound a=frozen: 'a' is given twice"),
        (["--multiple-of", "0"], "--multiple-of 0: expected a whole number of at least 1, or auto"),
        (["--mass", "0.5"], "mass = 0.5 given, a finite number of at least 1 expected"),
        (["--mass", "2"], "has no upper end, which mass = 2 needs"),
        (["--risk", "nan"], "risk = nan given"),
        (["--method", "mlp"], "allocation method 'mlp': did you mean 'milp'?"),
        (["--out", "no/such/folder/a.json"], "--out no/such/folder/a.json: no folder no/such/folder"),
        (["--out", "."], "--out .: is a folder; expected the name of a file"),
        (["--out", "/dev/null"], "--out /dev/null: is no file; expected the name of a file"),
    ],
)
def test_bad_input_is_one_message(run: Path, arguments: list[str], message: str) -> None:
    assert message in _allocate(run, *arguments, code=2)


def test_the_answer_is_not_written_over_the_run(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    link = tmp_path / "link.json"
    link.symlink_to(run / "recipe.json")
    for out in (run / "recipe.json", run / "new.json", link):
        assert "is inside the run, which is left as it is" in _allocate(run, "--out", str(out), code=2)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    elsewhere = tmp_path / "a.json"
    elsewhere.write_text("{}")
    (tmp_path / "b.json").symlink_to(elsewhere)
    _allocate(run, "--out", str(tmp_path / "b.json"))
    assert (tmp_path / "b.json").is_symlink()
    assert "split" in json.loads(elsewhere.read_text())


def test_missing_indices_are_said(run: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(run, tmp_path / "odd")
    (odd / "stages" / "1" / "index.safetensors").unlink()
    for arguments in ((), ("--stage", "1")):
        assert "index.safetensors is missing, though the journal has it" in _allocate(odd, *arguments, code=2)
    _allocate(odd, "--stage", "0")


def test_folders_that_hold_no_run(run: Path, tmp_path: Path) -> None:
    assert "no such run folder" in _allocate(tmp_path / "none", code=2)
    assert "no finished stage" in _allocate(tmp_path, code=2)
    odd = shutil.copytree(run, tmp_path / "odd")
    (odd / "recipe.json").unlink()
    assert "recipe.json can't be read" in _allocate(odd, code=2)
    recipe = saved_recipe(run)
    (odd / "recipe.json").write_text(json.dumps({**recipe, "growht": {}}))
    assert "recipe.json: growht: " in _allocate(odd, code=2)


def test_a_run_that_never_grew_has_nothing_to_solve(tmp_path: Path) -> None:
    flat = _grow(tmp_path / "flat", growth={"stages": 0}, train={"epochs": 1})
    assert "none of its stages (0) has splitting indices" in _allocate(flat, code=2)


def test_files_that_are_damaged_or_of_another_network(run: Path, signed: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(run, tmp_path / "odd")
    file = odd / "stages" / "1" / INDEX_FILE
    shutil.copy(signed / "stages" / "0" / INDEX_FILE, file)
    assert re.search(
        rf"{re.escape(str(file))}: group 'blocks\.\d\.conv' has \d neurons there, ", _allocate(odd, code=2)
    )
    # Of the same shape, but other numbers.
    whole = load_index(run / "stages" / "1" / INDEX_FILE)
    for found in whole.values():
        found.value.mul_(2)
    save_index(file, whole)
    assert f"{file} is not what stage 1 left: its SHA-256 differs from the journal's" in _allocate(odd, code=2)
    file.write_bytes((run / "stages" / "1" / INDEX_FILE).read_bytes()[:-3])
    assert f"{file} is no tensor file of energysplit, or it is damaged" in _allocate(odd, code=2)
    shutil.copy(run / "stages" / "1" / INDEX_FILE, file)
    text = (odd / "journal.jsonl").read_text()
    (odd / "journal.jsonl").write_text(text.replace('"stage":1', '"stage":3', 1))
    assert "journal.jsonl, line 2: " in _allocate(odd, code=2)
    with pytest.raises(CheckpointError, match="line 2"):
        load_saved(odd, from_dict(saved_recipe(odd)), 1)


def test_options_of_the_recipes_budget_are_taken_over(run: Path) -> None:
    recipe = from_dict(saved_recipe(run))
    parts = {"parts": {"macs": 1.0}}
    weighted = growth_runs.tiny(budget=[{"provider": "weighted", "limit": "2x", "scope": "stage", "options": parts}])
    saved = load_saved(run, recipe.model_copy(update={"budget": weighted.budget}), 1)
    asked = ask_again(saved, budgets=[GivenBudget("weighted", "9k")])
    assert asked.solve().price["weighted"].unit == "MAC"
    assert asked.seed["weighted"].value == saved.seed_price("macs").value


def test_help_does_not_wait_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "energysplit.growth.saved", raising=False)
    for command in ("allocate", "frontier"):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
