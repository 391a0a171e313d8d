"""A growth whose last training starts from random weights: a search for widths, and a training of what it found."""

from __future__ import annotations

import shutil

import growth_runs
import pytest
import torch

import energysplit as es
from energysplit import growth, models
from energysplit.errors import RecipeError
from energysplit.experiment.state import state_of
from energysplit.growth.compared import read_run
from energysplit.growth.given_sizes import place_seed
from energysplit.output import checkpoint

SEARCH = {"train": {"epochs": [1, 1, 3], "learning_rate": [0.1, 0.1, 0.05]}, "growth": {"last_weights": "random"}}


def search(**growth_keys):
    return growth_runs.tiny(train=SEARCH["train"], growth={"stages": 2, **SEARCH["growth"], **growth_keys})


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    return growth.grow(search(), run_dir=folder)


def test_the_growth_before_it_is_the_same(grown, tmp_path):
    """Widths, prices and weights of all stages but the last are those of the recipe that inherits."""
    usual = growth.grow(search(last_weights="inherited"), run_dir=tmp_path / "run")
    assert [record.widths for record in usual.records] == [record.widths for record in grown.records]
    assert [record.weights_sha256 for record in usual.records[:2]] == [r.weights_sha256 for r in grown.records[:2]]
    assert usual.records[2].weights_sha256 != grown.records[2].weights_sha256
    assert [record.then_fresh for record in grown.records] == [False, True, False]
    assert [record.ends for record in grown.records] == [False, False, True]
    assert not any(record.then_fresh for record in usual.records)


def test_the_last_training_starts_from_the_weights_of_the_model_built_at_these_widths(tmp_path, monkeypatch):
    starts = []
    train = growth.loop.stage.train

    def noting(setup, state, *rest):
        starts.append((state, {k: v.clone() for k, v in state.net.module.state_dict().items()}))
        return train(setup, state, *rest)

    monkeypatch.setattr(growth.loop.stage, "train", noting)
    recipe = search()
    growth.grow(recipe, run_dir=tmp_path / "run")
    state, weights = starts[-1]
    assert state.fresh
    assert state.optimiser == {}
    torch.manual_seed(place_seed(recipe.seed, "init", 2))
    widths = [width for name, width in state.net.widths.items() if name != "classifier"]
    built = models.build("cnn", widths=widths, in_channels=1, activation="silu")
    assert weights.keys() == built.state_dict().keys()
    assert all(torch.equal(weights[key], value) for key, value in built.state_dict().items())


@pytest.mark.parametrize("kept", [1, 2])
def test_resumed_it_is_the_same(grown, tmp_path, kept):
    """From before the last growth, and from before the last training."""
    folder = tmp_path / "run"
    shutil.copytree(grown.run_dir, folder)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(lines[:kept]))
    shutil.rmtree(folder / "progress")
    growth.grow(search(), run_dir=folder, resume=True)
    assert growth_runs.journal(folder) == growth_runs.journal(grown.run_dir)
    assert growth_runs.files(folder) == growth_runs.files(grown.run_dir)


def test_stopped_during_the_last_training_it_is_the_same(grown, tmp_path, monkeypatch):
    """Progress says that the training is the last one, also where growth ended before its time."""
    folder = tmp_path / "run"
    save, saved = growth.folder.RunFolder.save_progress, []

    def stopping(run, state):
        save(run, state)
        saved.append(state)
        if state.fresh and state.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(growth.folder.RunFolder, "save_progress", stopping)
    with pytest.raises(KeyboardInterrupt):
        growth.grow(search(), run_dir=folder)
    monkeypatch.undo()
    assert saved[-1].stage == 2
    assert not state_of(folder, search()).finished
    growth.grow(search(), run_dir=folder, resume=True)
    assert growth_runs.journal(folder) == growth_runs.journal(grown.run_dir)
    assert growth_runs.files(folder) == growth_runs.files(grown.run_dir)
    assert state_of(folder, search()).finished


def test_where_growth_ends_early_the_last_training_follows_all_the_same(tmp_path):
    """With the epochs and the learning rate of the last one."""
    usual = search(last_weights="inherited")
    limit = es.price(growth.setup.prepare(usual).seed, "macs").value + 1
    recipe = growth_runs.tiny(**SEARCH, budget=[{"provider": "macs", "limit": limit}])
    result = growth.grow(recipe, run_dir=tmp_path / "run")
    before, last = result.records[-2:]
    assert len(result.records) == 2
    assert before.stopped
    assert before.then_fresh
    assert not before.ends
    assert last.ends
    assert last.widths == before.widths
    assert last.train.epochs == 3
    for part in ("journal", "weights"):
        folder = tmp_path / part
        shutil.copytree(tmp_path / "run", folder)
        if part == "journal":
            lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
            (folder / "journal.jsonl").write_text("".join(lines[:-1]))
            shutil.rmtree(folder / "progress")
            assert not read_run(folder).finished
        else:
            (folder / f"stages/{last.stage}" / checkpoint.WEIGHTS_FILE).write_bytes(b"damaged")
        growth.grow(recipe, run_dir=folder, resume=True)
        assert growth_runs.journal(folder) == growth_runs.journal(tmp_path / "run")
        assert read_run(folder).finished


def test_it_is_said(grown, tmp_path):
    assert "Stage 2 started from random weights" in (grown.run_dir / "report.md").read_text()
    assert any("the last one starts from random weights" in line for line in growth.plan(search()).training)
    run = read_run(grown.run_dir)
    assert run.epochs == 5, "the search is part of what the network has cost"
    none = growth.plan(search(stages=0))
    assert any(warning.startswith("growth.last_weights has no effect") for warning in none.warnings)


def test_a_network_that_can_not_start_anew_is_refused_before_anything_runs(tmp_path, monkeypatch):
    """Its convolutions would not know how to initialise wider weights."""
    build = models.build

    def uninitialised(*args, **kwargs):
        module = build(*args, **kwargs)
        for layer in module.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.reset_parameters = None
        module.energysplit_builder = {**module.energysplit_builder, "name": "elsewhere:cnn"}
        return module

    monkeypatch.setattr(models, "build", uninitialised)
    with pytest.raises(RecipeError, match=r"growth.last_weights = 'random': .* no layer initialises it"):
        growth.grow(search(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
