"""Both ends of the spectrum: each solver against the Hessian of the really split network, one sweep for both."""

from __future__ import annotations

import cases
import graph_cases
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energysplit as es
from energysplit.splitting import lobpcg, operator, rmsprop, sample
from energysplit.splitting.operator import SplittingOperator

BATCHES = cases.batches_of(cases.images(64), 16)
FEW = [cases.images(5), cases.images(3, seed=2)]
LARGEST = 100
"""Dims up to which the Hessian of a family's neuron is formed."""


def signed(net: es.Network, batches=BATCHES, **options) -> dict[str, es.SplitIndex]:
    return es.splitting_index(net, batches, F.cross_entropy, signed=True, **options)


def sums(index: dict[str, es.SplitIndex]) -> tuple[float, float]:
    """Sum of the negative smallest and of the positive largest eigenvalues."""
    low = sum(float(found.value.clamp(max=0).sum()) for found in index.values())
    return low, sum(float(found.upper.value.clamp(min=0).sum()) for found in index.values())


@pytest.mark.parametrize("linear", ["skip", "outgoing"])
@pytest.mark.parametrize("kind", graph_cases.KINDS)
def test_both_ends_are_those_of_the_hessian_of_the_real_split(kind, linear):
    net = graph_cases.network(kind)
    index = signed(net, FEW, method="exact", linear=linear)
    for group, found in index.items():
        channel = net.widths[group] - 1
        matrix = oracles.splitting_matrix(net, FEW, group, channel, outgoing=linear == "outgoing")
        spectrum = torch.linalg.eigvalsh(matrix)
        assert float(found.value[channel]) == pytest.approx(float(spectrum[0]), rel=1e-8, abs=1e-15), group
        assert float(found.upper.value[channel]) == pytest.approx(float(spectrum[-1]), rel=1e-8, abs=1e-15), group


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_both_ends_on_every_family(family):
    net = cases.network(family)
    index = signed(net, FEW, method="exact")
    small = [name for name in index if net.weight(name)[0].numel() <= LARGEST]
    assert small
    for name in small:
        spectrum = torch.linalg.eigvalsh(oracles.splitting_matrix(net, FEW, name, 1))
        assert float(index[name].value[1]) == pytest.approx(float(spectrum[0]), rel=1e-8, abs=1e-12)
        assert float(index[name].upper.value[1]) == pytest.approx(float(spectrum[-1]), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_joint_lobpcg_reaches_eigh_at_both_ends(family):
    net = cases.network(family)
    exact, found = signed(net, method="exact"), signed(net, sweeps=40)
    for name in exact:
        for one, other in ((found[name], exact[name]), (found[name].upper, exact[name].upper)):
            torch.testing.assert_close(one.value, other.value, rtol=1e-4, atol=1e-8)
        assert bool((found[name].value >= exact[name].value - 1e-10).all()), "below the smallest eigenvalue"
        assert bool((found[name].upper.value <= exact[name].upper.value + 1e-10).all()), "above the largest"


@pytest.mark.parametrize(("family", "least"), [("mobilenet", 0.99), ("vgg", 0.99), ("cnn", 0.95), ("mlp", 0.94)])
def test_six_sweeps_reach_most_of_both_ends(family, least):
    """From three seeds; never less of the lower end, in all, than without the upper one."""
    net = cases.network(family)
    exact = sums(signed(net, method="exact"))
    joint, alone = 0.0, 0.0
    for seed in (0, 1, 2):
        found = sums(signed(net, sweeps=6, seed=seed))
        assert found[0] / exact[0] > least
        assert found[1] / exact[1] > least
        joint += found[0]
        one = es.splitting_index(net, BATCHES, F.cross_entropy, sweeps=6, seed=seed)
        alone += sum(float(each.value.clamp(max=0).sum()) for each in one.values())
    assert joint < alone, "the space is larger"


def test_more_sweeps_never_bring_the_ends_nearer():
    net = cases.network("mobilenet")
    found = [sums(signed(net, sweeps=sweeps, seed=3)) for sweeps in (1, 2, 4, 8, 16)]
    assert [low for low, _ in found] == sorted((low for low, _ in found), reverse=True)
    assert [high for _, high in found] == sorted(high for _, high in found)


@pytest.mark.parametrize("sweeps", [1, 2])
def test_the_lower_end_is_below_the_upper_from_the_first_sweep_on(sweeps):
    for found in signed(cases.network("vgg"), sweeps=sweeps).values():
        assert bool((found.value < found.upper.value).all())


class Thin(nn.Module):
    """Groups of one, two and three dims a neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(1, 2), nn.Linear(2, 3), nn.Linear(3, 4)
        self.classes = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean((1, 2, 3), keepdim=False).unsqueeze(1)
        return self.classes(F.silu(self.three(torch.tanh(self.two(torch.tanh(self.one(x)))))))


@pytest.mark.parametrize("sweeps", [1, 2, 3, 9])
def test_neurons_of_few_dims(sweeps):
    """With one dim both ends are the same; with k dims two sweeps a dim are enough."""
    torch.manual_seed(0)
    net = es.trace(cases.randomise(Thin()), BATCHES[0][0])
    exact, found = signed(net, method="exact"), signed(net, sweeps=sweeps)
    assert torch.equal(exact["one"].value, exact["one"].upper.value)
    for name, dims in (("one", 1), ("two", 2), ("three", 3)):
        for end in (found[name], found[name].upper):
            assert bool(torch.isfinite(end.value).all())
            norms = end.direction[name].norm(dim=1)
            torch.testing.assert_close(norms, torch.ones_like(norms))
        if sweeps >= dims:
            torch.testing.assert_close(found[name].value, exact[name].value, rtol=1e-6, atol=1e-14)
            torch.testing.assert_close(found[name].upper.value, exact[name].upper.value, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("method", ["lobpcg", "rmsprop", "exact"])
def test_a_batch_is_captured_once_a_sweep_for_both_ends(method, monkeypatch):
    """Without a cache: the signed solver captures no more batches than the unsigned one."""
    made = []
    real = operator.capture

    def counted(*given, **named):
        made.append(1)
        return real(*given, **named)

    monkeypatch.setattr(operator, "capture", counted)
    monkeypatch.setattr(sample, "_cache_room", lambda _: 0)
    net = cases.network("mlp")
    if method == "exact":  # its sweeps are dims
        net = es.split(graph_cases.network("bottleneck"), {})
    counts = []
    for both in (False, True):
        made.clear()
        es.splitting_index(net, BATCHES, F.cross_entropy, held_out=BATCHES[:2], method=method, sweeps=3, signed=both)
        counts.append(len(made))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("method", ["lobpcg", "exact"])
def test_residuals_same_images_and_sweeps_of_both_ends(method):
    net = cases.network("cnn")
    index = signed(net, method=method, sweeps=5, held_out=[cases.images(20, seed=9)])
    mine = SplittingOperator(net, BATCHES, F.cross_entropy)
    for ends in (index, {name: found.upper for name, found in index.items()}):
        vectors = mine.vectors_of(ends)
        applied = mine.apply(vectors)
        for name, found in ends.items():
            same = (applied[name] * vectors[name]).sum(1)
            torch.testing.assert_close(found.same_images, same, rtol=1e-9, atol=1e-13)
            residual = (applied[name] - same[:, None] * vectors[name]).norm(dim=1)
            torch.testing.assert_close(found.residual, residual, rtol=1e-6, atol=1e-12)
            assert found.solver == method
    assert all(found.upper.sweeps == found.sweeps for found in index.values())
    assert all(found.upper.upper is None for found in index.values())


def test_held_out_values_and_errors_of_both_ends():
    net = cases.network("mobilenet")
    held_out = cases.batches_of(cases.images(48, seed=9), 20)
    index = signed(net, method="exact", held_out=held_out)
    other = SplittingOperator(net, held_out, F.cross_entropy)
    for name, found in index.items():
        value, stderr = other.evaluate(other.vectors_of({name: found.upper} | rest(index, name)))[name]
        torch.testing.assert_close(found.upper.value, value)
        torch.testing.assert_close(found.upper.stderr, stderr)
        assert found.upper.held_out
        assert found.upper.images == 48
        v = found.upper.direction[name][0].flatten()
        matrix = oracles.splitting_matrix(net, held_out, name, 0)
        assert float(found.upper.value[0]) == pytest.approx(float(v @ matrix @ v), rel=1e-8, abs=1e-12)
    same = signed(net, method="exact")
    assert sums(index)[0] > sums(same)[0], "held-out values are less optimistic"
    assert sums(index)[1] < sums(same)[1], "at the upper end too"


def rest(index: dict[str, es.SplitIndex], but: str) -> dict[str, es.SplitIndex]:
    return {name: found for name, found in index.items() if name != but}


def test_unsigned_indices_have_no_upper_end_and_descents_do_not_meet():
    """RMSprop's two descents are separate: the lower end's is the same to the bit with the upper one beside it."""
    net = cases.network("mlp")
    for method in ("lobpcg", "rmsprop", "exact"):
        index = es.splitting_index(net, BATCHES, F.cross_entropy, method=method, sweeps=2)
        assert all(found.upper is None for found in index.values())
        if method != "lobpcg":
            for name, found in signed(net, method=method, sweeps=2).items():
                assert torch.equal(found.value, index[name].value)


def test_rmsprop_climbs_to_the_upper_end_at_full_learning_rate(monkeypatch):
    monkeypatch.setattr(
        torch.optim.lr_scheduler, "StepLR", lambda optimiser, **_: torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    )
    net = cases.network("mlp")
    whole = [cases.images(64)]
    exact = sums(signed(net, whole, method="exact"))
    found = sums(signed(net, whole, method="rmsprop", sweeps=1500))
    assert found[0] / exact[0] > 0.97
    assert found[1] / exact[1] > 0.97


def test_growing_sample_ends_on_all_images_at_both_ends():
    many = cases.batches_of(cases.images(128), 16)
    mine = SplittingOperator(cases.network("mobilenet"), many, F.cross_entropy)
    grown = lobpcg.solve(mine, sweeps=8, growing=True, signed=True)
    assert grown.images_swept == grown.upper.images_swept == 5 * 32 + 3 * 128
    for end in grown.ends:
        for name, (value, _) in mine.evaluate(end.vectors).items():
            torch.testing.assert_close(value, end.values[name], rtol=1e-8, atol=1e-12)


def test_float32_error_at_both_ends(record_property):
    exact = signed(cases.network("mobilenet"), sweeps=8)
    single = es.trace(cases.network("mobilenet").module.float(), cases.images()[0].float())
    found = signed(single, [(x.float(), y) for x, y in BATCHES], sweeps=8)
    worst = 0.0
    for name, each in exact.items():
        for one, other in ((found[name], each), (found[name].upper, each.upper)):
            worst = max(worst, float(((one.value - other.value).abs() / other.value.abs().max()).max()))
    record_property("float32_relative_error", worst)
    assert worst < 1e-4


def test_several_vectors_of_a_neuron_in_one_sweep():
    mine = SplittingOperator(cases.network("mobilenet"), BATCHES, F.cross_entropy)
    ends = [mine.random_vectors(seed) for seed in (0, 1, 2)]
    for together, vectors in zip(mine.apply_all(ends, 2), ends, strict=True):
        for name, applied in mine.apply(vectors, 2).items():
            assert torch.equal(together[name], applied)
    for together, vectors in zip(mine.evaluate_all(ends), ends, strict=True):
        for name, (value, stderr) in mine.evaluate(vectors).items():
            assert torch.equal(together[name][0], value)
            assert torch.equal(together[name][1], stderr)
    assert rmsprop.solve(mine, sweeps=1, signed=True).upper is not None
