"""Tracing chains: groups, layer cases at other widths, and refusals by name."""

from __future__ import annotations

import itertools

import cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import FrozenBatchNorm2d

import energysplit as es
from energysplit.graph.counting import counting
from energysplit.graph.trial import rounds

X = torch.randn(2, 3, 8, 8)


class Functional(nn.Module):
    """A chain written with functions: activations, pooling, view by batch size, mean over positions."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 5, 3, padding="same")
        self.c = nn.Linear(5 * 4, 6)
        self.d = nn.Linear(6, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.a(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.b(x)), 2)
        x = x.view(x.size(0), -1)
        return self.d(F.dropout(F.gelu(self.c(x), approximate="tanh"), 0.5, self.training))


def test_groups_of_a_chain():
    net = cases.network("mobilenet")
    first = net.groups["0"]
    assert first.channels == 4
    assert first.producers == ("0",)
    assert first.followers == ("1", "2", "3", "4", "5")
    assert first.consumers == ("6",)
    last = list(net.groups.values())[-1]
    assert not last.splittable
    assert last.reason == "its channels are the network's outputs"
    assert net.widths == {"0": 4, "6": 5, "12": 6, "17": 5}


def test_functional_chain_is_exact():
    torch.manual_seed(0)
    net = es.trace(cases.randomise(Functional()), X.double())
    assert list(net.groups) == ["a", "b", "c", "d"]
    everything = {name: list(range(n)) for name, n in net.widths.items() if name != "d"}
    grown = es.split(es.split(net, everything), {"a": [0, 7], "b": [9], "c": [1]})
    torch.testing.assert_close(grown.module(X.double()), net.module(X.double()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_cases_count_what_torch_counts_also_at_other_widths(family):
    net = cases.network(family)
    chosen = {name: [0, 1] for name, group in net.groups.items() if group.splittable}
    grown = es.split(net, chosen)
    assert net.cases(grown.widths) == grown.cases()
    for each in (net, grown):
        x = cases.images(1)[0]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            each.module(x)
        macs = sum(
            c.out_channels * c.in_channels // c.groups * c.kernel[0] * c.kernel[1] * c.out_size[0] * c.out_size[1]
            for c in each.cases().values()
            if c.op not in ("batch_norm", "other")
        )
        assert macs == counter.get_total_flops() // 2


def test_fused_layers_know_what_follows():
    layer_cases = cases.network("vgg").cases()
    assert layer_cases["0"].batch_norm
    assert layer_cases["0"].activation == "silu"
    assert layer_cases["9"].op == "batch_norm"
    assert layer_cases["9"].groups == 20
    assert layer_cases["10"].activation == "silu"
    assert layer_cases["13"].activation is None
    assert cases.network("mobilenet").cases()["3"].depthwise


def test_unknown_widths_are_named():
    net = cases.network("cnn")
    with pytest.raises(es.InputError, match="no group 'x'"):
        net.cases({"x": 3})
    with pytest.raises(es.InputError, match="width 0 given"):
        net.cases({"0": 0})


def test_module_state_is_restored():
    module = cases.vgg().train()
    module[1].eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    es.trace(module, X)
    assert module.training
    assert not module[1].training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Reused(nn.Module):
    """One activation module used twice, a common habit."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.act = (
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(4, 5, 3),
            nn.Linear(5, 2),
            nn.SiLU(inplace=True),
        )

    def forward(self, x):
        return self.c(self.act(self.b(self.act(self.a(x)))).mean((-2, -1)))


