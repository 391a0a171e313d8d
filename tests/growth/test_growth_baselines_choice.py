"""Which sizes and which neurons baselines take: against all candidates, and against torch-pruning."""

from __future__ import annotations

import copy
import itertools
import math

import cases
import graph_cases
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import energysplit as es
from energysplit import models
from energysplit.costs import NetworkPricer
from energysplit.errors import InputError, RecipeError
from energysplit.growth.baselines.importance import batch_norm_scales, l1_norms, scales
from energysplit.growth.baselines.penalty import price_weights, scale_penalty
from energysplit.growth.baselines.prune import one_threshold, same_ratio
from energysplit.growth.baselines.sizes import last_within, widest
from energysplit.growth.random_weights import at_random
from energysplit.train.loop import train_epoch
from energysplit.train.optimiser import make_optimiser
from energysplit.train.session import Session

WIDTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def priced(widths):
    """A price that rises with every width, as a chain of layers' does."""
    values = list(widths.values())
    return 3 * values[0] + sum(a * b for a, b in itertools.pairwise(values)) + values[-1]


def candidates(widths, ceilings, largest):
    """Every network that some factor up to `largest` gives, by trying all factors at which a width may change."""
    factors = {0.0, largest}
    for name in ceilings:
        factors |= {(target - 0.5) / widths[name] for target in range(1, int(largest * widths[name]) + 2)}
    factors |= {factor + 1e-9 for factor in factors}
    found = []
    for factor in sorted(factors):
        at = dict(widths)
        for name, most in ceilings.items():
            at[name] = min(max(1, math.floor(widths[name] * factor + 0.5)), most or 10**6)
        found.append(at)
    return found


@given(WIDTHS, st.data())
def test_widest_is_the_widest_of_all_factors(given_widths, data):
    widths = {f"g{place}": width for place, width in enumerate(given_widths)}
    ceilings = {
        name: data.draw(st.one_of(st.just(0), st.integers(width, 12)))
        for name, width in widths.items()
        if data.draw(st.booleans()) or name == "g0"
    }
    limit = data.draw(st.integers(1, 400))
    found = widest(widths, ceilings, lambda at: priced(at) <= limit)
    fitting = [at for at in candidates(widths, ceilings, 200.0) if priced(at) <= limit]
    if not fitting:
        assert found is None
    else:
        assert found.widths == max(fitting, key=lambda at: sum(at.values()))


def test_halves_round_up_and_bounds_hold():
    found = widest({"a": 3, "b": 4, "c": 5}, {"a": 0, "b": 5}, lambda at: at["a"] <= 5)
    assert found.widths == {"a": 5, "b": 5, "c": 5}
    found = widest({"a": 3, "b": 4}, {"a": 3, "b": 4}, lambda at: True)
    assert (found.widths, found.factor) == ({"a": 3, "b": 4}, 1.0)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(0, 20), st.data())
def test_the_last_within_is_found_whatever_prices_do(prices, limit, data):
    """Fewer candidates than are looked at one by one, so the answer is exact; many are None, as outside a table."""
    known = [price if data.draw(st.booleans()) else None for price in prices]

    def within(place):
        return known[place] is not None and known[place] <= limit

    fitting = [place for place in range(len(known)) if within(place)]
    for begin in {0, *fitting}:
        assert last_within(len(known), within, begin) == (fitting[-1] if fitting else None)


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_many_rising_prices_are_bisected(count, limit):
    asked = []

    def within(place):
        asked.append(place)
        return place <= limit

    assert last_within(count, within) == min(limit, count - 1)
    assert len(asked) <= 13 + 201


def test_a_width_that_kernels_like_is_found_beyond_dear_ones():
    """As on machines whose kernels work on 16 channels at once: 16 and 32 cost less than what lies before them."""

    def seconds(width):
        return width if width % 16 == 0 else 3 * width

    for limit, expected in ((24, 16), (31, 16), (32, 32), (10, 3)):
        found = widest({"a": 8, "b": 4}, {"a": 0}, lambda at, limit=limit: seconds(at["a"]) <= limit)
        assert (found.widths["a"], found.widths["b"]) == (expected, 4)


