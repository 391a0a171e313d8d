"""Surgery keeps the function, leaves the original alone, and does to every number what its formula says."""

from __future__ import annotations

from itertools import cycle, product

import branched
import cases
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import energysplit as es
from energysplit.graph.channels import channel_map
from energysplit.graph.edit import resized
from energysplit.graph.layer_sizes import set_sizes
from energysplit.graph.network import Role
from energysplit.kinds import Copy, kinds
from energysplit.surgery import function_error
from energysplit.types import SplitIndex

EVERY = [*cases.FAMILIES, *branched.FAMILIES]


def logits(net: es.Network) -> Tensor:
    net.module.eval()
    with torch.no_grad():
        return net.module(cases.images()[0])


@pytest.mark.parametrize("family", EVERY)
def test_function_is_kept_by_single_groups_all_groups_and_all_twice(family):
    net = branched.network(family)
    before = logits(net)
    names = branched.splittable(net)
    for name in names:
        torch.testing.assert_close(logits(es.split(net, {name: [0, net.widths[name] - 1]})), before, rtol=0, atol=1e-9)
    everything = {name: list(range(net.widths[name])) for name in names}
    once = es.split(net, everything)
    assert once.widths == {name: 2 * n if name in everything else n for name, n in net.widths.items()}
    twice = es.split(once, {name: list(range(once.widths[name])) for name in everything})
    torch.testing.assert_close(logits(twice), before, rtol=0, atol=1e-9)
    assert torch.equal(logits(net), before), "the original network is untouched"


@pytest.mark.parametrize("family", EVERY)
def test_the_analysis_after_surgery_is_that_of_a_new_trace(family):
    net = branched.network(family)
    after = es.split(net, {name: [0, net.widths[name] - 1] for name in branched.splittable(net)})
    again = es.trace(after.module, after.example_input)
    assert after.groups == again.groups
    assert set(after.slots) == set(again.slots)
    assert after.layers == again.layers
    assert [op.spans for op in after.ops] == [op.spans for op in again.ops]


def naive(net: es.Network, name: str, tensor: Tensor, chosen, moves, mass: float) -> Tensor:
    """The new tensor, number by number: moves is a list of (role, group, end, step, direction)."""
    slots = [slot for slot in net.slots if slot.tensor == name]
    axes = []  # for each dimension: (old index, role, group, copy) of each new index
    for dim, size in enumerate(tensor.shape):
        axis = []
        at: dict[int, tuple] = {}
        for slot in slots:
            if slot.span.dim == dim:
                for start in slot.span.starts:
                    at[start] = (slot, net.groups[slot.group].channels)
        index = 0
        while index < size:
            if index not in at:
                axis.append((index, None, None, Copy(1.0)))
                index += 1
                continue
            slot, channels = at[index]
            for channel in range(channels):
                run = [index + channel * slot.span.block + k for k in range(slot.span.block)]
                kind = chosen.get(slot.group, {}).get(channel)
                copies = (Copy(1.0),) if kind is None else kinds(mass)[kind].copies
                axis += [(old, slot.role, slot.group, each) for each in copies for old in run]
            index += channels * slot.span.block
        axes.append(axis)
    made = torch.zeros([len(axis) for axis in axes], dtype=tensor.dtype)
    for place in product(*(range(len(axis)) for axis in axes)):
        here = [axis[i] for axis, i in zip(axes, place, strict=True)]
        old = tuple(entry[0] for entry in here)
        value = float(tensor[old])
        for role, group, end, step, direction in moves:
            steps = sum(getattr(each, end) for _, r, g, each in here if (r, g) == (role, group))
            value += steps * step * float(direction[old])
        for _, role, _, each in here:
            value *= each.share if role is Role.CONSUMER else 1.0
        made[place] = value
    return made


@pytest.mark.parametrize("mass", [1.0, 2.5])
@pytest.mark.parametrize("family", EVERY)
def test_every_number_is_what_the_formula_says(family, mass):
    """All groups at once, each with its own step, producers, gates and consumers moving; all kinds of split."""
    net = branched.network(family)
    names = branched.splittable(net)
    ways, step, chosen = cycle(kinds(mass)), {}, {}
    for number, name in enumerate(names):
        chosen[name] = {channel: next(ways) for channel in (net.widths[name] - 1, 0, 1)}
        step[name] = 0.1 + 0.05 * number
    along = {
        (Role.PRODUCER, "low"): branched.directions(net, "producers"),
        (Role.CONSUMER, "low"): branched.directions(net, "consumers", seed=1),
        (Role.PRODUCER, "high"): branched.directions(net, "producers", seed=2),
        (Role.CONSUMER, "high"): branched.directions(net, "consumers", seed=3),
    }
    if mass == 1:
        given = {"directions": along[Role.PRODUCER, "low"], "outgoing": along[Role.CONSUMER, "low"]}
        plain = {name: list(channels) for name, channels in chosen.items()}
        after = es.split(net, plain, step=step, **given)
    else:
        given = {"directions": {name: index_of(net, name, along) for name in names}, "mass": mass}
        after = es.split(net, chosen, step=step, **given)
    made = dict([*after.module.named_parameters(), *after.module.named_buffers()])
    for name, tensor in (*net.module.named_parameters(), *net.module.named_buffers()):
        layer = name.removesuffix(".weight")
        moves = [
            (role, group, end, step[group], directions[group][layer])
            for (role, end), directions in along.items()
            for group in names
            if layer in directions[group]
        ]
        expected = naive(net, name, tensor.detach(), chosen, moves, mass)
        torch.testing.assert_close(made[name].detach(), expected, msg=name)