class Block(nn.Module):
    """A residual block with a projection, squeeze-excite and a grouped convolution; two heads joined."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.a, self.norm = nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.b, self.way = nn.Conv2d(8, 5, 1), nn.Conv2d(6, 5, 1)
        self.left, self.right = nn.Conv2d(5, 4, 1), nn.Conv2d(5, 2, 3, padding=1)
        self.last = nn.Linear(6 * 4, 5)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        y = F.silu(self.norm(self.a(x)))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = F.silu(self.b(y) + self.way(x))
        y = torch.cat([self.left(y), self.right(y)], 1)
        return self.last(F.adaptive_avg_pool2d(y, 2).flatten(1))


def block():
    torch.manual_seed(0)
    return cases.randomise(Block())


def test_groups_of_a_graph():
    net = es.trace(block(), X.double())
    assert net.widths == {"stem": 3, "a": 4, "squeeze": 3, "b": 5, "left": 4, "right": 2, "last": 5}
    assert net.groups["a"].producers == ("a", "excite")
    assert net.groups["a"].gates == ("excite",)
    assert net.groups["a"].movers == ("a",)
    assert net.groups["a"].consumers == ("squeeze", "b")
    assert net.groups["b"].producers == ("b", "way")
    assert net.groups["b"].gates == ()
    assert net.groups["stem"].consumers == ("a", "way")
    columns = {slot.group: slot.span for slot in net.slots if slot.tensor == "last.weight" and slot.span.dim == 1}
    assert (columns["left"].starts, columns["left"].block) == ((0,), 4)
    assert (columns["right"].starts, columns["right"].block) == ((16,), 4)
    grouped = {slot.tensor: slot.span.starts for slot in net.slots if slot.group == "a"}
    assert grouped["a.weight"] == (0, 4)  # the same position of both groups of the grouped convolution


@pytest.mark.parametrize("make", [block, *(lambda f=f: cases.network(f).module for f in cases.FAMILIES)])
def test_the_analysis_of_a_split_network_is_that_of_a_fresh_trace(make):
    net = es.trace(make(), X.double())
    grown = net
    for round_number in (0, 1):
        grown = es.split(grown, {name: sorted({0, round_number}) for name, g in grown.groups.items() if g.splittable})
    torch.testing.assert_close(grown.module(X.double()), net.module(X.double()), rtol=0, atol=1e-9)
    fresh = es.trace(grown.module, X.double())
    assert fresh.groups == grown.groups
    assert set(fresh.slots) == set(grown.slots)
    assert fresh.layers == grown.layers
    assert [(op.name, op.kind, op.spans) for op in fresh.ops] == [(op.name, op.kind, op.spans) for op in grown.ops]


def test_what_is_not_followed_is_priced_as_torch_counts_it():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(192, 16), nn.Linear(16, 5)
            self.mix, self.norm = nn.MultiheadAttention(16, 4), nn.LayerNorm(16)

        def forward(self, x):
            x = self.norm(F.gelu(self.a(x.flatten(1)))).unsqueeze(0)
            return self.b(self.mix(x, x, x, need_weights=False)[0].squeeze(0))

    model = Attention()
    net = es.trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), model), X)
    assert "layer norm compares the channels" in net.groups["2.a"].reason
    case = net.cases()["2.mix"]
    assert case.params == sum(p.numel() for p in model.mix.parameters())
    assert es.price(net, "params").value == sum(p.numel() for p in net.module.parameters())
    with counting() as counter, torch.no_grad():
        net.module.eval()(X[:1])
    assert es.price(net, "macs").value == counter.get_total_flops() // 2


def test_a_weight_used_twice_is_counted_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x):
            x = F.silu(self.b(F.silu(self.b(F.silu(self.a(x))))))
            return self.c(x.mean((2, 3)))

    net = es.trace(Twice(), X)
    assert es.price(net, "params").value == sum(p.numel() for p in net.module.parameters())
    assert net.groups["a"].producers == ("a", "b")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.module.eval()(X[:1])
    assert es.price(net, "macs").value == counter.get_total_flops() // 2


def test_the_trial_finds_a_size_that_no_rule_sees():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Linear(6, 2)

        def forward(self, x):
            x = torch.tanh(self.b(F.silu(self.a(x))))
            return self.c(x.mean((2, 3)) * (x.size(1) / 6))

    net = es.trace(Hidden(), X)
    assert net.groups["a"].splittable
    assert net.groups["b"].reason == "split, it breaks 'mul'"


@pytest.mark.parametrize(
    ("width", "join"),
    [
        (8, lambda a, b: (a * (a.size(1) / b.size(1)), b)),
        (16, lambda a, b: (a * (a.size(1) / b.size(1)), b)),
        (16, lambda a, b: (a * (b.size(1) - a.size(1)), b)),
        (8, lambda a, b: (a, b.reshape(a.shape))),
    ],
    ids=["equal", "ratio", "difference", "shape"],
)
def test_widths_that_cancel_do_not_hide_that_one_group_can_not_grow_alone(width, join):
    class Cancelling(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, width, 1)
            self.left, self.right = nn.Linear(8, 2), nn.Linear(width, 2)

        def forward(self, x):
            a, b = join(F.silu(self.a(x)), F.silu(self.b(x)))
            return self.left(a.flatten(2).sum(2)) + self.right(b.flatten(2).sum(2))

    groups = es.trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.SiLU(), Cancelling()), X).groups
    assert groups["0"].splittable
    assert not groups["2.a"].splittable
    assert not groups["2.b"].splittable
    assert groups["2.b"].reason.startswith("split, it breaks")


@pytest.mark.parametrize("widths", [[8] * 60, [1] * 9, [2] * 20, [16, 24, 32, 64, 96] * 8, [5], [4, 8, 16], []])
def test_rounds_tell_any_two_groups_apart(widths):
    channels = {str(number): width for number, width in enumerate(widths)}
    found = rounds(channels)
    assert len(found) <= max(1, len(widths) // 2)
    assert not widths or found[0].keys() == channels.keys() or 1 in widths
    assert all(0 < count <= channels[name] for copies in found for name, count in copies.items())
    for a, b in itertools.combinations(channels, 2):
        pairs = [(copies.get(a, 0), copies.get(b, 0)) for copies in found]
        assert any(of_a != of_b for of_a, of_b in pairs)
        assert any(of_a * channels[b] != of_b * channels[a] for of_a, of_b in pairs)


def test_what_is_made_of_buffers_grows_with_them():
    """Frozen batch norms reshape, root and divide their buffers in every forward pass."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        FrozenBatchNorm2d(6),
        nn.SiLU(),
        nn.Conv2d(6, 5, 3, padding=1),
        FrozenBatchNorm2d(5),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )
    model = cases.randomise(model).double()
    for name, buffer in model.named_buffers():
        buffer.copy_(torch.rand_like(buffer) + 0.5 * name.endswith("running_var"))
    x, y = X.double(), torch.arange(len(X)) % 4
    net = es.trace(model, x)
    assert [name for name, group in net.groups.items() if group.splittable] == ["0", "3"]
    index = es.splitting_index(net, [(x, y)], F.cross_entropy)
    torch.testing.assert_close(es.split(net, {"0": [0, 4], "3": [1]}).module(x), model(x))
    grown = es.split(net, {"0": [0, 4], "3": [1]}, index, step=1e-3)
    assert grown.module[1].running_var.shape == (8,)
    predicted = 1e-6 / 2 * float(index["0"].value[[0, 4]].sum() + index["3"].value[1])
    with torch.no_grad():
        realised = float(F.cross_entropy(grown.module(x), y) - F.cross_entropy(model(x), y))
    assert realised == pytest.approx(predicted, rel=0.01)


