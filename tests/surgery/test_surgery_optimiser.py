"""Optimiser state after a split is what the optimiser of the split network would have gathered on the same images."""

from __future__ import annotations

from functools import partial
from itertools import cycle

import branched
import cases
import pytest
import torch
import torch.nn.functional as F

import energysplit as es
from energysplit.kinds import kinds
from energysplit.surgery import split_state
from energysplit.train.optimiser import load_state_tensors, state_tensors

EVERY = [*cases.FAMILIES, *branched.FAMILIES]
OPTIMISERS = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adam": partial(torch.optim.Adam, amsgrad=True),
    "rmsprop": partial(torch.optim.RMSprop, centered=True, momentum=0.5, eps=1e-14),
}


def steps(net: es.Network, optimiser: torch.optim.Optimizer, number: int, training: bool = True) -> None:
    """Steps on images."""
    net.module.train(training)
    for seed in range(number):
        x, y = cases.images(seed=seed)
        optimiser.zero_grad()
        F.cross_entropy(net.module(x), y).backward()
        optimiser.step()


def some(net: es.Network, mass: float) -> dict:
    """Some neurons of every group; at a mass above 1 in all ways there are."""
    ways = cycle(kinds(mass))
    return {
        name: {channel: next(ways) for channel in (0, net.widths[name] - 1)} if mass > 1 else [0, net.widths[name] - 1]
        for name in branched.splittable(net)
    }


@pytest.mark.parametrize("mass", [1.0, 2.5])
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_carried_state_is_what_the_split_network_would_have_gathered(family, kind, mass):
    """At learning rate 0 both networks stay what they are; the split one may then train on with either state."""
    net = branched.network(family)
    for layer in net.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    chosen = some(net, mass)
    after = es.split(net, chosen, mass=mass)
    states = {}
    for each in (net, after):
        optimiser = OPTIMISERS[kind](each.module.parameters(), lr=0.0)
        # In training mode biases before batch norms have no gradient, and RMSprop would divide rounding by rounding.
        steps(each, optimiser, 3, training=kind != "rmsprop")
        states[each] = state_tensors(optimiser, each.module)
    carried = split_state(net, chosen, states[net], mass)
    assert list(carried) == list(states[after])
    for entry, tensor in carried.items():
        ratio = kind == "rmsprop" and entry.endswith("momentum_buffer")  # rounding of small gradients counts
        tolerance = {"rtol": 1e-4, "atol": 1e-4} if ratio else {"rtol": 1e-7, "atol": 1e-12}
        torch.testing.assert_close(tensor, states[after][entry], **tolerance)
    load_state_tensors(OPTIMISERS[kind](after.module.parameters(), lr=0.0), after.module, carried)


@pytest.mark.parametrize("mass", [1.0, 2.5])
@pytest.mark.parametrize("family", EVERY)
def test_gradients_of_the_split_network_follow_from_those_before(family, mass):
    """Also the reason for the factors that optimiser state is carried with."""
    net = branched.network(family)
    chosen = some(net, mass)
    after = es.split(net, chosen, mass=mass)
    x, y = cases.images()
    for each in (net, after):
        F.cross_entropy(each.module(x), y).backward()
    gradients = {f"{name}/momentum_buffer": p.grad for name, p in net.module.named_parameters()}
    carried = split_state(net, chosen, gradients, mass)
    squares = split_state(
        net, chosen, {key.replace("momentum_buffer", "exp_avg_sq"): g.square() for key, g in gradients.items()}, mass
    )
    for name, p in after.module.named_parameters():
        torch.testing.assert_close(carried[f"{name}/momentum_buffer"], p.grad, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(squares[f"{name}/exp_avg_sq"], p.grad.square(), rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("family", branched.FAMILIES)
def test_copies_train_alike_until_something_tells_them_apart(family):
    """After steps with carried momentum, every pair of copies is still equal: nobody mixed up two rows or columns."""
    net = branched.network(family)
    optimiser = torch.optim.SGD(net.module.parameters(), lr=0.05, momentum=0.9)
    steps(net, optimiser, 2)
    chosen = {name: list(range(net.widths[name])) for name in branched.splittable(net)}
    after = es.split(net, chosen)
    second = torch.optim.SGD(after.module.parameters(), lr=0.05, momentum=0.9)
    load_state_tensors(second, after.module, split_state(net, chosen, state_tensors(optimiser, net.module)))
    steps(after, second, 3)
    changed = 0
    for slot in after.slots:
        if slot.group in chosen:
            tensor = dict([*after.module.named_parameters(), *after.module.named_buffers()])[slot.tensor].detach()
            index = slot.span.index(after.widths[slot.group]).unflatten(0, (-1, 2))
            first, other = (tensor.index_select(slot.span.dim, index[:, side].flatten()) for side in (0, 1))
            torch.testing.assert_close(first, other, rtol=1e-9, atol=1e-12, msg=slot.tensor)
            changed += 1
    assert changed


def test_a_negative_share_turns_momentum_and_leaves_squares_positive():
    """A pair of shares 1.5 and -0.5 (mass 2), in a layer without anything else."""
    net = cases.network("cnn")
    weight = net.module.get_submodule("0").weight.detach()
    keys = ("square_avg", "grad_avg", "momentum_buffer")
    state = {f"0.weight/{key}": weight.abs() if key == "square_avg" else weight for key in keys}
    carried = split_state(net, {"0": {1: "signed_pair"}}, state, 2.0)
    torch.testing.assert_close(carried["0.weight/grad_avg"][1:3], torch.stack([1.5 * weight[1], -0.5 * weight[1]]))
    squares = torch.stack([2.25 * weight[1].abs(), 0.25 * weight[1].abs()])
    torch.testing.assert_close(carried["0.weight/square_avg"][1:3], squares)
    torch.testing.assert_close(carried["0.weight/momentum_buffer"][1:3], torch.stack([weight[1], -weight[1]]))
    only = split_state(net, {"0": {1: "signed_pair"}}, {"0.weight/momentum_buffer": weight}, 2.0)
    torch.testing.assert_close(only["0.weight/momentum_buffer"][1:3], torch.stack([1.5 * weight[1], -0.5 * weight[1]]))


def test_state_of_kinds_needs_their_mass():
    net = cases.network("cnn")
    with pytest.raises(es.InputError, match="kind 'quadruple' of channel 1 has negative shares"):
        split_state(net, {"0": {1: "quadruple"}}, {})


def test_unknown_optimiser_state_is_refused():
    net = cases.network("cnn")
    with pytest.raises(es.InputError, match="'prev' of '0.weight' can't be carried"):
        split_state(net, {"0": [0]}, {"0.weight/prev": net.module.get_submodule("0").weight.detach()})