def test_networks_too_narrow_to_be_measured_are_no_obstacle():
    found = widest({"a": 8}, {"a": 0}, lambda at: 6 <= at["a"] <= 13)
    assert found.widths == {"a": 13}
    pruned = widest({"a": 32}, {"a": 32}, lambda at: 6 <= at["a"] <= 13)
    assert pruned.widths == {"a": 13}
    kept = one_threshold({"a": torch.arange(32.0)}, {"a": 32}, lambda at: 6 <= at["a"] <= 13)
    assert kept == {"a": list(range(19, 32))}
    assert widest({"a": 8}, {"a": 0}, lambda at: False) is None


def test_no_limit_is_refused():
    with pytest.raises(InputError, match="million times the width is within its limit"):
        widest({"a": 3}, {"a": 0}, lambda at: True)


@given(st.data())
def test_pruning_removes_the_least_and_as_little_as_possible(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    widths = {f"g{place}": size for place, size in enumerate(sizes)} | {"other": 2}
    importance = {
        f"g{place}": torch.tensor(
            data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)), dtype=torch.float64
        )
        for place, size in enumerate(sizes)
    }
    limit = data.draw(st.integers(1, 60))

    def within(at):
        return priced(at) <= limit

    for choose in (one_threshold, same_ratio):
        kept = choose(importance, widths, within)
        least = widths | dict.fromkeys(importance, 1)
        if kept is None:
            assert not within(least)
            continue
        after = widths | {name: len(channels) for name, channels in kept.items()}
        assert within(after)
        for name, channels in kept.items():
            assert channels == sorted(set(channels)) != []
            gone = sorted(set(range(widths[name])) - set(channels))
            values = importance[name]
            assert all((values[a], -a) < (values[b], -b) for a in gone for b in channels)
    # One threshold: no neuron that may go is more important than one that stays, and one less removed is too dear.
    kept = one_threshold(importance, widths, within)
    if kept is not None:
        gone = [float(importance[name][c]) for name in kept for c in range(widths[name]) if c not in kept[name]]
        may_go = []
        for name, channels in kept.items():
            best = max(channels, key=lambda c: (float(importance[name][c]), -c))
            may_go += [float(importance[name][c]) for c in channels if c != best]
        assert not gone or not may_go or max(gone) <= min(may_go)
        if not within(widths):
            assert gone


def test_scores_of_a_trunk_and_of_a_flatten():
    """Producers' norms add up, batch norms' scales are averaged, a flatten's positions too; gates and others don't."""
    net = graph_cases.network("residual")
    trunk = max(net.groups.values(), key=lambda group: group.splittable * len(group.producers))
    assert len(trunk.producers) == 3
    rows = [net.weight(name).abs().flatten(1).sum(1) for name in trunk.producers]
    torch.testing.assert_close(l1_norms(net, trunk.name), sum(rows))
    norms = [net.module.get_parameter(slot.tensor).detach().abs() for slot in scales(net, trunk.name)]
    assert len(norms) == 3
    torch.testing.assert_close(batch_norm_scales(net, trunk.name), sum(norms) / 3)
    net = cases.network("vgg")
    name = next(name for name, group in net.groups.items() if "10" in group.followers or "9" in group.followers)
    slots = scales(net, name)
    assert [slot.span.multiple for slot in slots] == [1, 4]
    one, four = (net.module.get_parameter(slot.tensor).detach().abs() for slot in slots)
    torch.testing.assert_close(batch_norm_scales(net, name), (one + four.reshape(-1, 4).mean(1)) / 2)
    gated = graph_cases.network("squeeze-excite")
    with_gates = next(group for group in gated.groups.values() if group.gates and group.splittable)
    rows = [gated.weight(name).abs().flatten(1).sum(1) for name in with_gates.movers]
    torch.testing.assert_close(l1_norms(gated, with_gates.name), sum(rows))


@pytest.fixture(params=["cnn", "mobilenet_v1_cifar"])
def pruned(request):
    """A network with distinct weights and batch-norm scales."""
    pytest.importorskip("torch_pruning", reason="torch-pruning is not installed (the bench or test extra)")
    torch.manual_seed(3)
    args = {"widths": [8, 12, 16]} if request.param == "cnn" else {}
    module = cases.randomise(models.build(request.param, **args))
    return es.trace(module, torch.zeros(2, 3, 32, 32, dtype=torch.float64))


def removed_by(pruner, net, module):
    """Group -> channels that torch-pruning removes."""
    layers = {layer: name for name, layer in module.named_modules()}
    # torch-pruning names a group by any of its layers, here sometimes by a depthwise one.
    groups = {layer: name for name, group in net.groups.items() for layer in (*group.producers, *group.followers)}
    found = {}
    for group in pruner.step(interactive=True):
        dependency, channels = group[0]
        found.setdefault(groups[layers[dependency.target.module]], []).extend(channels)
    return {name: sorted(channels) for name, channels in found.items()}