def index_of(net: es.Network, group: str, along) -> SplitIndex:
    """A group's index with these directions at both ends."""
    zero = torch.zeros(net.widths[group], dtype=torch.float64)
    upper = None
    for end in ("high", "low"):
        rows, columns = along[Role.PRODUCER, end][group], along[Role.CONSUMER, end][group]
        upper = SplitIndex(zero, rows, None, zero, 1, "none", outgoing=columns, upper=upper)
    return upper


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


def test_outgoing_columns_move_apart_by_half_the_step():
    net = cases.network("cnn")
    old = net.module.get_submodule("2").weight.detach()
    u = torch.randn_like(old)
    still = {"0": {"0": torch.zeros(4, 3, 5, 5, dtype=torch.float64)}}
    after = es.split(net, {"0": [1]}, still, 0.2, outgoing={"0": {"2": u}})
    new = after.module.get_submodule("2").weight.detach()
    torch.testing.assert_close(new[:, 1], (old[:, 1] + 0.2 * u[:, 1]) / 2)
    torch.testing.assert_close(new[:, 2], (old[:, 1] - 0.2 * u[:, 1]) / 2)
    torch.testing.assert_close(new[:, [0, 3, 4]], old[:, [0, 2, 3]])
    # Copies that compute the same are told apart by nobody: their columns add up to the old one.
    torch.testing.assert_close(logits(after), logits(net), rtol=0, atol=1e-12)


def test_gates_move_only_if_they_are_told_to():
    net = branched.network("gated")
    old = net.module.get_submodule("excite").weight.detach()
    name = "stem.0"
    assert net.groups[name].gates == ("excite",)
    movers = branched.directions(net, "movers")
    still = es.split(net, {name: [2]}, movers, 0.1).module.get_submodule("excite").weight
    torch.testing.assert_close(still, old[[0, 1, 2, 2, 3, 4, 5]])
    both = branched.directions(net, "producers")
    moved = es.split(net, {name: [2]}, both, 0.1).module.get_submodule("excite").weight
    torch.testing.assert_close(moved[2] - moved[3], 0.2 * both[name]["excite"][2])


def test_tied_weights_stay_tied():
    net = branched.network("tied")
    after = es.split(net, {"stem": [0, 3], "mix": [1]}, branched.directions(net, "producers"), 0.1)
    assert after.module.one.weight is after.module.other.weight
    assert after.module.one.bias is not after.module.other.bias
    assert (after.module.one.in_channels, after.module.other.out_channels) == (6, 6)
    assert len(list(after.module.parameters())) == len(list(net.module.parameters()))


def test_layers_know_their_new_sizes():
    net = es.split(cases.network("mobilenet"), {"0": [0, 1], "6": [3]})
    modules = net.module
    assert (modules[0].out_channels, modules[1].num_features) == (6, 6)
    assert (modules[3].in_channels, modules[3].out_channels, modules[3].groups) == (6, 6, 6)
    assert (modules[6].in_channels, modules[6].out_channels) == (6, 6)
    assert net.widths["6"] == 6
    grouped = es.split(branched.network("grouped"), {"layers.0": [0], "layers.3": [1]}).module.layers
    assert (grouped[3].in_channels, grouped[3].out_channels, grouped[3].groups) == (8, 10, 2)
    assert (grouped[6].in_channels, grouped[6].out_channels, grouped[6].groups) == (10, 4, 2)
    filters = es.split(branched.network("multiplier"), {"stem": [3]}).module.filters
    assert (filters.in_channels, filters.out_channels, filters.groups) == (5, 10, 5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, groups=2),
        nn.Conv2d(4, 12, 3, groups=4),
        nn.Linear(3, 2),
        nn.BatchNorm1d(3),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3, affine=False, track_running_stats=False),
        nn.SyncBatchNorm(3),
        nn.PReLU(4),
        nn.ParameterList([nn.Parameter(torch.zeros(3))]),
    ],
    ids=str,
)
def test_sizes_that_are_right_stay(layer):
    before = {key: value for key, value in vars(layer).items() if isinstance(value, int)}
    set_sizes(layer)
    assert {key: value for key, value in vars(layer).items() if isinstance(value, int)} == before


