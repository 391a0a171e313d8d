"""Batch norms that follow their batch, as in training: predicted and real loss changes there, in float64."""

from __future__ import annotations

import copy

import cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit.splitting.operator import SplittingOperator
from energysplit.splitting.statistics import norms_of

BATCH = cases.images(24)
STEP = 1e-3


def loss_in_training(net: es.Network) -> float:
    """Mean loss with the statistics of the whole batch."""
    module = copy.deepcopy(net.module).train()
    with torch.no_grad():
        return float(F.cross_entropy(module(BATCH[0]), BATCH[1]))


def training_change(net, index, chosen, step):
    return loss_in_training(oracles.grown(net, index, chosen, step)) - loss_in_training(net)


def test_each_neuron_changes_the_training_loss_as_predicted():
    net = cases.network("mobilenet")
    index = es.splitting_index(net, [BATCH], F.cross_entropy, method="exact", statistics="batch")
    assert set(index) == {name for name, group in net.groups.items() if group.splittable}
    for name in index:
        for channel in range(0, net.widths[name], 2):
            predicted = oracles.predicted_change(index, {name: [channel]}, STEP)
            realised = training_change(net, index, {name: [channel]}, STEP)
            assert realised == pytest.approx(predicted, rel=0.01, abs=1e-13), (name, channel)


@pytest.mark.parametrize("linear", ["skip", "outgoing"])
def test_random_moves_of_all_neurons_together(linear):
    net = cases.network("mobilenet")
    options = {"method": "random", "linear": linear, "statistics": "batch"}
    index = es.splitting_index(net, [BATCH], F.cross_entropy, **options)
    chosen = {name: list(range(net.widths[name])) for name in index}
    predicted = oracles.predicted_change(index, chosen, STEP)
    assert training_change(net, index, chosen, STEP) == pytest.approx(predicted, rel=0.01)
    assert oracles.realised_change(net, [BATCH], index, chosen, STEP) != pytest.approx(predicted, rel=0.1)


def test_running_and_batch_statistics_disagree_about_directions_that_only_shift_and_scale():
    """Along its own weights a neuron in front of a batch norm only changes its size: nothing that training keeps."""
    net = cases.network("mobilenet")
    name = next(name for name, group in net.groups.items() if group.splittable)
    values = {}
    for statistics in ("running", "batch"):
        operator = SplittingOperator(net, [BATCH], F.cross_entropy, statistics=statistics)
        vectors = operator.random_vectors(0)
        (mover,) = net.groups[name].movers
        own = net.weight(mover).flatten(1)
        vectors[name] = own / own.norm(dim=1, keepdim=True)
        values[statistics] = operator.evaluate(vectors)[name][0]
    # Not 0, because of batch norm's eps beside a small variance.
    assert (values["batch"].abs() < 0.1 * values["running"].abs()).all()


def test_the_network_is_left_as_it_was():
    net = cases.network("mobilenet")
    before = copy.deepcopy(net.module.state_dict())
    modes = [module.training for module in net.module.modules()]
    es.splitting_index(net, [BATCH], F.cross_entropy, method="exact", statistics="batch")
    assert all(torch.equal(value, before[key]) for key, value in net.module.state_dict().items())
    assert [module.training for module in net.module.modules()] == modes
    norms = [module for module in net.module.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.track_running_stats for norm in norms)
    with norms_of(net.module, "batch"):
        assert all(norm.training for norm in norms)
    assert not any(norm.training for norm in norms)


def test_an_unknown_word_is_refused():
    with pytest.raises(es.EnergysplitError, match="statistics='batches' given: did you mean 'batch'"):
        es.splitting_index(cases.network("cnn"), [BATCH], F.cross_entropy, statistics="batches")


def test_a_batch_norm_behind_the_last_nonlinearity_bends_too():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5)).double()
    x, target = torch.randn(12, 3, 6, 6).double(), torch.randint(5, (12,))
    module(x)
    net = es.trace(module.eval(), x)
    index = es.splitting_index(net, [(x, target)], F.cross_entropy, method="exact", statistics="batch")
    losses = []
    for each in (net, es.split(net, {"0": [1]}, index, STEP)):
        losses.append(F.cross_entropy(copy.deepcopy(each.module).train()(x), target).item())
    assert losses[1] - losses[0] == pytest.approx(STEP**2 / 2 * float(index["0"].value[1]), rel=0.01)


class Frozen(nn.Sequential):
    """Its first batch norm is not trained, as in fine-tuning."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def test_a_batch_norm_that_the_model_s_own_train_keeps_frozen_keeps_its_running_statistics():
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.SiLU()]
    module = cases.randomise(Frozen(*layers, nn.Flatten(), nn.Linear(16, 5)).double())
    x, target = torch.randn(12, 3, 6, 6).double(), torch.randint(5, (12,))
    net = es.trace(module.eval(), x)
    index = es.splitting_index(net, [(x, target)], F.cross_entropy, method="exact", statistics="batch")
    for name, channel in (("0", 1), ("3", 2)):
        losses = []
        for each in (net, es.split(net, {name: [channel]}, index, STEP)):
            losses.append(F.cross_entropy(copy.deepcopy(each.module).train()(x), target).item())
        assert losses[1] - losses[0] == pytest.approx(STEP**2 / 2 * float(index[name].value[channel]), rel=0.01)
    with norms_of(module, "batch"):
        assert [module[1].training, module[4].training] == [False, True]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(64, 5)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x):
        normed = F.batch_norm(self.conv(x), self.mean, self.variance, training=self.training)
        return self.head(F.silu(normed).flatten(1))


def test_batch_norms_that_can_t_have_them_are_refused():
    x = torch.randn(3, 3, 6, 6)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 5)).eval()
    functional = Functional().eval()
    for module, images, said in ((linear, 1, "a batch of one image"), (functional, 3, "functional.batch_norm")):
        batch = (x[:images], torch.zeros(images, dtype=torch.long))
        net = es.trace(module, x)
        with pytest.raises(es.EnergysplitError, match=said):
            es.splitting_index(net, [batch], F.cross_entropy, statistics="batch")
        assert es.splitting_index(net, [batch], F.cross_entropy)