def test_the_smallest_norms_are_torch_prunings(pruned):
    import torch_pruning as tp

    net = pruned
    names = [name for name, group in net.groups.items() if group.splittable]
    module = copy.deepcopy(net.module).float()
    producers = {module.get_submodule(producer) for name in names for producer in net.groups[name].producers}

    class OfProducers(tp.importance.MagnitudeImportance):
        """Its "first" layer of a group may be a depthwise one: begin at the producer, whose rows Li et al. mean."""

        def __call__(self, group):
            layer = next(
                dependency.target.module
                for dependency, _ in group
                if dependency.target.module in producers and dependency.pruning_fn == tp.prune_conv_out_channels
            )
            every = list(range(layer.out_channels))
            return super().__call__(pruner.DG.get_pruning_group(layer, tp.prune_conv_out_channels, every))

    pruner = tp.pruner.MagnitudePruner(
        module,
        torch.zeros(2, 3, 32, 32),
        OfProducers(p=1, group_reduction="first", normalizer=None),
        pruning_ratio=0.5,
        ignored_layers=[module.classifier],
    )
    theirs = removed_by(pruner, net, module)
    half = {name: net.widths[name] // 2 for name in names}
    kept = same_ratio(
        {name: l1_norms(net, name) for name in names}, net.widths, lambda at: all(at[n] <= half[n] for n in names)
    )
    ours = {name: sorted(set(range(net.widths[name])) - set(channels)) for name, channels in kept.items()}
    assert sum(map(len, ours.values())) > 10
    assert ours == theirs


def test_the_smallest_scales_are_torch_prunings(pruned):
    import torch_pruning as tp

    net = pruned
    names = [name for name, group in net.groups.items() if group.splittable]
    module = copy.deepcopy(net.module).float()
    # Without the normaliser, which divides each group's scales by their mean, and is no part of Liu et al.
    pruner = tp.pruner.BNScalePruner(
        module,
        torch.zeros(2, 3, 32, 32),
        tp.importance.BNScaleImportance(normalizer=None),
        global_pruning=True,
        pruning_ratio=0.4,
        ignored_layers=[module.classifier],
    )
    theirs = removed_by(pruner, net, module)
    count = sum(map(len, theirs.values()))
    left = sum(net.widths[name] for name in names) - count
    importance = {name: batch_norm_scales(net, name) for name in names}
    kept = one_threshold(importance, net.widths, lambda at: sum(at[name] for name in names) <= left)
    ours = {name: sorted(set(range(net.widths[name])) - set(channels)) for name, channels in kept.items()}
    assert count > 10
    assert {name: channels for name, channels in ours.items() if channels} == theirs


FRESH = {
    "cnn": ({"widths": [3, 4], "activation": "silu"}, {"widths": [5, 9], "activation": "silu"}),
    "vgg": ({"widths": [3, 4]}, {"widths": [6, 5]}),
    "mlp": ({"widths": [3, 4]}, {"widths": [6, 5]}),
}


def test_fresh_weights_of_our_models_are_those_of_the_builder():
    """Bit for bit: the same layers, initialised in the same order from the same seed."""
    for name, (args, wider) in FRESH.items():
        image = models.default_image(name, args)
        seed = es.trace(models.build(name, **args), torch.zeros(2, *image))
        before = torch.random.get_rng_state()
        torch.manual_seed(7)
        built = models.build(name, **wider)
        torch.random.set_rng_state(before)
        expected = es.trace(built, torch.zeros(2, *image))
        found = at_random(seed, expected.widths, 7)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert found.widths == expected.widths != seed.widths
        for key, tensor in built.state_dict().items():
            assert torch.equal(found.module.state_dict()[key], tensor), (name, key)


def test_fresh_weights_have_the_builders_distribution_in_a_branched_model():
    """MobileNetV2: every tensor of a fresh wide network is spread as in one that was built as wide."""
    seed = es.trace(models.build("mobilenet_v2_cifar"), torch.zeros(2, 3, 32, 32))
    widths = {name: group.channels * (1 + group.splittable) for name, group in seed.groups.items()}
    first, second = at_random(seed, widths, 1), at_random(seed, widths, 2)
    again = at_random(seed, widths, 1)
    before = dict(seed.module.named_parameters())
    for name, tensor in first.module.named_parameters():
        assert torch.equal(tensor, again.module.get_parameter(name))
        if tensor.dim() == 4:
            assert not torch.equal(tensor, second.module.get_parameter(name))
            fan_in = tensor[0].numel()
            assert float(tensor.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=6 / tensor.numel() ** 0.5), (
                name
            )
        elif name.endswith("weight") and tensor.dim() == 1:
            assert torch.equal(tensor, torch.ones_like(tensor))
        assert tensor.shape != before[name].shape or tensor.dim() <= 2


class Scaled(nn.Module):
    """A parameter along channels that no layer initialises, and one of a fixed size."""

    def __init__(self, along: bool) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.full((4, 1, 1) if along else (1,), 0.5))

    def forward(self, x):
        return self.head((torch.relu(self.conv(x)) * self.scale).mean((2, 3)))


