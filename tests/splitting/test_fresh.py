"""Fresh neurons: their values against numerical gradients of networks that really have one, and what they keep."""

from __future__ import annotations

import copy
import itertools

import cases
import graph_cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam, RMSprop
from torch.utils.checkpoint import checkpoint

import energysplit as es
from energysplit.errors import InputError
from energysplit.graph.network import Role
from energysplit.kinds import every_kind
from energysplit.output.indices import load_index, save_index
from energysplit.splitting.share import Share
from energysplit.surgery import function_error, split_state
from energysplit.train.optimiser import state_tensors

BATCH = cases.images(12)
OTHERS = cases.images(12, seed=5)
H = 1e-5


def fresh(net, batches=(BATCH,), **options):
    return es.splitting_index(net, batches, F.cross_entropy, method="fresh", seed=3, **options)


def with_one(net, index, name, neuron):
    """The network with one fresh neuron, and views of the outgoing weights that it has, all of them zero."""
    grown = es.split(net, {name: {neuron: "fresh"}}, index, step=1.0)
    channels = grown.groups[name].channels
    assert channels == net.groups[name].channels + 1
    views = []
    for slot in grown.slots:
        if (slot.group, slot.role) == (name, Role.CONSUMER):
            weight = grown.module.get_parameter(slot.tensor).detach()
            views += [weight.select(slot.span.dim, int(place)) for place in slot.span.index(channels)[neuron + 1]]
    assert views
    assert all(not view.any() for view in views)
    return grown, views


def loss(net, batch=BATCH):
    with torch.no_grad():
        return F.cross_entropy(net.module(batch[0]), batch[1])


def numerical_gradient(net, views, batch=BATCH):
    """Central differences, entry by entry."""
    found = []
    for view in views:
        for place in itertools.product(*map(range, view.shape)):
            ends = []
            for step in (H, -H):
                view[place] = step
                ends.append(loss(net, batch))
                view[place] = 0.0
            found.append((ends[0] - ends[1]) / (2 * H))
    return torch.stack(found)


def size(net, name):
    """Root mean square over neurons of the norm of the outgoing weights."""
    square = 0.0
    for slot in net.slots:
        if (slot.group, slot.role) == (name, Role.CONSUMER):
            places = slot.span.index(net.groups[name].channels).flatten()
            weight = net.module.get_parameter(slot.tensor).detach()
            square += float(weight.index_select(slot.span.dim, places).square().sum())
    return (square / net.groups[name].channels) ** 0.5


@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_the_value_is_the_loss_change_of_outgoing_weights_along_their_gradient(kind):
    net = graph_cases.network(kind)
    index = fresh(net)
    assert set(index) == {name for name, group in net.groups.items() if group.splittable}
    for name, found in index.items():
        neuron = net.groups[name].channels - 1
        grown, views = with_one(net, index, name, neuron)
        assert function_error(net, grown, BATCH[0]) < 1e-12
        gradient = numerical_gradient(grown, views)
        assert float(found.value[neuron]) == pytest.approx(-float(gradient.norm()) * size(net, name), rel=1e-5)
        # The real loss, with outgoing weights of a small part of the group's length along the fall.
        before, step = loss(grown), 1e-4 * size(net, name)
        parts = (-step * gradient / gradient.norm()).split([view.numel() for view in views])
        for view, part in zip(views, parts, strict=True):
            view.copy_(part.view_as(view))
        assert float(loss(grown) - before) == pytest.approx(1e-4 * float(found.value[neuron]), rel=5e-3)


@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_the_function_is_kept_by_all_of_them_at_any_step(kind):
    net = graph_cases.network(kind)
    every = {
        name: dict.fromkeys(range(group.channels), "fresh") for name, group in net.groups.items() if group.splittable
    }
    for step in (0.0, 0.3, 1.0):
        grown = es.split(net, every, fresh(net), step=step)
        assert function_error(net, grown, BATCH[0]) < 1e-12
        assert all(grown.widths[name] == 2 * net.widths[name] for name in every)


def test_rows_are_as_long_as_the_groups_and_differ_by_seed():
    net = graph_cases.network("residual")
    for name, found in fresh(net).items():
        group = net.groups[name]
        old = torch.cat([net.weight(layer).flatten(1) for layer in group.movers], dim=1)
        new = old + torch.cat([found.direction[layer].flatten(1) for layer in group.movers], dim=1)
        torch.testing.assert_close(new.norm(dim=1), old.norm(dim=1).square().mean().sqrt().expand(len(new)))
    other = es.splitting_index(net, [BATCH], F.cross_entropy, method="fresh", seed=4)
    assert all(not torch.equal(other[name].value, found.value) for name, found in fresh(net).items())


def test_values_are_of_the_held_out_images_along_the_directions_of_the_others():
    net = graph_cases.network("bottleneck")
    index = fresh(net, held_out=[OTHERS])
    for name, found in index.items():
        grown, views = with_one(net, index, name, 0)
        along = -torch.nn.functional.normalize(numerical_gradient(grown, views), dim=0)
        on_others = numerical_gradient(grown, views, OTHERS) @ along * size(net, name)
        assert float(found.value[0]) == pytest.approx(float(on_others), rel=1e-5, abs=1e-9)
        assert bool((found.same_images < 0).all())
        assert found.held_out
        assert bool((found.stderr > 0).all())


