"""Every solver against `eigh` on the same images; sampling, held-out values and standard errors."""

from __future__ import annotations

import cases
import graph_cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit.splitting import lobpcg, rmsprop
from energysplit.splitting.operator import SplittingOperator

BATCHES = cases.batches_of(cases.images(64), 16)


def total(index: dict[str, es.SplitIndex]) -> float:
    return sum(float(found.value.clamp(max=0).sum()) for found in index.values())


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_lobpcg_reaches_eigh(family):
    net = cases.network(family)
    exact = es.splitting_index(net, BATCHES, F.cross_entropy, method="exact")
    found = es.splitting_index(net, BATCHES, F.cross_entropy, method="lobpcg", sweeps=60)
    for name in exact:
        torch.testing.assert_close(found[name].value, exact[name].value, rtol=1e-4, atol=1e-8)
        assert bool((found[name].value >= exact[name].value - 1e-10).all()), "below the smallest eigenvalue"


def test_lobpcg_takes_few_sweeps():
    net = cases.network("mobilenet")
    exact = total(es.splitting_index(net, BATCHES, F.cross_entropy, method="exact"))
    six = total(es.splitting_index(net, BATCHES, F.cross_entropy, method="lobpcg", sweeps=6))
    assert six / exact > 0.9
    quotients = [
        total(es.splitting_index(net, BATCHES, F.cross_entropy, sweeps=sweeps, seed=3)) for sweeps in (1, 2, 4, 8, 16)
    ]
    assert quotients == sorted(quotients, reverse=True), "more sweeps never give a larger quotient"


def test_rmsprop_reaches_eigh_and_needs_more_images():
    net = cases.network("mobilenet")
    operator = SplittingOperator(net, BATCHES, F.cross_entropy)
    exact = total(es.splitting_index(net, BATCHES, F.cross_entropy, method="exact"))

    def negative_sum(found):
        return sum(float(value.clamp(max=0).sum()) for value in found.values.values())

    fast = lobpcg.solve(operator, sweeps=12)
    slow = rmsprop.solve(operator, sweeps=12)
    long = rmsprop.solve(operator, sweeps=60)
    assert negative_sum(fast) / exact > 0.97
    assert negative_sum(slow) / exact < negative_sum(fast) / exact
    assert negative_sum(long) < 0


def test_rmsprop_descends_to_eigh_at_full_learning_rate(monkeypatch):
    monkeypatch.setattr(
        torch.optim.lr_scheduler, "StepLR", lambda optimiser, **_: torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    )
    net = cases.network("mlp")
    whole = [cases.images(64)]
    exact = total(es.splitting_index(net, whole, F.cross_entropy, method="exact"))
    found = total(es.splitting_index(net, whole, F.cross_entropy, method="rmsprop", sweeps=1500))
    assert found / exact > 0.97


def test_directions_are_unit_and_belong_to_their_values():
    net = cases.network("vgg")
    index = es.splitting_index(net, BATCHES, F.cross_entropy, sweeps=10)
    operator = SplittingOperator(net, BATCHES, F.cross_entropy)
    vectors = operator.vectors_of(index)
    again = operator.evaluate(vectors)
    for name, found in index.items():
        norms = vectors[name].norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        torch.testing.assert_close(again[name][0], found.value, rtol=1e-9, atol=1e-12)
        assert found.direction[name].shape == net.module.get_submodule(name).weight.shape
        assert not found.outgoing


def test_held_out_values_are_the_other_images():
    net = cases.network("mobilenet")
    held_out = cases.batches_of(cases.images(48, seed=9), 20)
    same = es.splitting_index(net, BATCHES, F.cross_entropy, method="exact")
    index = es.splitting_index(net, BATCHES, F.cross_entropy, method="exact", held_out=held_out)
    for name, found in index.items():
        assert found.held_out
        assert found.images == 48
        matrix = oracles.splitting_matrix(net, held_out, name, 0)
        v = found.direction[name][0].flatten()
        assert found.value[0] == pytest.approx(float(v @ matrix @ v), rel=1e-8, abs=1e-12)
    assert total(index) > total(same), "held-out values are less optimistic"


