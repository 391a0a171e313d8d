"""Surgery keeps the function, leaves the original alone, and carries gradients and optimiser state."""

from __future__ import annotations

import cases
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import energysplit as es
from energysplit.surgery import function_error, resize, split_state
from energysplit.surgery.channels import channel_map


def splittable(net: es.Network) -> list[str]:
    return [name for name, group in net.groups.items() if group.splittable]


def logits(net: es.Network) -> torch.Tensor:
    net.module.eval()
    with torch.no_grad():
        return net.module(cases.images()[0])


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_function_is_kept_by_single_groups_all_groups_and_all_twice(family):
    net = cases.network(family)
    before = logits(net)
    for name in splittable(net):
        torch.testing.assert_close(logits(es.split(net, {name: [0, 2]})), before, rtol=0, atol=1e-9)
    everything = {name: list(range(net.widths[name])) for name in splittable(net)}
    once = es.split(net, everything)
    assert once.widths == {name: 2 * n if name in everything else n for name, n in net.widths.items()}
    twice = es.split(once, {name: list(range(once.widths[name])) for name in everything})
    torch.testing.assert_close(logits(twice), before, rtol=0, atol=1e-9)
    assert torch.equal(logits(net), before), "the original network is untouched"


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_gradients_of_the_split_network_follow_from_those_before(family):
    """Also the reason for the factors that optimiser state is carried with."""
    net = cases.network(family)
    chosen = {name: [1] for name in splittable(net)}
    after = es.split(net, chosen)
    x, y = cases.images()
    for each in (net, after):
        F.cross_entropy(each.module(x), y).backward()
    gradients = {f"{name}/momentum_buffer": p.grad for name, p in net.module.named_parameters()}
    carried = split_state(net, chosen, gradients)
    squares = split_state(
        net, chosen, {key.replace("momentum_buffer", "exp_avg_sq"): g.square() for key, g in gradients.items()}
    )
    for name, p in after.module.named_parameters():
        torch.testing.assert_close(carried[f"{name}/momentum_buffer"], p.grad, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(squares[f"{name}/exp_avg_sq"], p.grad.square(), rtol=1e-9, atol=1e-16)


def test_copies_stand_next_to_the_original_and_move_apart():
    net = cases.network("cnn")
    weight = net.module.get_submodule("0").weight
    direction = torch.randn_like(weight)
    after = es.split(net, {"0": [2, 0]}, directions={"0": {"0": direction}}, step=0.1)
    rows = after.module.get_submodule("0").weight
    expected = [
        weight[0] + 0.1 * direction[0],
        weight[0] - 0.1 * direction[0],
        weight[1],
        weight[2] + 0.1 * direction[2],
        weight[2] - 0.1 * direction[2],
        weight[3],
    ]
    torch.testing.assert_close(rows, torch.stack(expected))
    columns = after.module.get_submodule("2").weight[:, :, 0, 0]
    old = net.module.get_submodule("2").weight[:, :, 0, 0]
    torch.testing.assert_close(columns, old[:, [0, 0, 1, 2, 2, 3]] * torch.tensor([0.5, 0.5, 1, 0.5, 0.5, 1]))


def test_layers_know_their_new_sizes():
    net = es.split(cases.network("mobilenet"), {"0": [0, 1], "6": [3]})
    modules = net.module
    assert (modules[0].out_channels, modules[1].num_features) == (6, 6)
    assert (modules[3].in_channels, modules[3].out_channels, modules[3].groups) == (6, 6, 6)
    assert (modules[6].in_channels, modules[6].out_channels) == (6, 6)
    assert net.widths["6"] == 6


def test_split_network_trains_and_keeps_requires_grad():
    net = cases.network("vgg")
    net.module.get_submodule("0").weight.requires_grad_(False)
    after = es.split(net, {"0": [0], "4": [1]})
    assert not after.module.get_submodule("0").weight.requires_grad
    after.module.train()
    optimiser = torch.optim.SGD([p for p in after.module.parameters() if p.requires_grad], lr=0.1)
    x, y = cases.images()
    loss = F.cross_entropy(after.module(x), y)
    loss.backward()
    optimiser.step()
    assert F.cross_entropy(after.module(x), y) < loss


def test_resize_gives_the_stated_widths():
    net = cases.network("vgg")
    widths = {**net.widths, "0": 9, "4": 3}
    resized = resize(net, widths)
    assert resized.widths == widths
    grown = es.split(net, {"0": [0, 1, 2, 3]})
    again = resize(net, grown.widths)
    again.module.load_state_dict(grown.module.state_dict())
    torch.testing.assert_close(logits(again), logits(net))


@given(channels=st.integers(1, 12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_channel_map_keeps_order_and_total_share(channels, data):
    chosen = data.draw(st.lists(st.integers(0, channels - 1), unique=True))
    found = channel_map("g", channels, chosen)
    assert found.source.tolist() == sorted([*range(channels), *chosen])
    share = torch.zeros(channels, dtype=torch.float64).index_add_(0, found.source, found.share)
    signs = torch.zeros(channels, dtype=torch.float64).index_add_(0, found.source, found.sign)
    assert share.tolist() == [1.0] * channels
    assert signs.abs().max() == 0
    assert found.indices(3).tolist() == [c * 3 + k for c in found.source.tolist() for k in range(3)]


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ({"00": [0]}, {}, "no group '00'"),
        ({"11": [0]}, {}, "can't be split: its channels are the network's outputs"),
        ({"0": [4]}, {}, r"channels \[4\] given, 0 to 3 expected"),
        ({"0": [-1]}, {}, r"channels \[-1\] given"),
        ({"0": [1, 1]}, {}, "named twice"),
        ({"0": [True, False]}, {}, "not a mask"),
        ({"0": [1]}, {"step": float("nan")}, "step nan given, a finite number"),
        ({"0": [1]}, {"step": {"2": 0.1}}, "no step is given for it"),
        (
            {"0": [1]},
            {"step": 0.1, "directions": {"0": {"0": torch.full((4, 3, 5, 5), float("inf"))}}},
            "NaN or infinity",
        ),
        ({"0": [1]}, {"step": 0.1}, "no direction is given for producer '0'"),
        ({"0": [1]}, {"step": 0.1, "directions": {"0": {"0": torch.zeros(2)}}}, r"has shape \(2,\), \(4, 3, 5, 5\)"),
    ],
)
def test_wrong_input_is_named(chosen, options, message):
    net = cases.network("cnn")
    last = next(name for name, group in net.groups.items() if not group.splittable)
    chosen = {last if name == "11" else name: channels for name, channels in chosen.items()}
    with pytest.raises(es.InputError, match=message):
        es.split(net, chosen, **options)


def test_unknown_optimiser_state_is_refused():
    net = cases.network("cnn")
    with pytest.raises(es.InputError, match="'prev' of '0.weight' can't be carried"):
        split_state(net, {"0": [0]}, {"0.weight/prev": net.module.get_submodule("0").weight.detach()})


def test_function_error_sees_a_changed_function():
    net = cases.network("cnn")
    assert function_error(net, es.split(net, {"0": [0]}), cases.images()[0]) < 1e-12
    moved = es.split(net, {"0": [0]}, {"0": {"0": torch.ones(4, 3, 5, 5)}}, 0.5)
    assert function_error(net, moved, cases.images()[0]) > 1e-4
    with torch.no_grad():
        moved.module.get_submodule("0").weight.fill_(float("nan"))
    error = function_error(net, moved, cases.images()[0])
    assert error != error
