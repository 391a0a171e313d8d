"""Offspring that differ in their outgoing weights too: what docs/outgoing.md derives, proved."""

from __future__ import annotations

import cases
import graph_cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit.splitting.operator import SplittingOperator
from energysplit.surgery import group_norms

BATCH = cases.images(24)


def chain(act: type[nn.Module] = nn.Identity) -> nn.Module:
    """A linear group between two others."""
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), act(), nn.Conv2d(4, 5, 3), nn.SiLU(), *cases.head(5)]
    return cases.randomise(nn.Sequential(*layers))


def linear_network() -> es.Network:
    torch.manual_seed(0)
    return es.trace(chain(), BATCH[0])


def test_index_of_a_linear_group_is_minus_k_times_the_largest_singular_value():
    net = linear_network()
    index = es.splitting_index(net, [BATCH], F.cross_entropy, method="exact", linear="outgoing")
    dims = net.weight("0")[0].numel()
    for channel in range(4):
        joint = oracles.splitting_matrix(net, [BATCH], "0", channel, outgoing=True)
        assert float(joint[:dims, :dims].abs().max()) < 1e-12
        assert float(joint[dims:, dims:].abs().max()) < 1e-12
        largest = float(torch.linalg.matrix_norm(joint[dims:, :dims], ord=2))
        assert largest > 0
        assert float(index["0"].value[channel]) == pytest.approx(-largest, rel=1e-8)
    rows = index["0"].direction["0"].flatten(1).square().sum(1)
    torch.testing.assert_close(rows, torch.full_like(rows, 0.5), msg="half of the step goes to each side")


@pytest.mark.parametrize("kind", ["bottleneck", "chunked", "dense", "squeeze-excite", "layer-scaled"])
def test_no_group_is_left_out_and_no_index_is_above_that_of_rows_alone(kind):
    net = graph_cases.network(kind)
    rows = es.splitting_index(net, [BATCH], F.cross_entropy, method="exact")
    joint = es.splitting_index(net, [BATCH], F.cross_entropy, method="exact", linear="outgoing")
    assert set(joint) == {name for name, group in net.groups.items() if group.splittable}
    for name, found in joint.items():
        assert bool((found.value < 0).all()), "C is not zero, so a split lowers the loss"
        assert set(found.outgoing) == set(net.groups[name].consumers)
        if name in rows:
            assert bool((found.value <= rows[name].value + 1e-12).all())


def test_relative_gain_does_not_depend_on_how_a_linear_neuron_is_scaled():
    """Rows times a, columns by a: the same function, and the same gain for a step relative to the weights' norm."""
    gains = []
    for a in (1.0, 3.0):
        torch.manual_seed(0)
        module = chain()
        with torch.no_grad():
            module[0].weight.mul_(a)
            module[1].running_mean.mul_(a)
            module[0].bias.mul_(a)
            module[1].running_var.add_(module[1].eps).sub_(module[1].eps)
            module[1].bias.mul_(a)
            module[3].weight.div_(a)
        net = es.trace(module, BATCH[0])
        index = es.splitting_index(net, [BATCH], F.cross_entropy, method="exact", linear="outgoing")
        gains.append(index["0"].value * group_norms(net, ["0"])["0"] ** 2)
    torch.testing.assert_close(*gains)


def test_gradient_of_the_quadratic_form_gives_both_halves():
    """S v + k C^T u and k C v, with C built column by column from its definition."""
    net = linear_network()
    operator = SplittingOperator(net, [BATCH], F.cross_entropy, linear="outgoing")
    x, y = BATCH
    k = oracles.outgoing_scale(net, "0")
    module = net.module
    hidden = module[2](module[1](module[0](x))).detach()
    before = module[3](hidden)
    after = F.cross_entropy(module[4:](before), y)
    (gradient,) = torch.autograd.grad(after, before)
    scale = module[1].weight / (module[1].running_var + module[1].eps).sqrt()
    vectors = operator.random_vectors(0)
    applied = operator.apply(vectors)["0"]
    dims = module[0].weight[0].numel()
    for channel in range(4):
        v, u = vectors["0"][channel, :dims], vectors["0"][channel, dims:]
        tangent = torch.zeros_like(hidden)
        tangent[:, channel] = scale[channel] * F.conv2d(x, v.reshape(1, 3, 3, 3))[:, 0]
        weight = torch.zeros_like(module[3].weight).requires_grad_()
        (c_v,) = torch.autograd.grad(F.conv2d(tangent.detach(), weight), weight, gradient)
        torch.testing.assert_close(applied[channel, dims:], k * c_v[:, channel].flatten())
        row = torch.zeros(27, dtype=torch.float64, requires_grad=True)
        moved = torch.zeros_like(module[3].weight)
        moved[:, channel] = k * u.reshape(5, 3, 3)
        one = scale[channel].detach() * F.conv2d(x, row.reshape(1, 3, 3, 3))
        form = (gradient * F.conv2d(one, moved[:, channel : channel + 1].detach())).sum()
        (ct_u,) = torch.autograd.grad(form, row)
        torch.testing.assert_close(applied[channel, :dims], ct_u)


def test_real_gain_is_predicted_where_rows_alone_have_none():
    net = linear_network()
    index = es.splitting_index(net, [BATCH], F.cross_entropy, sweeps=12, linear="outgoing")
    chosen = {name: list(range(net.widths[name])) for name in index}
    for step in (1e-2, 1e-3):
        predicted = oracles.predicted_change(index, chosen, step)
        assert oracles.realised_change(net, [BATCH], index, chosen, step) == pytest.approx(predicted, rel=0.01)
    only = {"0": chosen["0"]}
    with_both = oracles.realised_change(net, [BATCH], index, only, 1e-3)
    rows_only = es.split(net, only, {"0": index["0"].direction}, 1e-3)
    assert with_both < 0
    assert abs(oracles.loss_of(rows_only, [BATCH]) - oracles.loss_of(net, [BATCH])) < 1e-4 * abs(with_both)


def test_kinked_groups_take_part_too():
    torch.manual_seed(0)
    net = es.trace(chain(nn.ReLU), BATCH[0])
    index = es.splitting_index(net, [BATCH], F.cross_entropy, linear="outgoing")
    assert set(index) == {"0", "3"}
    assert bool((index["0"].value < 0).all())