@pytest.mark.parametrize("family", EVERY)
def test_split_networks_train(family):
    net = branched.network(family)
    first = next(iter(net.module.parameters())).requires_grad_(False)
    name = next(name for name, parameter in net.module.named_parameters() if parameter is first)
    after = es.split(net, {name: [0] for name in branched.splittable(net)})
    assert [p.requires_grad for p in after.module.parameters()] == [p.requires_grad for p in net.module.parameters()]
    assert not after.module.get_parameter(name).requires_grad
    after.module.train()
    optimiser = torch.optim.SGD([p for p in after.module.parameters() if p.requires_grad], lr=0.02)
    x, y = cases.images()
    loss = F.cross_entropy(after.module(x), y)
    loss.backward()
    optimiser.step()
    assert F.cross_entropy(after.module(x), y) < loss


@pytest.mark.parametrize("family", EVERY)
def test_resized_gives_the_stated_widths(family):
    net = branched.network(family)
    grown = es.split(net, {name: [0, net.widths[name] - 1] for name in branched.splittable(net)})
    again = resized(net, grown.widths)
    assert again.widths == grown.widths
    again.module.load_state_dict(grown.module.state_dict())
    for name, buffer in grown.module.named_buffers():
        again.module.get_buffer(name).copy_(buffer)  # those that are not saved too
    torch.testing.assert_close(logits(again), logits(net))


@given(channels=st.integers(1, 12), mass=st.floats(1.0, 5.0), data=st.data())
@settings(max_examples=80, deadline=None)
def test_channel_map_keeps_order_total_share_and_the_mean(channels, mass, data):
    numbers = st.lists(st.integers(0, channels - 1), unique=True)
    chosen = {channel: data.draw(st.sampled_from(sorted(kinds(mass)))) for channel in data.draw(numbers)}
    found = channel_map("g", channels, chosen, mass)
    added = {channel: kinds(mass)[kind].added for channel, kind in chosen.items()}
    assert found.source.tolist() == [c for c in range(channels) for _ in range(1 + added.get(c, 0))]

    def by_channel(values: Tensor) -> Tensor:
        return torch.zeros(channels, dtype=torch.float64).index_add_(0, found.source, values)

    torch.testing.assert_close(by_channel(found.share), torch.ones(channels, dtype=torch.float64))
    for end in ("low", "high"):
        assert by_channel(found.share * found.moves(end)).abs().max() < 1e-12, "the first order vanishes"
        factors = [getattr(kinds(mass)[chosen[c]], end) if c in chosen else 0.0 for c in range(channels)]
        expected = torch.tensor(factors, dtype=torch.float64)
        torch.testing.assert_close(by_channel(found.share * found.moves(end).square()), expected)
    for channel in range(channels):
        size = float(found.share[found.source == channel].abs().sum())
        assert size == pytest.approx(mass if chosen.get(channel, "pair") != "pair" else 1.0)
    assert found.indices(3).tolist() == [c * 3 + k for c in found.source.tolist() for k in range(3)]


def test_a_list_of_channels_is_one_of_pairs():
    listed, named = channel_map("g", 5, [3, 0]), channel_map("g", 5, {0: "pair", 3: "pair"}, 2.0)
    assert listed.source.tolist() == named.source.tolist() == [0, 0, 1, 2, 3, 3, 4]
    assert listed.share.tolist() == named.share.tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5, 1]
    assert listed.low.tolist() == named.low.tolist() == [1, -1, 0, 0, 1, -1, 0]


@pytest.mark.parametrize(
    ("chosen", "mass", "message"),
    [
        ({4: "pair"}, 1.0, r"group 'g': channels \[4\] given, 0 to 3 expected"),
        (["a"], 1.0, r"channels \['a'\] given, 0 to 3 expected"),
        ([0.5], 1.0, r"channels \[0.5\] given, 0 to 3 expected"),
        (
            {1: "quadruple"},
            1.0,
            "kind 'quadruple' of channel 1 has negative shares, which need a mass above 1; mass = 1",
        ),
        ({1: "quadrupel"}, 2.0, "no kind of split 'quadrupel' .channel 1.: did you mean 'quadruple'"),
        ({1: "triple"}, 1.0, "no kind of split 'triple' .channel 1.: known: fresh, pair"),
        ({1: "pair"}, 0.5, "mass = 0.5 given, a finite number of at least 1"),
        ([1], float("nan"), "mass = nan given"),
        ({True: "pair"}, 2.0, "not a mask"),
    ],
)
def test_channel_map_names_what_is_wrong(chosen, mass, message):
    with pytest.raises(es.InputError, match=message):
        channel_map("g", 4, chosen, mass)


