"""Narrowing: the narrowed network is the original without what its consumers read from the removed channels."""

from __future__ import annotations

import cases
import graph_cases
import pytest
import torch
from torch.utils._pytree import tree_leaves

import energysplit as es
from energysplit.errors import InputError
from energysplit.graph.edit import duplicate
from energysplit.graph.network import Role
from energysplit.surgery import narrow, narrow_state
from energysplit.train.optimiser import load_state_tensors, make_optimiser, state_tensors

NETWORKS = {
    **{name: lambda name=name: cases.network(name) for name in cases.FAMILIES},
    **{name: lambda name=name: graph_cases.network(name) for name in graph_cases.KINDS},
}


def chosen(net, seed):
    """Some channels of every group that can be split, at least one of each."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, group in net.groups.items():
        if group.splittable:
            count = int(torch.randint(1, group.channels + 1, (1,), generator=generator))
            kept[name] = torch.randperm(group.channels, generator=generator)[:count].tolist()
    return kept


def silenced(net, kept):
    """A copy of the network in which consumers read nothing from the channels that go."""
    copy = duplicate(net, {})
    with torch.no_grad():
        for slot in net.slots:
            if slot.role is Role.CONSUMER and slot.group in kept:
                gone = sorted(set(range(net.groups[slot.group].channels)) - set(kept[slot.group]))
                path, _, key = slot.tensor.rpartition(".")
                tensor = getattr(copy.module.get_submodule(path), key)
                index = slot.span.index(net.groups[slot.group].channels)[gone].flatten()
                tensor.index_fill_(slot.span.dim, index, 0.0)
    return copy


def outputs(net, x):
    with torch.no_grad():
        return tree_leaves(net.module.eval()(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_narrowed_is_the_original_with_silent_columns(name):
    net = NETWORKS[name]()
    before = [tensor.clone() for tensor in net.module.state_dict().values()]
    x = net.example_input
    removed = 0
    for seed in range(3):
        kept = chosen(net, seed)
        narrowed = narrow(net, kept)
        assert narrowed.widths == {**net.widths, **{group: len(channels) for group, channels in kept.items()}}
        for ours, theirs in zip(outputs(narrowed, x), outputs(silenced(net, kept), x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        # It is what a fresh trace finds, so that it can go on: priced, split, narrowed again.
        again = es.trace(narrowed.module, x)
        assert again.widths == narrowed.widths or any(width == 1 for width in narrowed.widths.values())
        removed += sum(net.widths.values()) - sum(narrowed.widths.values())
    assert removed > 0
    for tensor, old in zip(net.module.state_dict().values(), before, strict=True):
        assert torch.equal(tensor, old)


def test_the_check_can_fail():
    """A network that lost another channel is told apart."""
    net = cases.network("mobilenet")
    group = next(iter(net.groups))
    kept, other = {group: [0, 2]}, {group: [0, 3]}
    ours, theirs = (outputs(each, net.example_input)[0] for each in (narrow(net, kept), silenced(net, other)))
    assert not torch.allclose(ours, theirs)


def test_narrowing_twice_is_narrowing_once():
    net = graph_cases.network("residual")
    group = max(net.groups, key=lambda name: net.groups[name].splittable * net.groups[name].channels)
    twice = narrow(narrow(net, {group: [0, 1, 3]}), {group: [0, 2]})
    once = narrow(net, {group: [3, 0]})
    for name, tensor in once.module.state_dict().items():
        assert torch.equal(twice.module.state_dict()[name], tensor)
    assert twice.slots == once.slots
    assert twice.cases() == once.cases()


def test_a_whole_group_stays_as_it_is_even_where_it_cannot_be_narrowed():
    net = cases.network("cnn")
    fixed = next(name for name, group in net.groups.items() if not group.splittable)
    assert narrow(net, {fixed: range(net.widths[fixed])}).widths == net.widths
    with pytest.raises(InputError, match=f"group '{fixed}' can't be narrowed"):
        narrow(net, {fixed: [0]})


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ([], "no channel is kept; at least one must stay"),
        ([0, 9], "channels \\[9\\] to be kept, 0 to 3 expected"),
        ([0, -1], "channels \\[-1\\] to be kept"),
        ([True, False], "to be kept, 0 to 3 expected"),
        ([1, 1], "named twice"),
    ],
)
def test_wrong_channels_are_refused(channels, said):
    net = cases.network("cnn")
    with pytest.raises(InputError, match=said):
        narrow(net, {next(iter(net.groups)): channels})


def test_an_unknown_group_is_refused():
    with pytest.raises(InputError, match="no group 'nothing'"):
        narrow(cases.network("cnn"), {"nothing": [0]})


@pytest.mark.parametrize("name", ["vgg", "residual", "multiplied", "squeeze-excite"])
def test_training_goes_on_as_with_silent_channels(name):
    """Momentum is carried with its channels: one more step gives the rows and columns the silent network gets."""
    net = NETWORKS[name]()
    x, target = cases.images()
    optimiser = make_optimiser(net.module, learning_rate=0.05)

    def step(module, optimiser):
        module.eval()  # batch statistics would see other channels' images as well, but not other channels
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x), target).backward()
        optimiser.step()

    for _ in range(2):
        step(net.module, optimiser)
    state = state_tensors(optimiser, net.module)
    kept = chosen(net, 5)
    narrowed = narrow(net, kept)
    ours = make_optimiser(narrowed.module, learning_rate=0.05)
    carried = narrow_state(net, kept, state)
    load_state_tensors(ours, narrowed.module, carried)
    assert list(carried) == list(state)
    step(narrowed.module, ours)
    silent = silenced(net, kept)
    theirs = make_optimiser(silent.module, learning_rate=0.05)
    load_state_tensors(theirs, silent.module, state)
    step(silent.module, theirs)
    stepped = narrow(duplicate(net, {}).rewidened(silent.module, {}), kept)
    for key, tensor in narrowed.module.state_dict().items():
        torch.testing.assert_close(tensor, stepped.module.state_dict()[key], rtol=1e-9, atol=1e-11)


def test_state_of_another_network_is_refused():
    net = cases.network("cnn")
    group = next(iter(net.groups))
    with pytest.raises(InputError, match="can't be narrowed: no such parameter"):
        narrow_state(net, {group: [0]}, {"nothing.weight/momentum_buffer": torch.zeros(2)})
    with pytest.raises(InputError, match="expected; pass the state of this network"):
        narrow_state(net, {group: [0]}, {"0.weight/momentum_buffer": torch.zeros(2)})


class GroupedPairs(graph_cases.Headed):
    """A grouped convolution of which each group reads two channels."""

    def __init__(self):
        super().__init__(6)
        self.stem, self.pairs = graph_cases.conv(3, 4), graph_cases.conv(4, 6, groups=2)

    def body(self, x):
        return torch.nn.functional.silu(self.pairs(torch.nn.functional.silu(self.stem(x))))


def test_a_grouped_convolution_of_one_channel_a_group_stays_grouped():
    """Its rows go on by themselves, unlike those of the depthwise convolution it now looks like."""
    net = es.trace(cases.randomise(GroupedPairs()), cases.images()[0])
    inputs, rows = (
        next(name for name, g in net.groups.items() if part in g.producers[0]) for part in ("stem", "pairs")
    )
    once = narrow(net, {inputs: [1]})
    twice = narrow(once, {rows: [0, 2]})
    assert (once.module.pairs[0].groups, once.module.pairs[0].in_channels) == (2, 2)
    assert (twice.module.pairs[0].groups, twice.module.pairs[0].out_channels) == (2, 4)
    for ours, theirs in zip(
        outputs(twice, net.example_input),
        outputs(narrow(net, {inputs: [1], rows: [0, 2]}), net.example_input),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["mobilenet", "multiplied"])
def test_depthwise_channels_come_back_from_one(name):
    """A depthwise convolution of one channel is depthwise still when its group is split."""
    net = NETWORKS[name]()
    group = next(name for name, g in net.groups.items() if g.splittable)
    one = narrow(net, {group: [1]})
    wide = es.split(one, {group: [0]})
    assert wide.widths[group] == 2
    for ours, theirs in zip(outputs(wide, net.example_input), outputs(one, net.example_input), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