def test_standard_error_covers_the_truth():
    """Over many held-out samples the spread of the values is what the standard error says."""
    net = cases.network("mobilenet")
    index = es.splitting_index(net, BATCHES, F.cross_entropy, method="exact")
    vectors = SplittingOperator(net, BATCHES, F.cross_entropy).vectors_of(index)
    draws = [
        SplittingOperator(net, [cases.images(64, seed=100 + k)], F.cross_entropy).evaluate(vectors) for k in range(40)
    ]
    for name in vectors:
        values = torch.stack([draw[name][0] for draw in draws])
        stated = torch.stack([draw[name][1] for draw in draws]).mean(0)
        ratio = values.std(0) / stated
        assert bool(((ratio > 0.6) & (ratio < 1.6)).all()), ratio


def test_sample_does_not_depend_on_how_it_is_cut():
    net = cases.network("cnn")
    whole = es.splitting_index(net, [cases.images(64)], F.cross_entropy, sweeps=5)
    cut = es.splitting_index(net, cases.batches_of(cases.images(64), 24), F.cross_entropy, sweeps=5)
    for name in whole:
        torch.testing.assert_close(whole[name].value, cut[name].value, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("linear", ["skip", "outgoing"])
def test_cache_changes_nothing(linear):
    net = cases.network("vgg")
    vectors = SplittingOperator(net, BATCHES, F.cross_entropy, linear=linear).random_vectors(0)
    cached = SplittingOperator(net, BATCHES, F.cross_entropy, linear=linear)
    bare = SplittingOperator(net, BATCHES, F.cross_entropy, linear=linear, cache_bytes=0)
    for _ in range(2):
        for name, applied in cached.apply(vectors).items():
            torch.testing.assert_close(applied, bare.apply(vectors)[name], rtol=0, atol=0)
    assert len(cached.sample.kept) == len(BATCHES)
    assert not bare.sample.kept


def test_memory_of_a_batch_is_counted_once_and_the_weights_not_at_all():
    def held(kind: str) -> tuple[int, list[torch.Tensor]]:
        operator = SplittingOperator(graph_cases.network(kind), [cases.images(8)], F.cross_entropy)
        room = operator.sample.room
        operator.apply(operator.random_vectors(0))
        (found,) = operator.sample.kept.values()
        return room - operator.sample.room, [tensor for _, part in found for piece in part for tensor in piece.held]

    counted, tensors = held("bilinear")
    different = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    assert len(different) < len(tensors), "both factors' layers read the images"
    assert counted == sum(different.values())
    counted, tensors = held("layer-scaled")
    assert counted < sum(tensor.untyped_storage().nbytes() for tensor in tensors), "layer scale is there anyway"
    net = graph_cases.network("layer-scaled")
    operator = SplittingOperator(net, [cases.images(8)] * 3, F.cross_entropy, cache_bytes=2 * counted)
    operator.apply(operator.random_vectors(0))
    assert len(operator.sample.kept) == 2


def test_growing_sample_ends_on_all_images():
    net = cases.network("mobilenet")
    many = cases.batches_of(cases.images(256), 16)
    operator = SplittingOperator(net, many, F.cross_entropy)
    grown = lobpcg.solve(operator, sweeps=10, growing=True)
    assert grown.images_swept == 7 * 64 + 3 * 256
    for name, (value, _) in operator.evaluate(grown.vectors).items():
        torch.testing.assert_close(value, grown.values[name], rtol=1e-8, atol=1e-12)


def test_float32_error_against_float64(record_property):
    net = cases.network("mobilenet")
    exact = es.splitting_index(net, BATCHES, F.cross_entropy, sweeps=8)
    single = es.trace(cases.network("mobilenet").module.float(), cases.images()[0].float())
    batches = [(x.float(), y) for x, y in BATCHES]
    found = es.splitting_index(single, batches, F.cross_entropy, sweeps=8)
    worst = max(
        float(((found[name].value - exact[name].value).abs() / exact[name].value.abs().max()).max()) for name in exact
    )
    record_property("float32_relative_error", worst)
    assert worst < 1e-4


@pytest.mark.parametrize("family", ["mobilenet", "cnn", "mlp"])
@pytest.mark.parametrize("signed", [False, True])
def test_many_sweeps_in_float32_do_not_diverge(family, signed):
    """Converged neurons have residuals of rounding only, nearly parallel to what is known already."""
    net = cases.network(family)
    single = es.trace(cases.network(family).module.float(), cases.images()[0].float())
    exact = es.splitting_index(net, BATCHES, F.cross_entropy, method="exact", signed=signed)
    batches = [(x.float(), y) for x, y in BATCHES]
    found = es.splitting_index(single, batches, F.cross_entropy, sweeps=60, signed=signed)
    for name, each in exact.items():
        ends = [(found[name], each), (found[name].upper, each.upper)] if signed else [(found[name], each)]
        for one, other in ends:
            error = (one.value - other.value).abs().max() / other.value.abs().max()
            assert float(error) < 1e-5


def test_the_network_is_left_as_it_was():
    net = cases.network("mobilenet")
    net.module.train()
    before = {key: value.clone() for key, value in net.module.state_dict().items()}
    es.splitting_index(net, BATCHES, F.cross_entropy, sweeps=3)
    assert all(torch.equal(value, before[key]) for key, value in net.module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.module.parameters())
    assert net.module.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lobpgc"}, "did you mean 'lobpcg'"),
        ({"curvature": "all"}, "curvature='all'"),
        ({"linear": "none"}, "linear='none'"),
        ({"linear": "outgoing", "curvature": "producer"}, "use curvature='exact'"),
        ({"kink_beta": -1.0}, "kink_beta=-1.0 given"),
        ({"sweeps": 0}, "sweeps=0 given; a whole number of at least 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(es.InputError, match=message):
        es.splitting_index(cases.network("cnn"), BATCHES, F.cross_entropy, **options)


def test_no_images_and_infinite_loss_are_refused():
    net = cases.network("cnn")
    with pytest.raises(es.InputError, match="no images"):
        es.splitting_index(net, [], F.cross_entropy)
    with pytest.raises(es.InputError, match="one finite mean loss is expected"):
        es.splitting_index(net, BATCHES, lambda out, y: out.sum() * float("nan"))
    with pytest.raises(es.InputError, match="one finite mean loss is expected"):
        es.splitting_index(net, BATCHES, lambda out, y: F.cross_entropy(out, y, reduction="none"))


def test_batches_may_come_from_a_loader_and_must_be_pairs():
    net = cases.network("cnn")
    listed = es.splitting_index(net, BATCHES, F.cross_entropy, sweeps=3)
    streamed = es.splitting_index(net, iter(BATCHES), F.cross_entropy, sweeps=3)
    assert all(torch.equal(listed[name].value, streamed[name].value) for name in listed)
    with pytest.raises(es.InputError, match="pairs of tensors expected"):
        es.splitting_index(net, [(1, 2, 3)], F.cross_entropy)


def test_exact_refuses_what_would_not_fit(monkeypatch):
    from energysplit.splitting import exact

    monkeypatch.setattr(exact, "MOST_ELEMENTS", 10)
    with pytest.raises(es.InputError, match="use method 'lobpcg'"):
        es.splitting_index(cases.network("cnn"), BATCHES, F.cross_entropy, method="exact")


def test_a_batch_that_was_squeezed_away_is_noticed():
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.b(torch.tanh(F.adaptive_avg_pool2d(self.a(x), 1).squeeze()))

    module = cases.randomise(Squeezed())
    operator = SplittingOperator(es.trace(module, cases.images(1)[0]), BATCHES, F.cross_entropy)
    with pytest.raises(es.InputError, match="'tanh': the network was traced on one image"):
        operator.evaluate(operator.random_vectors(0))
    index = es.splitting_index(es.trace(module, cases.images(2)[0]), BATCHES, F.cross_entropy, held_out=BATCHES)
    assert set(index) == {"a"}