@given(family=st.sampled_from(sorted(branched.FAMILIES)), data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_choice_keeps_the_function(family, data):
    net = _traced(family)
    chosen = {
        name: data.draw(st.lists(st.integers(0, net.widths[name] - 1), unique=True))
        for name in branched.splittable(net)
    }
    assert function_error(net, es.split(net, chosen), cases.images()[0]) < 1e-12


_TRACED: dict[str, es.Network] = {}


def _traced(family: str) -> es.Network:
    """Traced once for all examples."""
    return _TRACED.setdefault(family, branched.network(family))


@pytest.mark.parametrize("made", [torch.tensor, np.array, list])
def test_a_mask_is_no_list_of_channels(made):
    with pytest.raises(es.InputError, match="not a mask"):
        channel_map("0", 2, made([True, False]))
    assert torch.equal(channel_map("0", 2, made([1])).source, channel_map("0", 2, [1]).source)


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
            "direction for '0' holds NaN or infinity",
        ),
        ({"0": [1]}, {"step": 0.1}, "no direction is given for producer '0'"),
        ({"0": [1]}, {"step": 0.1, "directions": {"0": {"0": torch.zeros(2)}}}, r"has shape \(2,\), \(4, 3, 5, 5\)"),
        (
            {"0": [1]},
            {"step": 0.1, "directions": {"0": {"0": torch.zeros(4, 3, 5, 5), "2": torch.zeros(5, 4, 1, 1)}}},
            "direction for '2', which is no producer of it",
        ),
        (
            {"0": [1]},
            {
                "step": 0.1,
                "directions": {"0": {"0": torch.zeros(4, 3, 5, 5)}},
                "outgoing": {"0": {"2": torch.zeros(5, 4)}},
            },
            r"outgoing direction for '2' has shape \(5, 4\), \(5, 4, 1, 1\) expected",
        ),
        (
            {"0": [1]},
            {"step": 0.1, "directions": {"0": {"0": torch.zeros(4, 3, 5, 5)}}, "outgoing": {"0": {"5": torch.ones(2)}}},
            "outgoing direction for '5', which is no consumer of it",
        ),
    ],
)
def test_wrong_input_is_named(chosen, options, message):
    net = cases.network("cnn")
    last = next(name for name, group in net.groups.items() if not group.splittable)
    chosen = {last if name == "11" else name: channels for name, channels in chosen.items()}
    with pytest.raises(es.InputError, match=message):
        es.split(net, chosen, **options)


class OwnMatrix(nn.Module):
    """Mixes channels by a parameter that is nobody's `weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.matrix = nn.Linear(3, 4), nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.stem(x.mean((2, 3)))), self.matrix)


def test_consumers_of_another_name_share_their_columns_but_do_not_move():
    net = es.trace(OwnMatrix().double(), cases.images()[0])
    (name,) = branched.splittable(net)
    (consumer,) = net.groups[name].consumers
    still = branched.directions(net, "movers")
    assert function_error(net, es.split(net, {name: [1]}), cases.images()[0]) < 1e-12
    with pytest.raises(es.InputError, match="which mixes its channels by other tensors"):
        es.split(net, {name: [1]}, still, 0.1, {name: {consumer: torch.zeros(5, 4)}})


def test_function_error_sees_a_changed_function():
    net = cases.network("cnn")
    assert function_error(net, es.split(net, {"0": [0]}), cases.images()[0]) < 1e-12
    moved = es.split(net, {"0": [0]}, {"0": {"0": torch.ones(4, 3, 5, 5)}}, 0.5)
    assert function_error(net, moved, cases.images()[0]) > 1e-4
    with torch.no_grad():
        moved.module.get_submodule("0").weight.fill_(float("nan"))
    error = function_error(net, moved, cases.images()[0])
    assert error != error


class TwoHeads(nn.Module):
    """Two outputs of different size, in a dict of tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.large, self.small = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Linear(4, 2)
        nn.init.constant_(self.large.weight, 1e3)

    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, ...]]:
        x = F.silu(self.stem(x)).mean((2, 3))
        return {"both": (self.large(x), self.small(x))}


def test_function_error_is_that_of_the_worst_output():
    torch.manual_seed(0)
    x = cases.images()[0]
    net = es.trace(TwoHeads().double().eval(), x)
    after = es.split(net, {"stem": [0, 2]})
    assert function_error(net, after, x) < 1e-12
    with torch.no_grad():
        after.module.small.bias += net.module(x)["both"][1].abs().max()
    assert function_error(net, after, x) == pytest.approx(1.0)
    with torch.no_grad():
        after.module.small.bias.fill_(float("inf"))
    assert function_error(net, after, x) != function_error(net, after, x)
