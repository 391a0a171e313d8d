"""Networks that branch grow from recipes like chains do, with offspring that may differ in their outgoing weights."""

from __future__ import annotations

import shutil

import growth_runs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import energysplit as es
from energysplit import growth
from energysplit.output.indices import load_index, save_index


class Branched(nn.Module):
    """A linear residual trunk with a gate, a grouped convolution and a concatenation, for 8x8 grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.up, self.norm = nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.grouped, self.down = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.Conv2d(6, 4, 1)
        self.squeeze, self.excite = nn.Linear(6, 2), nn.Linear(2, 6)
        self.side = nn.Conv2d(4, 3, 1)
        self.classes = nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.silu(self.grouped(F.silu(self.norm(self.up(x)))))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3))))))
        x = x + self.down(y * gate[:, :, None, None])
        return self.classes(torch.cat([x, F.silu(self.side(x))], 1).mean((2, 3)))


def recipe(**index: object) -> es.Recipe:
    model = {"name": "test_growth_branched:Branched", "args": {}}
    return growth_runs.tiny(model=model, index={"linear": "outgoing", **index}, train={"batch_size": 64})


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The recipe names this very module."""
    import sys

    sys.modules["test_growth_branched"] = sys.modules[__name__]
    yield
    del sys.modules["test_growth_branched"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, importable):
    folder = tmp_path_factory.mktemp("branched") / "run"
    return folder, growth.grow(recipe(), run_dir=folder)


def test_every_group_can_grow_by_its_outgoing_weights(finished):
    folder, result = finished
    assert [record.stage for record in result.records] == [0, 1, 2]
    index = load_index(folder / "stages" / "0" / "index.safetensors")
    net = growth.setup.prepare(recipe()).seed
    assert set(index) == {name for name, group in net.groups.items() if group.splittable}
    assert {"stem", "up", "grouped", "squeeze", "side"} <= set(net.groups)
    for name, found in index.items():
        assert set(found.direction) == set(net.groups[name].movers)
        assert set(found.outgoing) == set(net.groups[name].consumers)
    assert net.groups["stem"].producers == ("stem", "down")
    assert float(index["stem"].value.min()) < 0, "linear, and grows all the same"
    last = es.load(folder / "stages" / "2", Branched())
    assert last.widths == result.records[-1].widths
    assert sum(last.widths.values()) > sum(net.widths.values())


def test_small_steps_realise_what_was_predicted(tmp_path):
    run = recipe(held_out_images=512).model_copy(
        update={
            "step": growth_runs.tiny(step={"policy": "fixed", "size": 0.02}).step,
            "growth": growth_runs.tiny(growth={"stages": 1}).growth,
        }
    )
    step = growth.grow(run, run_dir=tmp_path / "run").records[0].growth.step
    assert step.predicted_change < 0
    assert step.realised_change == pytest.approx(step.predicted_change, rel=0.05)


def test_a_resumed_growth_is_the_same_to_the_bit(finished, tmp_path):
    """What stage 1 starts from is made again from the stored indices, outgoing directions included."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    shutil.rmtree(folder / "progress")
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    growth.grow(recipe(), run_dir=folder, resume=True)
    assert growth_runs.journal(folder) == growth_runs.journal(finished[0])
    assert growth_runs.files(folder) == growth_runs.files(finished[0])


@pytest.mark.parametrize("linear", ["skip", "unit"])
def test_groups_without_a_bend_follow_the_recipe(tmp_path, linear):
    run = recipe(linear=linear)
    planned = growth.plan(run)
    assert any("stem" in warning for warning in planned.warnings) == (linear == "skip")
    result = growth.grow(run, run_dir=tmp_path / "run", overrides=["growth.stages=1", "train.epochs=1"])
    index = load_index(tmp_path / "run" / "stages" / "0" / "index.safetensors")
    assert ("stem" in index) == (linear == "unit")
    assert all(not found.outgoing for found in index.values())
    assert len(result.records) == 2


def test_the_plan_counts_all_numbers_of_a_neuron():
    """A row in both groups of the grouped convolution; two columns of `down` and of `squeeze`."""
    exact = {"method": "exact", "sweeps": None}
    assert growth.plan(recipe(**exact)).index_sweeps == 2 * 3 * 9 + 2 * 4 + 2 * 2
    assert growth.plan(recipe(**{**exact, "linear": "unit"})).index_sweeps == 2 * 3 * 9


def test_indices_come_back_with_their_outgoing_directions(tmp_path, finished):
    index = load_index(finished[0] / "stages" / "0" / "index.safetensors")
    digest = save_index(tmp_path / "again", index)
    again = load_index(tmp_path / "again")
    assert digest == save_index(tmp_path / "third", again)
    for name, found in index.items():
        assert again[name].outgoing.keys() == found.outgoing.keys()
        for kind in ("direction", "outgoing"):
            for layer, tensor in getattr(found, kind).items():
                assert torch.equal(getattr(again[name], kind)[layer], tensor)


def test_outgoing_directions_need_exact_curvature():
    with pytest.raises(es.InputError, match=r"linear = 'outgoing' needs curvature = 'exact'"):
        growth.grow(recipe(), overrides=["index.curvature=producer"])
