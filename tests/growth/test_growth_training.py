"""What trainings may do beyond epochs of batches: a killed run ends like an undisturbed one, none is on by itself."""

from __future__ import annotations

import json
import shutil

import growth_runs
import pytest
import torch

import energysplit as es
from energysplit import growth
from energysplit.growth.notes import EVALUATION_BATCH
from energysplit.growth.teacher import TEACHER_FILE
from energysplit.output.atomic import write_text
from energysplit.output.tensors import load_tensors
from energysplit.recipe.saved import saved_recipe
from energysplit.train import evaluate

LATER = ("accumulate", "ema", "patience", "min_improvement", "teacher")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    """They take longest, and nothing here is about them."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run in which all of it is off; also the teacher of others."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
        growth.grow(growth_runs.tiny(), run_dir=folder)
    return folder


def recipe(teacher=None, stages=2, augment=True, **train):
    """The tiny recipe with some of it on."""
    if teacher is not None:
        train["teacher"] = {"run": str(teacher), "weight": 0.7, "temperature": 3.0}
    return growth_runs.tiny(train=train, growth={"stages": stages}, data={"augment": augment})


class _Killed(BaseException):
    """What no handler of the growth catches."""


def grow_with_kills(found, folder, monkeypatch):
    """Killed at every epoch it saves, in turn before and after that is on disk; returns the kills."""
    save, kills = growth.folder.RunFolder.save_progress, 0

    def save_and_die(self, state):
        if kills % 2:
            save(self, state)
        raise _Killed

    while kills < 60:
        with monkeypatch.context() as patch:
            # Every third process lives to save an epoch, so that there is an end.
            if kills % 3 != 2:
                patch.setattr(growth.folder.RunFolder, "save_progress", save_and_die)
            else:
                saved = []
                patch.setattr(
                    growth.folder.RunFolder,
                    "save_progress",
                    lambda self, state, saved=saved: (
                        saved.append(save(self, state)) if not saved else save_and_die(self, state)
                    ),
                )
            try:
                growth.grow(found, run_dir=folder, resume=True)
                return kills
            except _Killed:
                kills += 1
    raise AssertionError("the run did not end")


CASES = {
    "patience": {"patience": 1, "min_improvement": 0.25, "epochs": 5, "schedule": "constant"},
    "ema": {"ema": 0.9, "epochs": 2},
    "randaugment": {"augment": "randaugment"},
    "teacher": {"teacher": "plain"},
    "all": {
        "teacher": "plain",
        "augment": "randaugment",
        "ema": 0.95,
        "accumulate": 3,
        "batch_size": 50,
        "epochs": 4,
        "patience": 1,
        "min_improvement": 0.15,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_like_an_undisturbed_one(case, plain, tmp_path, monkeypatch):
    options = {key: plain if value == "plain" else value for key, value in CASES[case].items()}
    found = recipe(**options)
    result = growth.grow(found, run_dir=tmp_path / "whole")
    if "patience" in options:
        assert any(record.train.epochs < options["epochs"] for record in result.records), "no training ended early"
    kills = grow_with_kills(found, tmp_path / "killed", monkeypatch)
    assert kills >= 3
    assert growth_runs.journal(tmp_path / "killed") == growth_runs.journal(tmp_path / "whole")
    assert growth_runs.files(tmp_path / "killed") == growth_runs.files(tmp_path / "whole")
    # The option did something at all.
    assert growth_runs.files(tmp_path / "whole") != growth_runs.files(plain)


def test_nothing_is_on_by_itself(plain, tmp_path):
    """All keys at their neutral values, and a patience that never ends a training: the same run, bit for bit."""
    neutral = recipe(augment=True, accumulate=1, ema=None, patience=99, min_improvement=0.5, teacher=None)
    result = growth.grow(neutral, run_dir=tmp_path / "run")
    assert growth_runs.journal(tmp_path / "run") == growth_runs.journal(plain)
    assert growth_runs.files(tmp_path / "run") == growth_runs.files(plain)
    assert [record.train.epochs for record in result.records] == [2, 2, 2]
    left = {path.name for path in plain.iterdir()}
    assert left.isdisjoint({TEACHER_FILE, "tensorboard"})
    assert not list(plain.rglob("average.safetensors"))


def test_a_run_from_before_goes_on(plain, tmp_path, monkeypatch):
    """Its recipe and its training in progress have none of the keys that came later."""
    folder = tmp_path / "run"
    save = growth.folder.RunFolder.save_progress

    def save_and_die(self, state):
        save(self, state)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(growth.folder.RunFolder, "save_progress", save_and_die)
        with pytest.raises(_Killed):
            growth.grow(growth_runs.tiny(), run_dir=folder)
    old = saved_recipe(folder)
    for key in LATER:
        del old["train"][key]
    del old["run"]["tensorboard"]
    (folder / "recipe.json").write_text(json.dumps(old))
    file = folder / "progress" / "optimiser.safetensors"
    tensors, facts = load_tensors(file)
    growth.folder.save_tensors(
        file, tensors, {k: facts[k] for k in ("stage", "epoch", "train", "seconds", "weights_sha256")}
    )
    result = growth.grow(growth_runs.tiny(), run_dir=folder, resume=True)
    assert result.warnings == ()
    assert growth_runs.journal(folder) == growth_runs.journal(plain)
    assert growth_runs.files(folder) == growth_runs.files(plain)
    with pytest.raises(es.InputError, match=r"another recipe: train.ema \(was not set, is 0.9\) differs;"):
        growth.grow(recipe(ema=0.9), run_dir=folder, resume=True)


def test_a_stage_ends_at_its_plateau_and_says_so(tmp_path):
    class Lines(growth.loop.SilentProgress):
        said: list[str] = []  # noqa: RUF012

        def line(self, text):
            self.said.append(text)

    found = recipe(patience=2, min_improvement=0.5, epochs=9, schedule="constant", stages=0)
    losses = []
    with pytest.MonkeyPatch.context() as patch:
        real = growth.evaluation.evaluate
        patch.setattr(growth.evaluation, "evaluate", lambda *args: losses.append(real(*args)) or losses[-1])
        (record,) = growth.grow(found, run_dir=tmp_path / "run", progress=Lines()).records
    *losses, _, _ = losses  # what the stage ended with, on validation and test images
    best, waited, expected = float("inf"), 0, 0
    for loss in (each.loss for each in losses):
        expected += 1
        best, waited = (loss, 0) if loss < best * 0.5 else (best, waited + 1)
        if waited == 2:
            break
    assert record.train.epochs == expected == len(losses) < 9
    assert record.validation.loss == pytest.approx(losses[-1].loss)
    assert losses[0].images == 144, "the held-out part of the training images"
    assert f"trained {expected} of at most 9 epochs; the validation loss did not improve in the last 2" in " ".join(
        Lines.said
    )


def test_what_is_evaluated_indexed_and_grown_is_the_average(plain, tmp_path, monkeypatch):
    """The saved stage holds the average of the weights after every update, made here again by definition."""
    seen, stepped = [], growth.stage.Average.update

    def update(self):
        stepped(self)
        seen.append({name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()})

    indexed = []
    real = growth.stage.splitting_index

    def index(net, *args, **options):
        indexed.append({name: tensor.clone() for name, tensor in net.module.state_dict().items()})
        return real(net, *args, **options)

    monkeypatch.setattr(growth.stage.Average, "update", update)
    monkeypatch.setattr(growth.stage, "splitting_index", index)
    found = recipe(ema=0.6, stages=1)
    result = growth.grow(found, run_dir=tmp_path / "run")
    net = es.load(tmp_path / "run" / "stages" / "0")
    saved = net.module.state_dict()
    updates = seen[: len(seen) // 2]
    assert len(updates) == 2 * -(-1294 // 128)
    for name, tensor in saved.items():
        if not tensor.is_floating_point():
            assert torch.equal(tensor, updates[-1][name])
            continue
        average = updates[0][name].double()
        for done, each in enumerate(updates[1:], start=1):
            kept = min(0.6, done / (done + 9))
            average = kept * average + (1 - kept) * each[name].double()
        assert torch.allclose(tensor.double(), average, rtol=1e-4, atol=1e-6)
        assert torch.equal(tensor, indexed[0][name])
    splits = growth.setup.prepare(found).splits
    with growth.setup.Session("cpu", threads=1) as session:
        again = evaluate(
            session, net.module, splits.validation.batches(EVALUATION_BATCH), torch.nn.functional.cross_entropy
        )
    assert again.loss == pytest.approx(result.records[0].validation.loss)
    # The momentum is that of the training, not averaged: the next stage goes on with it.
    optimiser, _ = load_tensors(tmp_path / "run" / "stages" / "0" / "optimiser.safetensors")
    other, _ = load_tensors(plain / "stages" / "0" / "optimiser.safetensors")
    assert all(torch.equal(tensor, other[name]) for name, tensor in optimiser.items())


def test_a_damaged_average_is_noticed(tmp_path, monkeypatch):
    folder, save = tmp_path / "run", growth.folder.RunFolder.save_progress

    def save_and_die(self, state):
        save(self, state)
        raise _Killed

    found = recipe(ema=0.9, stages=0)
    with monkeypatch.context() as patch:
        patch.setattr(growth.folder.RunFolder, "save_progress", save_and_die)
        with pytest.raises(_Killed):
            growth.grow(found, run_dir=folder)
    file = folder / "progress" / "average.safetensors"
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(bytes(data))
    result = growth.grow(found, run_dir=folder, resume=True)
    assert "average.safetensors is damaged" in result.warnings[0]
    whole = growth.grow(found, run_dir=tmp_path / "whole")
    assert growth_runs.journal(folder) == growth_runs.journal(tmp_path / "whole")
    assert whole.warnings == ()


def test_several_batches_an_update_follow_the_schedule_of_updates(tmp_path, monkeypatch):
    rates = []
    real = growth.stage.learning_rate
    monkeypatch.setattr(
        growth.stage, "learning_rate", lambda *args, **options: rates.append(options["epoch"]) or real(*args, **options)
    )
    growth.grow(recipe(accumulate=4, batch_size=100, epochs=1, stages=0), run_dir=tmp_path / "run")
    # 1,294 images: 13 batches, 4 updates; the last has one batch.
    assert sorted(set(rates)) == [0, 0.25, 0.5, 0.75]


def test_the_teacher_is_the_last_stage_of_a_run_or_a_checkpoint_and_only_training_sees_it(plain, tmp_path):
    es.save(es.load(plain / "stages" / "2"), tmp_path / "checkpoint")
    for number, teacher in enumerate((plain, plain / "stages" / "2", tmp_path / "checkpoint")):
        growth.grow(recipe(teacher=teacher, stages=1), run_dir=tmp_path / str(number))
        assert growth_runs.journal(tmp_path / str(number)) == growth_runs.journal(tmp_path / "0")
    setup = growth.setup.prepare(recipe(teacher=plain))
    setup.session.close()
    outputs, targets = torch.randn(5, 10), torch.arange(5)
    assert torch.equal(setup.loss(outputs, targets), torch.nn.functional.cross_entropy(outputs, targets))
    note = json.loads((tmp_path / "0" / TEACHER_FILE).read_text())
    assert note["folder"] == str(plain / "stages" / "2")


def test_a_run_goes_on_with_its_own_teacher_only(plain, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(plain, teacher)
    found = recipe(teacher=teacher, stages=0)
    growth.grow(found, run_dir=tmp_path / "run")
    shutil.rmtree(teacher / "stages" / "2")
    with pytest.raises(es.InputError, match=r"other weights of the teacher than .*/teacher/stages/1 holds now"):
        growth.grow(found, run_dir=tmp_path / "run", resume=True)


def test_a_teacher_that_does_not_fit_is_told_before_anything_is_written(plain, tmp_path, folder_of_another):
    cases = [
        (tmp_path / "nowhere", r"train.teacher.run = '.*nowhere': the folder does not exist; expected a run folder"),
        (tmp_path, r"the folder has no finished stage and is no checkpoint"),
        (
            folder_of_another,
            r"the teacher in .* takes images of 3x8x8 and gives 7 classes; digits has images of 1x8x8 and 10 classes",
        ),
    ]
    for teacher, message in cases:
        with pytest.raises(es.InputError, match=message):
            growth.grow(recipe(teacher=teacher), run_dir=tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.fixture
def folder_of_another(tmp_path):
    """A checkpoint of a network for other images and classes."""
    from energysplit import models

    module = models.build("cnn", in_channels=3, classes=7, widths=[2, 2])
    return es.save(es.trace(module, torch.zeros(1, 3, 8, 8)), tmp_path / "another")


def test_a_dry_run_says_what_is_on(plain):
    assert growth.plan(growth_runs.tiny()).training == []
    found = growth.plan(
        recipe(teacher=plain, augment="randaugment", ema=0.99, accumulate=2, patience=2, min_improvement=0.01, epochs=9)
    )
    assert found.training == [
        "ends after 2 epochs without an improvement of the validation loss of at least 1.00%",
        "2 batches an update, 256 images",
        "moving average of the weights, decay 0.99",
        "RandAugment, two operations an image",
        f"teacher {plain / 'stages' / '2'}, weight 0.7, temperature 3",
    ]
    assert any("'constant' or 'step' go better with it" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("train", "warning"),
    [
        ({"patience": 1}, "can't end a training of 2 epochs before its time"),
        ({"min_improvement": 0.1}, "train.min_improvement has no effect without train.patience"),
        ({"patience": 1, "epochs": 5, "schedule": "constant"}, None),
    ],
)
def test_a_dry_run_says_what_has_no_effect(train, warning):
    warnings = [text for text in growth.plan(recipe(**train)).warnings if "patience" in text]
    assert len(warnings) == (warning is not None)
    assert warning is None or warning in warnings[0]


def test_a_dry_run_says_which_values_no_training_takes():
    found = recipe(epochs=[2, 1, 1, 19], learning_rate=[0.1, 0.05, 0.02], stages=2)
    assert [text for text in growth.plan(found).warnings if "trainings" in text] == [
        "train.epochs has 4 values for 3 trainings (growth.stages + 1): the last takes 1, and 19 is not used"
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.augment=randaugmnt", r"data.augment: expected true or false, or 'randaugment'"),
        ("train.ema=1.0", r"train.ema: expected a number > 0 and < 1 "),
        ("train.accumulate=0", r"train.accumulate: expected a whole number >= 1"),
        ("train.patience=0", r"train.patience: expected a whole number >= 1"),
        ("train.teacher=runs/x", r"train.teacher: expected a table, \{ run = 'runs/NAME' \}"),
        ('train.teacher={run = "x", wieght = 0.5}', r"train.teacher.wieght: unknown key; did you mean 'weight'\?"),
        ('train.teacher={run = "x", weight = 1.5}', r"train.teacher.weight: expected a number > 0 and <= 1"),
    ],
)
def test_wrong_values_are_told_with_key_and_what_was_expected(setting, message):
    from energysplit.recipe import override

    with pytest.raises(es.InputError, match=message):
        override(growth_runs.tiny(), [setting])