def test_the_mean_and_its_error_are_over_batches():
    net = graph_cases.network("bottleneck")
    batches = [cases.images(count, seed=count) for count in (2, 3, 4, 5, 6, 7, 8, 9)]
    whole = fresh(net, held_out=batches)
    part = torch.arange(2, 10, dtype=torch.float64)[:, None] / 44
    for name, found in whole.items():
        grown, views = with_one(net, whole, name, 0)
        along = -torch.nn.functional.normalize(numerical_gradient(grown, views), dim=0)
        values = torch.stack([numerical_gradient(grown, views, one) @ along for one in batches])[:, None] * size(
            net, name
        )
        mean = (values * part).sum(0)
        torch.testing.assert_close(found.value[:1], mean, rtol=1e-4, atol=1e-9)
        error = ((part * (values - mean)).square().sum(0) * 8 / 7).sqrt()
        torch.testing.assert_close(found.stderr[:1], error, rtol=1e-4, atol=1e-9)


def test_shares_of_processes_add_up_to_the_whole():
    net = graph_cases.network("bottleneck")
    whole = fresh(net, held_out=[OTHERS, BATCH])
    sent: list[list[torch.Tensor]] = [[], []]
    for rank in (0, 1):
        fresh(net, held_out=[OTHERS, BATCH], share=Share(rank, 2, total=lambda t, r=rank: sent[r].append(t) or t))
    mean = sent[0][0] + sent[1][0]
    parts = []
    for rank in (0, 1):
        answers = iter([mean])
        share = Share(rank, 2, total=lambda t, told=answers: next(told, t))
        parts.append(fresh(net, held_out=[OTHERS, BATCH], share=share))
    for name, found in whole.items():
        torch.testing.assert_close(parts[0][name].value + parts[1][name].value, found.value)
        torch.testing.assert_close(parts[0][name].same_images, found.same_images)


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_the_network_stays_as_it_is(statistics):
    net = graph_cases.network("residual")
    before = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    needed = [parameter.requires_grad for parameter in net.module.parameters()]
    values = [found.value for found in fresh(net, statistics=statistics).values()]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.module.state_dict().items())
    assert [parameter.requires_grad for parameter in net.module.parameters()] == needed
    assert all(parameter.grad is None for parameter in net.module.parameters())
    assert all(bool((each < 0).all()) for each in values)


@pytest.mark.parametrize(("precision", "limit"), [("no", 1e-4), ("bf16", 0.1)])
def test_float32_and_bfloat16_give_nearly_the_same(precision, limit):
    net = graph_cases.network("bottleneck")
    exact = fresh(net)
    single = es.trace(net.module.float(), BATCH[0].float())
    found = fresh(single, [(BATCH[0].float(), BATCH[1])], precision=precision)
    for name, one in found.items():
        torch.testing.assert_close(one.value, exact[name].value, rtol=limit, atol=limit * 0.01)


def test_the_knapsack_buys_them_and_their_kind_goes_along(tmp_path):
    net = graph_cases.network("residual")
    save_index(tmp_path / "index.safetensors", fresh(net))
    index = load_index(tmp_path / "index.safetensors")
    assert {found.kind for found in index.values()} == {"fresh"}
    for method in ("milp", "greedy", "random", "cheapest"):
        bought = es.allocate(net, index, [es.Budget("macs", "1.4x")], method=method)
        assert {kind for each in bought.kinds.values() for kind in each.values()} == {"fresh"}
        grown = es.split(net, bought.chosen, index, step=1.0)
        assert es.price(grown, "macs").value == bought.price["macs"].value <= bought.limit["macs"]
        assert function_error(net, grown, BATCH[0]) < 1e-12
    best = es.allocate(net, index, [es.Budget("macs", "1.4x")])
    assert best.predicted_gain == pytest.approx(
        -sum(float(index[name].value[neurons].sum()) for name, neurons in best.split.items())
    )


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, 0.9), Adam, lambda p: RMSprop(p, momentum=0.9)])
def test_an_optimiser_knows_nothing_of_them_but_their_neighbours_size(make):
    net = graph_cases.network("bottleneck")
    optimiser = make(net.module.parameters())
    for _ in range(2):
        optimiser.zero_grad()
        F.cross_entropy(net.module(BATCH[0]), BATCH[1]).backward()
        optimiser.step()
    name, group = next((name, group) for name, group in net.groups.items() if group.splittable)
    chosen = {name: {1: "fresh"}}
    before = state_tensors(optimiser, net.module)
    after = split_state(net, chosen, before)
    grown = es.split(net, chosen)
    for slot in (slot for slot in grown.slots if slot.group == name):
        for key in {entry.rpartition("/")[2] for entry in after if entry.startswith(f"{slot.tensor}/")}:
            state = after[f"{slot.tensor}/{key}"]
            if state.dim() == 0:
                continue
            places = slot.span.index(group.channels + 1)
            old, new = (state.index_select(slot.span.dim, places[channel]) for channel in (1, 2))
            if "sq" in key or "square" in key:
                assert torch.equal(old, new)
            else:
                assert not new.any()
                assert old.any()


