"""Step policies: what each returns, and that the searching ones keep their promise."""

from __future__ import annotations

import branched
import cases
import pytest
import torch

import energysplit as es
from energysplit.surgery import choose_step, group_norms
from energysplit.surgery.step import SEARCH


def test_group_norm_is_the_root_mean_square_of_row_norms():
    net = cases.network("cnn")
    rows = net.module.get_submodule("0").weight.flatten(1).norm(dim=1)
    assert group_norms(net, ["0"])["0"] == pytest.approx(float(rows.detach().square().mean().sqrt()))


@pytest.mark.parametrize("family", branched.FAMILIES)
def test_group_norms_are_over_all_rows_that_move(family):
    """Several producers, several rows of one, blocks of rows; gates do not count."""
    net = branched.network(family)
    names = branched.splittable(net)
    for name, norm in group_norms(net, names).items():
        rows = [
            net.module.get_parameter(slot.tensor).detach()[channel].flatten()
            for slot in net.slots
            if slot.group == name
            and slot.tensor.removesuffix(".weight") in net.groups[name].movers
            and not slot.span.dim
            for channel in slot.span.index(net.widths[name])
        ]
        per_neuron = torch.stack([row.square().sum() for row in rows]).reshape(-1, net.widths[name]).sum(0)
        assert norm == pytest.approx(float(per_neuron.mean().sqrt())), name


def test_fixed_is_absolute_and_relative_follows_the_norm():
    net = cases.network("cnn")
    assert choose_step(net, ["0", "2"], policy="fixed", size=0.01).size == {"0": 0.01, "2": 0.01}
    norms = group_norms(net, ["0", "2"])
    relative = choose_step(net, ["0", "2"], policy="relative", size=0.3).size
    assert relative == pytest.approx({name: 0.3 * norm for name, norm in norms.items()})


@pytest.mark.parametrize(("policy", "tolerance", "limit"), [("tolerance", 1.2, 1.2), ("monotone", 9.0, 1.0)])
def test_searching_policies_take_the_largest_step_within_their_limit(policy, tolerance, limit):
    net = cases.network("cnn")
    norm = group_norms(net, ["0"])["0"]

    def loss_after(size):  # falls a little, then rises
        factor = size["0"] / norm
        return 1.0 - 0.1 * factor + factor**2

    options = {"size": 1.0, "tolerance": tolerance, "loss_before": 1.0, "loss_after": loss_after}
    found = choose_step(net, ["0"], policy=policy, **options)
    assert loss_after(found.size) <= limit
    assert loss_after({"0": found.size["0"] / SEARCH}) > limit
    assert policy in found.policy


def test_a_search_without_success_says_so():
    net = cases.network("cnn")
    found = choose_step(net, ["0"], policy="monotone", size=1.0, loss_before=1.0, loss_after=lambda size: 2.0)
    assert "no step down to" in found.policy
    assert 0 < found.size["0"] < 0.01 * group_norms(net, ["0"])["0"]


def test_wrong_policies_are_named():
    net = cases.network("cnn")
    with pytest.raises(es.InputError, match="step policy 'big' given"):
        choose_step(net, ["0"], policy="big", size=1.0)
    with pytest.raises(es.InputError, match="loss_before and loss_after are needed"):
        choose_step(net, ["0"], policy="monotone", size=1.0)
    assert torch.is_tensor(net.example_input)