def test_what_nobody_initialises():
    x = torch.zeros(2, 3, 8, 8)
    kept = at_random(es.trace(Scaled(False), x), {"conv": 7}, 0)
    assert torch.equal(kept.module.scale, torch.full((1,), 0.5))
    assert kept.module.conv.weight.shape[0] == 7
    with pytest.raises(RecipeError, match="'scale' has another size .* no layer initialises it"):
        at_random(es.trace(Scaled(True), x), {"conv": 7}, 0)


def test_the_penalty_is_that_of_the_scales_and_moves_them_once_an_update():
    """One update by the penalty alone: each scale by rate times strength times weight, however batches are added up."""
    torch.manual_seed(0)
    net = es.trace(models.build("cnn", widths=[3, 4]), torch.zeros(2, 3, 8, 8))
    weights = {"blocks.0.conv": 1.0, "blocks.1.conv": 2.5}
    batches = [(torch.randn(size, 3, 8, 8), torch.zeros(size, dtype=torch.long)) for size in (4, 4, 2)]
    with Session(device="cpu") as session, torch.no_grad():
        for group, signs in (("blocks.0.norm", [1.0, -1.0, 1.0]), ("blocks.1.norm", [-1.0, 1.0, 1.0, -1.0])):
            net.module.get_submodule(group).weight.copy_(torch.tensor(signs) * 0.5)
        penalty = scale_penalty(net, weights, 0.1)
        assert float(penalty()) == pytest.approx(0.1 * (3 * 0.5 + 2.5 * 4 * 0.5))
        for accumulate in (1, 3):
            module = copy.deepcopy(net)
            term = scale_penalty(module, weights, 0.1)
            with torch.enable_grad():
                result = train_epoch(
                    session,
                    module.module,
                    make_optimiser(module.module, momentum=0.0),
                    batches,
                    loss_fn=lambda output, target: 0.0 * output.sum(),
                    learning_rate=lambda update: 0.2,
                    seed=0,
                    accumulate=accumulate,
                    penalty=term,
                )
            updates = 3 if accumulate == 1 else 1
            for name, weight in (("blocks.0.norm", 1.0), ("blocks.1.norm", 2.5)):
                expected = 0.5 - updates * 0.2 * 0.1 * weight
                found = module.module.get_submodule(name).weight.abs()
                torch.testing.assert_close(found, torch.full_like(found, expected))
            if accumulate == 3:
                assert result.loss == pytest.approx(float(penalty()))


@pytest.mark.parametrize("provider", ["macs", "params"])
def test_morphnet_weighs_a_scale_by_what_its_neuron_costs(provider):
    """Against whole networks built one neuron narrower; the mean over neurons is 1."""
    args = {"widths": [3, 6, 1]}
    image = torch.zeros(2, 3, 8, 8)
    net = es.trace(models.build("cnn", **args), image)
    names = [name for name, group in net.groups.items() if group.splittable]
    found = price_weights(net, NetworkPricer(net, provider), names)
    whole, saved = es.price(net, provider).value, []
    for place, width in enumerate(args["widths"]):
        other = width - 1 if width > 1 else 2
        changed = [*args["widths"][:place], other, *args["widths"][place + 1 :]]
        saved.append(abs(whole - es.price(es.trace(models.build("cnn", widths=changed), image), provider).value))
    mean = sum(cost * width for cost, width in zip(saved, args["widths"], strict=True)) / sum(args["widths"])
    assert list(found.values()) == pytest.approx([cost / mean for cost in saved])
    assert sum(found[name] * net.widths[name] for name in names) == pytest.approx(sum(args["widths"]))