def test_code_that_looks_into_buffers_is_traced_with_them_as_they_are():
    class Switched(nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.register_buffer("on", torch.tensor(True))
            self.shared = shared
            self.c = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = x * self.shared
            return F.silu(self.c(x)) if self.on else x

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)
            self.shared = nn.Parameter(torch.rand(3, 1, 1))
            self.switched = Switched(self.shared)

        def forward(self, x):
            return self.b((self.switched(F.silu(self.a(x))) * self.shared).mean((2, 3)))

    for model in (Model(), nn.Sequential(Switched(nn.Parameter(torch.rand(3, 1, 1))), nn.Flatten(), nn.Linear(192, 2))):
        net = es.trace(model, X)
        name = next(name for name, group in net.groups.items() if group.splittable)
        assert net.groups[name].producers[-1].endswith(".c")
        grown = es.split(net, {name: [0, 2]})
        torch.testing.assert_close(grown.module(X), model(X))


def test_constant_tensors_leave_nothing_on_the_module():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(192, 4), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.c(F.silu(self.b(F.silu(self.a(x.flatten(1))) * torch.tensor([1.0, 2.0, 3.0, 4.0]))))

    model = Constant()
    before = set(vars(model))
    net = es.trace(model, X)
    assert set(vars(model)) == before
    assert "fixed" in net.groups["a"].reason
    grown = es.split(net, {"b": [0]})
    torch.testing.assert_close(grown.module(X), model(X))


def flow(x):
    raise AssertionError


class Flow(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_submodule_with_control_flow_is_taken_as_a_whole():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 3, 1), Flow(), nn.Flatten(), nn.Linear(192, 2))
    net = es.trace(model, X)
    assert net.groups["0"].splittable
    assert net.groups["2"].reason == "layer '3' (Flow): no rule says what it does to channels"


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Sort(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(256, 2)

    def forward(self, x):
        return self.b(torch.sort(self.a(x), 1).values.flatten(1))


REFUSED = {
    "flow": (Flow(), "can't be traced"),
    "two_inputs": (Two(), "several inputs|does not run"),
    "no_layers": (nn.Sequential(nn.ReLU()), "no convolution or linear layer"),
    "sort": (Sort(), "operation 'sort'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_nothing_to_split_is_refused_by_name(name):
    model, message = REFUSED[name]
    with pytest.raises(es.InputError, match=message):
        es.trace(model, X)


def test_a_reused_activation_module_is_followed():
    torch.manual_seed(0)
    net = es.trace(cases.randomise(Reused()), X.double())
    assert net.groups["a"].followers == ("act",)
    assert net.groups["b"].followers == ("act_1", "mean")


def test_wrong_example_input_is_named():
    with pytest.raises(es.InputError, match=r"does not run on an example input of shape \(2, 1, 8, 8\)"):
        es.trace(cases.cnn(), torch.zeros(2, 1, 8, 8))


def test_softmax_head_freezes_its_channels():
    model = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4), nn.Softmax(1), nn.Linear(4, 3)
    )
    net = es.trace(model, X)
    assert not net.groups["3"].splittable
    assert "'4' (Softmax): no rule" in net.groups["3"].reason


class Auxiliary(nn.Module):
    """A head that only training runs, and positions that a linear layer sees as part of the batch."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.extra = nn.Linear(4, 2)

    def forward(self, x):
        x = F.silu(self.norm(self.a(x)))
        windows = x.permute(0, 2, 3, 1).reshape(-1, 16, x.size(1))
        out = self.b(windows).reshape(x.size(0), -1, 2).mean(1)
        return (out, self.extra(x.mean((2, 3)))) if self.training else out


def test_a_head_of_training_grows_too_and_counters_stay():
    model = Auxiliary()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    net = es.trace(model, X)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert net.groups["a"].consumers == ("b", "extra")
    grown = es.split(net, {"a": [1, 3]})
    torch.testing.assert_close(grown.module.eval()(X), model.eval()(X))
    assert [tuple(out.shape) for out in grown.module.train()(X)] == [(2, 2), (2, 2)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(X[:1])
    assert es.price(net, "macs").value == counter.get_total_flops() // 2
