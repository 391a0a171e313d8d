"""Tracing chains: groups, layer cases at other widths, and refusals by name."""

from __future__ import annotations

import cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import energysplit as es

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
            if c.op != "batch_norm"
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


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.a(x)
        return y + self.b(y)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.b(self.a(torch.relu(self.a(x))).mean((2, 3)))


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


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(192, 192), nn.Linear(192, 192)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x.flatten(1)))


class Written(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.mode = mode
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(256, 2)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        x = self.a(x)
        if self.mode == "view":
            return self.b(x.view(-1, 256))
        if self.mode == "sort":
            return self.b(torch.sort(x, 1).values.flatten(1))
        if self.mode == "scale":
            return self.b((x * self.scale).flatten(1))
        if self.mode == "flow":
            return x if x.sum() > 0 else -x
        if self.mode == "tuple":
            return x, x
        if self.mode == "permute":
            return self.b(x.permute(0, 2, 3, 1).flatten(1))
        return self.b(F.softmax(x, 2).flatten(1))


class Odd(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).flip(1)


class OddReLU(nn.ReLU):
    def forward(self, x):
        return super().forward(x).flip(1)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((-1, -2))


def hooked():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model[0].register_forward_hook(lambda module, args, out: out.flip(1))
    return model


def replaced():
    """A layer whose forward was replaced on the instance."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.SiLU())
    norm = model[1]
    norm.forward = lambda x: nn.BatchNorm2d.forward(norm, x).flip(1)
    return model


class Named(nn.Module):
    """Layers with two names."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(self.a, nn.ReLU())

    def forward(self, x):
        return self.body(x)


class TrainingOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.b(self.a(x)) if self.training else self.a(x)


class AlwaysDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x):
        return F.dropout(self.a(x), 0.5)


REFUSED = {
    "replaced": (replaced(), "forward was replaced"),
    "two_names": (Named(), "one parameter"),
    "training_only": (TrainingOnly(), "'b' .BatchNorm2d.: it holds tensors"),
    "always_dropout": (AlwaysDropout(), "dropout that is active in eval mode"),
    "residual": (Residual(), "joins 2 tensors|read already"),
    "twice": (Twice(), "'a'.*used twice"),
    "view": (Written("view"), "'view'.*sizes"),
    "sort": (Written("sort"), "'sort'"),
    "scale": (Written("scale"), "'scale'"),
    "flow": (Written("flow"), "can't be traced"),
    "tuple": (Written("tuple"), "returns something else"),
    "permute": (Written("permute"), "'permute'.*no rule"),
    "softmax": (Written("softmax"), "softmax over dimension 2"),
    "tied": (Tied(), "'a.weight' and 'b.weight' are one parameter"),
    "activation_subclass": (nn.Sequential(nn.Conv2d(3, 4, 1), OddReLU()), "'flip'.*no rule"),
    "mean_over_channels": (nn.Sequential(nn.Conv1d(3, 4, 1), Mean()), "3 dimensions"),
    "subclass": (nn.Sequential(Odd(3, 4, 1), nn.ReLU()), "Odd.*no rule"),
    "hook": (hooked(), "forward hooks"),
    "grouped": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=2)), "groups=2"),
    "multiplier": (nn.Sequential(nn.Conv2d(3, 6, 1, groups=3)), "groups=3, 3 -> 6"),
    "layer_norm": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(8)), "LayerNorm"),
    "group_norm": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)), "GroupNorm"),
    "prelu": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU()), "PReLU"),
    "batch_statistics": (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        "mixes the images",
    ),
    "linear_on_maps": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(8, 2)), "4 dimensions"),
    "reflect": (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), "padding mode 'reflect'"),
    "weight_norm": (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))), "no rule"),
    "empty": (nn.Sequential(nn.ReLU()), "no convolution or linear layer"),
    "partial_flatten": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2)), "flatten from dimension 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name(name):
    model, message = REFUSED[name]
    with pytest.raises(es.UnsupportedModel, match=message):
        es.trace(model, X if name != "mean_over_channels" else X.flatten(2))


def test_a_reused_activation_module_is_followed():
    torch.manual_seed(0)
    net = es.trace(cases.randomise(Reused()), X.double())
    assert net.groups["a"].followers == ("act",)
    assert net.groups["b"].followers == ("act_1", "mean")
    batch = (X.double(), torch.tensor([0, 1]))
    index = es.splitting_index(net, [batch], F.cross_entropy, method="exact")
    chosen = {"a": [0, 1, 2, 3], "b": [4]}
    realised = oracles.realised_change(net, [batch], index, chosen, 1e-3)
    assert realised == pytest.approx(oracles.predicted_change(index, chosen, 1e-3), rel=0.01)


def test_wrong_example_input_is_named():
    with pytest.raises(es.InputError, match=r"does not run on an example input of shape \(2, 1, 8, 8\)"):
        es.trace(cases.cnn(), torch.zeros(2, 1, 8, 8))


def test_softmax_head_freezes_its_channels():
    net = es.trace(nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Softmax(1), nn.Linear(4, 3)), X)
    assert not net.groups["1"].splittable
    assert "compares its channels" in net.groups["1"].reason
