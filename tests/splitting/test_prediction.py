"""The key proof: the predicted loss change is that of the real surgery, in float64."""

from __future__ import annotations

import cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit import models
from energysplit.models.activations import SmoothReLU, SmoothReLU6
from energysplit.splitting.operator import SplittingOperator

STEP = 1e-3
BATCH = cases.images(24)
SMOOTH = [nn.SiLU, nn.GELU, nn.Tanh, nn.Mish, lambda: SmoothReLU(3.0), lambda: SmoothReLU6(3.0)]


def exact_index(net: es.Network, **options) -> dict[str, es.SplitIndex]:
    return es.splitting_index(net, [BATCH], F.cross_entropy, method="exact", **options)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_each_neuron_by_itself(family):
    net = cases.network(family)
    index = exact_index(net)
    assert set(index) == {name for name, group in net.groups.items() if group.splittable}
    steps = []
    for name, found in index.items():
        for channel in range(net.widths[name]):
            chosen = {name: [channel]}
            step = oracles.step_without_switch(net, BATCH[0], index, chosen)
            predicted = oracles.predicted_change(index, chosen, step)
            realised = oracles.realised_change(net, [BATCH], index, chosen, step)
            assert realised == pytest.approx(predicted, rel=0.01, abs=1e-14), (
                name,
                channel,
                float(found.value[channel]),
            )
            steps.append(step)
    assert steps.count(STEP) >= len(steps) / 2
    assert min(steps) >= STEP / 30
    assert family == "vgg" or set(steps) == {STEP}


@pytest.mark.parametrize("act", SMOOTH, ids=["silu", "gelu", "tanh", "mish", "smooth_relu", "smooth_relu6"])
@pytest.mark.parametrize("family", cases.FAMILIES)
def test_all_neurons_together(family, act):
    net = cases.network(family, act)
    index = exact_index(net)
    chosen = {name: list(range(net.widths[name])) for name in index}
    step = oracles.step_without_switch(net, BATCH[0], index, chosen)
    predicted = oracles.predicted_change(index, chosen, step)
    assert predicted < 0
    assert family == "vgg" or step == STEP
    assert oracles.realised_change(net, [BATCH], index, chosen, step) == pytest.approx(predicted, rel=0.01)


BUILT_IN = {
    "mobilenet_v1_cifar": {"blocks": 3, "widths": [4, 5, 6, 5, 4], "activation": "silu"},
    "vgg": {"widths": [4, "M", 5, "M"], "activation": "gelu", "kernel": 5},
    "cnn": {"widths": [4, 5], "strides": [1, 2], "kernels": [1, 5], "batch_norm": False, "activation": "silu"},
    "mlp": {"image": [3, 8, 8], "widths": [6, 5], "activation": "gelu"},
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_models(name):
    torch.manual_seed(1)
    module = cases.randomise(models.build(name, classes=5, **BUILT_IN[name]))
    net = es.trace(module, BATCH[0])
    index = es.splitting_index(net, [BATCH], F.cross_entropy, sweeps=12)
    chosen = {group: list(range(net.widths[group])) for group in index}
    step = oracles.step_without_switch(net, BATCH[0], index, chosen)
    predicted = oracles.predicted_change(index, chosen, step)
    assert predicted < 0
    assert len(index) == len(net.groups) - 1
    assert oracles.realised_change(net, [BATCH], index, chosen, step) == pytest.approx(predicted, rel=0.01)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_index_is_smallest_eigenvalue_of_the_hessian_of_the_real_split(family):
    net = cases.network(family)
    index = exact_index(net)
    for name in list(index)[:3]:
        if net.module.get_submodule(name).weight[0].numel() > 100:
            continue
        matrix = oracles.splitting_matrix(net, [BATCH], name, 1)
        expected = torch.linalg.eigvalsh(matrix)[0]
        assert index[name].value[1] == pytest.approx(float(expected), rel=1e-8, abs=1e-12)


def test_producer_curvature_is_not_the_real_change_where_followers_bend():
    net = cases.network("mobilenet")
    index = exact_index(net, curvature="producer")
    errors = []
    for channel in range(4):
        realised = oracles.realised_change(net, [BATCH], index, {"0": [channel]}, STEP)
        errors.append(abs(realised / oracles.predicted_change(index, {"0": [channel]}, STEP) - 1))
    assert max(errors) > 0.05


def test_producer_curvature_is_exact_where_nothing_else_bends():
    net = cases.network("cnn")
    exact, producer = exact_index(net), exact_index(net, curvature="producer")
    for name in exact:
        torch.testing.assert_close(exact[name].value, producer[name].value)


def test_linear_groups_are_skipped_or_given_the_unit_surrogate():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *cases.conv_bn_act(4, 5), *cases.head(5)]
    net = es.trace(cases.randomise(nn.Sequential(*layers)), BATCH[0])
    assert set(exact_index(net)) == {"2"}
    unit = exact_index(net, linear="unit")
    assert set(unit) == {"0", "2"}
    # The surrogate is no curvature of the loss: the real change is zero to second order.
    chosen = {"0": [0]}
    realised = oracles.realised_change(net, [BATCH], unit, chosen, STEP)
    assert abs(realised) < 1e-3 * abs(oracles.predicted_change(unit, chosen, STEP))


@pytest.mark.parametrize(("act", "smooth"), [(nn.ReLU, SmoothReLU), (nn.ReLU6, SmoothReLU6)], ids=["relu", "relu6"])
def test_kinks_are_smoothed_as_the_smooth_activation_bends(act, smooth):
    from energysplit.graph.activations import of_module
    from energysplit.splitting.curvature import derivatives

    z = torch.linspace(-4, 10, 141, dtype=torch.float64)
    _, kinked = derivatives(of_module(act()), z, 3.0)
    _, bent = derivatives(of_module(smooth(3.0)), z, 3.0)
    torch.testing.assert_close(kinked, bent)


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6])
def test_true_kinks_at_finite_steps(act, record_property):
    """On the true kinked activation the prediction holds for finite steps, within its standard error.

    Random directions, so that no eigen-solver has fitted them to these images.
    """
    net = cases.network("mlp", act)
    batches = cases.batches_of(cases.images(16384), 2048)
    operator = SplittingOperator(net, batches, F.cross_entropy, kink_beta=10.0, cache_bytes=0)
    vectors = operator.random_vectors(0)
    values = operator.evaluate(vectors)
    predicted = sum(float(value.sum()) for value, _ in values.values())
    stderr = sum(float(error.square().sum()) for _, error in values.values()) ** 0.5
    before = oracles.loss_of(net, batches)
    ratios = {}
    for step in (0.05, 0.1, 0.2):
        chosen = {name: list(range(net.widths[name])) for name in vectors}
        after = es.split(net, chosen, {name: rows for name, (rows, _) in operator.directions(vectors).items()}, step)
        ratios[step] = (oracles.loss_of(after, batches) - before) / (step**2 / 2 * predicted)
    record_property("realised_over_predicted", str(ratios))
    assert all(abs(ratio - 1) < 3 * stderr / predicted for ratio in ratios.values()), (ratios, stderr / predicted)
    assert stderr / predicted < 0.1
