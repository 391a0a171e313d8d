"""Numbers that are no numbers, or none to work with: what happened is said, and nothing is repaired in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from growth_runs import journal, tiny
from pydantic import ValidationError
from torch import nn

import energysplit as es
from energysplit import growth
from energysplit.allocation.given import allocate_given
from energysplit.errors import CheckFailed, DataError, InputError, RecipeError
from energysplit.growth import setup, stage
from energysplit.output.atomic import write_text

METHODS = {"lobpcg": {"sweeps": 3}, "rmsprop": {"sweeps": 2}, "exact": {}, "random": {}, "fresh": {}}


class Lines(growth.loop.SilentProgress):
    def __init__(self):
        self.said = []

    def line(self, text):
        self.said.append(text)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Growths without their figures."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))


def network(dtype=torch.float32):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.SiLU(), nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(16, 3)
    ).to(dtype)
    return es.trace(module, torch.zeros(2, 1, 6, 6, dtype=dtype))


def images(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 1, 6, 6, generator=generator).to(dtype), torch.arange(16) % 3)]


# Not fresh: the rows of fresh neurons are as long as the group's, so all of them know of one that is out of bounds.
@pytest.mark.parametrize("method", [method for method in METHODS if method != "fresh"])
def test_a_neuron_that_overflows_leaves_the_others_alone(method, in_full):
    """Neuron 2 of the second layer has weights so large that its tangents overflow; nothing reads it."""
    for curvature in ("exact", "producer") if in_full else ("exact",):
        net = network()
        options = {"method": method, "curvature": curvature, "held_out": images(), **METHODS[method]}
        with torch.no_grad():
            net.module[5].weight[:, 8:12] = 0
        expected = es.splitting_index(net, images(), F.cross_entropy, **options)
        with torch.no_grad():
            net.module[2].weight[2] = 1e38
            net.module[2].bias[2] = 0
        found = es.splitting_index(net, images(), F.cross_entropy, **options)
        assert bool(found["0"].value.isfinite().all())
        keep = [0, 1, 3]
        torch.testing.assert_close(found["2"].value[keep], expected["2"].value[keep], rtol=1e-4, atol=1e-9)


def test_a_matrix_that_is_not_finite_makes_one_index_unknown():
    from energysplit.splitting.solution import eigenvectors

    matrices = torch.stack([torch.diag(torch.tensor([2.0, 1.0])), torch.full((2, 2), torch.nan)]).double()
    found = eigenvectors(matrices)
    assert found[0].abs().tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert bool(found.isfinite().all())


def test_gradients_that_are_nan_are_unknown_indices_and_no_traceback():
    """A loss of 0 whose gradient is NaN: no index is known, and allocation says so."""
    net = network()
    for method, options in METHODS.items():
        if method == "random":
            continue
        found = es.splitting_index(
            net, images(), lambda o, t: (0 * F.cross_entropy(o, t)).sqrt(), method=method, **options
        )
        assert all(bool(index.value.isnan().all()) for index in found.values())
    bought = es.allocate(net, found, [es.Budget("macs", "2x")])
    assert bought.split == {}
    assert "Left out for an unknown (NaN) index: 7 neurons" in bought.status


def test_float16_has_indices_by_every_method():
    for method, options in METHODS.items():
        found = es.splitting_index(
            network(torch.float16), images(torch.float16), F.cross_entropy, method=method, **options
        )
        assert all(bool(index.value.isfinite().all()) for index in found.values()), method


@pytest.mark.parametrize("method", ["milp", "lp", "greedy", "top_k", "random"])
def test_groups_whose_step_is_zero_are_not_split(method):
    net = network()
    index = es.splitting_index(net, images(), F.cross_entropy, sweeps=2)
    index = {name: replace(each, value=-torch.ones_like(each.value)) for name, each in index.items()}
    budget = [es.Budget("macs", "3x")]
    found = es.allocate(net, index, budget, method=method, weights={"0": 0.0})
    assert set(found.split) == {"2"}
    assert found.status.endswith("Left out because all their weights, and so their steps, are 0: '0'.")
    with pytest.raises(InputError, match=r"group '0' can't be split: its weight is 0.*step.policy = 'fixed'"):
        allocate_given(net, index, budget, {"0": 1}, weights={"0": 0.0})


def test_a_layer_of_zeros_is_left_out_and_the_growth_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(growth.arguments, "group_norms", lambda net, groups: dict.fromkeys(groups, 0.0))
    lines = Lines()
    (record,) = growth.grow(
        tiny(growth={"stages": 1, "method": "random"}), run_dir=tmp_path / "run", progress=lines
    ).records
    assert record.stopped.startswith("Nothing to split that a step would move. Left out because all their weights")
    assert any(record.stopped in line for line in lines.said)


def test_a_neuron_without_a_known_index_is_counted_and_poisons_no_sum(tmp_path, monkeypatch):
    real = stage.splitting_index

    def unknown(*args, **kwargs):
        found = real(*args, **kwargs)
        name = next(iter(found))
        found[name].value[0] = torch.nan
        found[name].same_images[0] = torch.nan
        return found

    monkeypatch.setattr(stage, "splitting_index", unknown)
    lines = Lines()
    first, _ = growth.grow(tiny(growth={"stages": 1}), run_dir=tmp_path / "run", progress=lines).records
    index, step = first.growth.index, first.growth.step
    assert (index.unknown, index.neurons) == (1, 7)
    assert all(
        abs(value) < 1e3 for value in (index.sum_held_out, index.sum_same_images, index.stderr, step.predicted_change)
    )
    assert first.notes[0].startswith(
        "numbers overflowed or are NaN in the index of 1 of 7 neurons; these are not split"
    )
    assert any(first.notes[0] in line for line in lines.said)
    assert "Left out for an unknown (NaN) index: 1 neuron" in first.growth.allocation.status


def test_a_loss_that_is_nan_names_stage_epoch_and_rate_and_keeps_the_stages_before(tmp_path, monkeypatch):
    recipe = tiny(growth={"stages": 1})
    growth.grow(recipe, run_dir=tmp_path / "whole")
    real = stage.train_epoch

    def exploding(session, module, *args, **kwargs):
        if kwargs["epoch"] == 1 and (tmp_path / "run" / "journal.jsonl").exists():
            with torch.no_grad():
                next(module.parameters())[0] = torch.nan
        return real(session, module, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "train_epoch", exploding)
        with pytest.raises(
            CheckFailed,
            match=r"stage 1: training loss became nan in epoch 2, at a learning rate of .*step.size",
        ):
            growth.grow(recipe, run_dir=tmp_path / "run")
    assert len(journal(tmp_path / "run")) == 1
    growth.grow(recipe, run_dir=tmp_path / "run", resume=True)
    assert journal(tmp_path / "run") == journal(tmp_path / "whole")


def test_statistics_that_overflow_unseen_by_the_loss_stop_the_training(tmp_path):
    """With batch statistics the loss of one epoch stays finite; evaluation would divide by infinity."""
    with pytest.raises(CheckFailed, match=r"stage 0: .*running_var' of the network became infinite or NaN in epoch 1"):
        growth.grow(tiny(train={"learning_rate": 1e6, "epochs": 1, "ema": 0.9}), run_dir=tmp_path / "run")


def changed_data(monkeypatch, change):
    real = setup.data.load

    def load(*args, **kwargs):
        splits = real(*args, **kwargs)
        change(splits)
        return splits

    monkeypatch.setattr(setup.data, "load", load)


def test_validation_images_that_are_nan_are_noted_and_end_no_training_in_silence(tmp_path, monkeypatch):
    changed_data(monkeypatch, lambda splits: splits.validation._offset.mul_(torch.nan))
    lines = Lines()
    (record,) = growth.grow(
        tiny(growth={"stages": 0}, train={"patience": 1}), run_dir=tmp_path / "run", progress=lines
    ).records
    assert record.notes[0].startswith("the loss on validation images is nan, though training's is finite")
    assert any("did not improve in the last 1: it is nan" in line for line in lines.said)


def one_label(splits):
    splits.train.targets.zero_()


def no_class_three(splits):
    splits.train.targets[splits.train.targets == 3] = 4


def black_images(splits):
    splits.train._bytes[torch.device("cpu")].zero_()


@pytest.mark.parametrize("change", [one_label, no_class_three, black_images])
def test_poor_data_are_no_fault(tmp_path, monkeypatch, change):
    changed_data(monkeypatch, change)
    first, *_ = growth.grow(tiny(growth={"stages": 1}), run_dir=tmp_path / "run").records
    assert first.notes == ()
    assert first.stopped or first.growth.step.function_error < 1e-4


def test_labels_of_no_class_are_refused_before_anything_runs():
    from energysplit.data.load import _check_labels

    with pytest.raises(DataError, match=r"train: the label of image 1 is 10, 0 to 9 expected \(2 such labels\)"):
        _check_labels(torch.tensor([0, 10, 3, -1]), 10, "digits, train")
    _check_labels(torch.arange(10), 10, "digits, train")


def test_batches_of_one_image_where_a_batch_norm_has_one_value(tmp_path):
    """A convolution's batch norm has the pixels of one image; a linear layer's has one value."""
    changes = {
        "train": {"batch_size": 1, "epochs": 1},
        "data": {"limit": 20},
        "index": {"images": 4, "held_out_images": 4},
        "growth": {"stages": 0},
    }
    flat = {"name": "mlp", "args": {"widths": [4], "batch_norm": True}}
    with pytest.raises(RecipeError, match=r"train.batch_size = 1 given, but a batch norm .* no statistics of one"):
        growth.grow(tiny(model=flat, **changes), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert len(growth.grow(tiny(**changes), run_dir=tmp_path / "conv").records) == 1


@pytest.mark.parametrize(
    ("limit", "neurons"), [(199, 0), (237, 0), (246, 1)], ids=["the present price", "one short", "exactly one"]
)
def test_budgets_of_no_neuron_and_of_one(tmp_path, limit, neurons):
    records = growth.grow(
        tiny(budget=[{"provider": "params", "limit": limit}], growth={"stages": 1}), run_dir=tmp_path / "run"
    ).records
    assert sum(records[-1].widths.values()) - sum(records[0].widths.values()) == neurons
    if not neurons:
        assert records[0].stopped.startswith("Nothing")


@pytest.mark.parametrize("signed", [False, True])
def test_groups_of_one_channel_grow(tmp_path, signed):
    one = {"name": "cnn", "args": {"widths": [1, 1], "in_channels": 1, "activation": "silu"}}
    first, *_ = growth.grow(tiny(model=one, growth={"stages": 1, "signed": signed}), run_dir=tmp_path / "run").records
    assert first.stopped == ""
    assert sum(len(neurons) for neurons in first.growth.allocation.split.values()) == 1


def test_a_mass_that_no_split_has_is_refused_in_the_recipe():
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        tiny(growth={"stages": 1, "signed": True, "mass": 1e6})
