"""A run that starts from another's trained stage 0 ends with the journal and files of one that trained it itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from growth_runs import files, journal, tiny

from energysplit import growth
from energysplit.errors import RunError
from energysplit.growth import stage
from energysplit.growth.journal import read
from energysplit.growth.reuse import reuse_seed
from energysplit.recipe.first_stage import first_stage, unshared


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth.loop, "write_report", lambda *_: None)


PLATEAU = {"epochs": 6, "learning_rate": 1e-6, "patience": 1, "min_improvement": 0.5}


@pytest.mark.parametrize(
    ("train", "epochs"),
    [({}, 2), ({"ema": 0.9}, 2), (PLATEAU, 2), ({**PLATEAU, "ema": 0.9}, 2), ({"epochs": [1, 2], "patience": 1}, 1)],
    ids=["plain", "ema", "patience", "patience and ema", "patience that did not end it"],
)
def test_the_journal_is_bit_for_bit_that_of_training_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any], epochs: int
) -> None:
    first = tiny(train=train, growth={"stages": 0})
    second = tiny(train=train, growth={"stages": 1, "method": "top_k"}, name="second")  # type: ignore[arg-type]
    growth.grow(first, run_dir=tmp_path / "first")
    growth.grow(second, run_dir=tmp_path / "anew")
    assert read(tmp_path / "anew" / "journal.jsonl")[0].train.epochs == epochs

    assert reuse_seed(tmp_path / "first", tmp_path / "reused", second)
    trained: list[int] = []
    epoch = stage.train_epoch
    monkeypatch.setattr(stage, "train_epoch", lambda *a, **k: (trained.append(k["epoch"]), epoch(*a, **k))[1])
    growth.grow(second, run_dir=tmp_path / "reused", resume=True)

    assert journal(tmp_path / "reused") == journal(tmp_path / "anew")
    assert files(tmp_path / "reused") == files(tmp_path / "anew")
    assert len(trained) == read(tmp_path / "anew" / "journal.jsonl")[1].train.epochs, "stage 1 only"
    seconds = [read(tmp_path / name / "journal.jsonl")[0].seconds["train"] for name in ("first", "reused")]
    assert seconds[0] == seconds[1], "the time it took comes with it"


def test_what_must_agree_and_what_need_not() -> None:
    base = tiny()
    for same in (
        {"growth": {"stages": 1}},
        {"index": {"images": 64}},
        {"step": {"size": 0.1}},
        {"name": "other"},
        {"train": {"epochs": [2, 5], "learning_rate": [0.1, 0.01]}},
        {"data": {"download": True}},
    ):
        assert first_stage(tiny(**same)) == first_stage(base), same  # type: ignore[arg-type]
    for other in (
        {"seed": 1},
        {"train": {"epochs": 3}},
        {"train": {"learning_rate": 0.2}},
        {"train": {"ema": 0.9}},
        {"model": {"args": {"widths": [3, 5], "in_channels": 1, "activation": "silu"}}},
        {"data": {"limit": 500}},
        {"run": {"threads": 2}},
    ):
        assert first_stage(tiny(**other)) != first_stage(base), other  # type: ignore[arg-type]
    assert unshared(base) == ""
    assert "every epoch" in unshared(tiny(run={"tensorboard": True}))


def test_refusals_write_nothing(tmp_path: Path) -> None:
    recipe = tiny(train={"epochs": 1}, growth={"stages": 0})
    new = tmp_path / "new"
    with pytest.raises(RunError, match="not finished, so there is nothing to reuse"):
        reuse_seed(tmp_path / "none", new, recipe)
    growth.grow(recipe, run_dir=tmp_path / "first")
    with pytest.raises(RunError, match="trained otherwise"):
        reuse_seed(tmp_path / "first", new, tiny(train={"epochs": 2}))
    with pytest.raises(RunError, match=r"every epoch of a run"):
        reuse_seed(tmp_path / "first", new, tiny(train={"epochs": 1}, run={"tensorboard": True}))
    assert not new.exists()

    assert reuse_seed(tmp_path / "first", new, recipe)
    before = {path: path.read_bytes() for path in new.rglob("*") if path.is_file()}
    assert not reuse_seed(tmp_path / "first", new, recipe), "it has begun"
    assert before == {path: path.read_bytes() for path in new.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"another recipe: growth\.stages \(was 0, is 1\) differs"):
        reuse_seed(tmp_path / "first", new, tiny(train={"epochs": 1}, growth={"stages": 1}))

    weights = tmp_path / "first" / "stages" / "0" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match="is not what stage 0 left"):
        reuse_seed(tmp_path / "first", tmp_path / "newer", recipe)
    (tmp_path / "first" / "recipe.json").write_text(json.dumps([]))
    with pytest.raises(RunError, match="expected a table of recipe keys"):
        reuse_seed(tmp_path / "first", tmp_path / "newer", recipe)
    assert not (tmp_path / "newer").exists()