def test_a_weight_that_is_a_buffer_counts_like_one_that_is_trained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 4, 3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(5))
    x, y = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    model(x)
    held = copy.deepcopy(model)
    weight = held[2].weight.detach()
    del held[2].weight
    held[2].register_buffer("weight", weight)
    found = [es.splitting_index(es.trace(each, x), [(x, y)], F.cross_entropy, method="fresh") for each in (model, held)]
    assert found[0].keys() == found[1].keys() == {"0", "2"}
    for name, index in found[0].items():
        assert torch.equal(index.value, found[1][name].value)
        assert index.value.any()


def test_what_does_not_go_together_is_refused():
    net = graph_cases.network("bottleneck")
    with pytest.raises(InputError, match="signed=True given with method='fresh', which splits no neuron"):
        fresh(net, signed=True)
    with pytest.raises(InputError, match="linear='outgoing' given with method='fresh'"):
        fresh(net, linear="outgoing")
    with pytest.raises(InputError, match="one finite mean loss is expected"):
        es.splitting_index(net, [BATCH], lambda output, _: output.sum() * float("nan"), method="fresh")
    with pytest.raises(InputError, match="image"):
        fresh(net, [])
    with pytest.raises(InputError, match="curvature='nonsense'"):
        fresh(net, curvature="nonsense")


class Named(nn.Module):
    """Two consumers of one group, one of which holds its weight under a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)
        self.kernel = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        z = F.silu(self.first(x))
        return F.linear(z, self.kernel) + 0.1 * self.second(z)


def test_a_consumers_weight_may_have_any_name():
    torch.manual_seed(0)
    batch = (torch.randn(20, 6, dtype=torch.float64), torch.randint(3, (20,)))
    net = es.trace(Named().double(), batch[0])
    index = fresh(net, [batch])
    for name, found in index.items():
        grown, views = with_one(net, index, name, 2)
        assert len(views) == 2
        gradient = numerical_gradient(grown, views, batch)
        assert float(found.value[2]) == pytest.approx(-float(gradient.norm()) * size(net, name), rel=1e-5)


class Again(nn.Module):
    """A block that is run again on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.next, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = F.silu(self.norm(self.conv(x)))
        x = F.silu(self.next(x))
        return self.head(x.mean((2, 3)))


def test_a_forward_pass_that_is_run_again_on_the_way_back():
    net = es.trace(cases.randomise(Again()), BATCH[0])
    usual = fresh(net, statistics="batch")
    forward = Again.forward
    try:
        Again.forward = lambda self, x: checkpoint(forward, self, x, use_reentrant=False)
        again = fresh(net, statistics="batch")
    finally:
        Again.forward = forward
    assert usual
    for name, found in usual.items():
        torch.testing.assert_close(again[name].value, found.value)


def test_few_batches_are_cut_for_a_standard_error():
    net = graph_cases.network("bottleneck")
    other = cases.images(32, seed=8)
    pieces = [(x, y) for x, y in zip(other[0].split(4), other[1].split(4), strict=True)]
    one, eight = fresh(net, held_out=[other]), fresh(net, held_out=pieces)
    for name, found in one.items():
        assert torch.equal(found.stderr, eight[name].stderr)
        assert found.images == 32


def test_nothing_to_grow():
    alone = es.trace(nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4))
    assert fresh(alone, [(torch.randn(2, 4), torch.tensor([0, 1]))]) == {}


def test_values_of_a_huge_loss_are_huge_and_not_lost():
    net = graph_cases.network("bottleneck")
    single = es.trace(net.module.float(), BATCH[0].float())
    batch = (BATCH[0].float(), BATCH[1])
    usual = fresh(single, [batch])
    huge = es.splitting_index(single, [batch], lambda o, y: F.cross_entropy(o, y) * 1e36, method="fresh", seed=3)
    for name, found in usual.items():
        torch.testing.assert_close(huge[name].value / 1e36, found.value, rtol=1e-4, atol=1e-6)


def test_a_list_of_neurons_is_no_choice_of_fresh_ones():
    net = graph_cases.network("bottleneck")
    index = fresh(net)
    bought = es.allocate(net, index, [es.Budget("macs", "1.4x")])
    with pytest.raises(InputError, match=r"indices are of fresh neurons.*pass Allocation.chosen"):
        es.split(net, bought.split, index, step=0.1)
    with pytest.raises(InputError, match="mass = 2 given for indices of fresh neurons"):
        es.allocate(net, index, [es.Budget("macs", "1.4x")], mass=2)


def test_a_fresh_neuron_is_no_split():
    kind = every_kind()["fresh"]
    assert (kind.added, kind.low, kind.high) == (1, 0.0, 0.0)
    assert sum(copy.share for copy in kind.copies) == 1.0
