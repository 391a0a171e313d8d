"""When segments are used, and how much memory that takes."""

from __future__ import annotations

from functools import partial

import cases
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

import energysplit as es
from energysplit import models
from energysplit.errors import InputError
from energysplit.graph.activations import _MODULES, of_module
from energysplit.splitting.curvature import derivatives
from energysplit.splitting.operator import SplittingOperator


@pytest.mark.parametrize("kind", [kind for kind in _MODULES if of_module(kind()).straight], ids=lambda k: k.__name__)
def test_what_is_called_straight_is_straight_between_its_kinks(kind):
    activation = of_module(kind())
    z = torch.linspace(-8, 8, 997, dtype=torch.float64)
    _, second = derivatives(activation, z, 1e6)  # so sharp that nothing of a kink is left elsewhere
    step = 1e-4
    there = (activation.function(z + step) - 2 * activation.function(z) + activation.function(z - step)) / step**2
    away = torch.stack([(z - location).abs() > 2 * step for location, _ in activation.kinks]).all(0)
    assert away.sum() > 990
    assert there[away].abs().max() < 1e-6
    assert second[away].abs().max() == 0


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.SiLU, nn.ELU, nn.Hardswish])
def test_the_weight_multiplies_the_second_derivative(kind):
    z, weight = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = derivatives(of_module(kind()), z, 3.0)
    same, weighted = derivatives(of_module(kind()), z, 3.0, weight)
    torch.testing.assert_close(same, first)
    torch.testing.assert_close(weighted, weight * second)
    nothing, alone = derivatives(of_module(kind()), z, 3.0, weight, slope=False)
    assert nothing is None
    assert torch.equal(alone, weighted)


class Loose(nn.Module):
    """A branch that the output leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
        self.loose = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3))

    def forward(self, x):
        return self.used(x) + 0 * self.loose(x).detach()


def test_what_the_loss_does_not_depend_on_has_no_curvature():
    torch.manual_seed(0)
    net = es.trace(Loose().double(), torch.randn(2, 4).double())
    operator = SplittingOperator(net, [(torch.randn(8, 4).double(), torch.arange(8) % 3)], F.cross_entropy)
    vectors = operator.random_vectors(0)
    applied = operator.apply(vectors)
    assert applied["used.0"].abs().min() > 0
    assert all(not v.any() for name, v in applied.items() if name.startswith("loose"))


@pytest.mark.parametrize("method", ["lobpcg", "fresh"])
def test_a_loss_that_was_cut_off_is_refused(method):
    net, batch = cases.network("cnn"), cases.images(8)
    with pytest.raises(InputError, match=r"loss on a batch of 8 images has no gradient; .*without detach\(\)"):
        es.splitting_index(net, [batch], lambda output, y: F.cross_entropy(output.detach(), y), method=method)
    with torch.inference_mode(), pytest.raises(InputError, match=r"inference_mode\(\) is on"):
        es.splitting_index(net, [batch], F.cross_entropy, method=method)


class Ended(torch.autograd.Function):
    """A loss of somebody's own that does not depend on its input, and says so by None."""

    @staticmethod
    def forward(ctx, output):
        return output.new_ones(())

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_a_gradient_that_is_none_is_zero(statistics):
    operator = SplittingOperator(
        cases.network("cnn"), [cases.images(8)], lambda output, _: Ended.apply(output), statistics=statistics
    )
    assert not any(v.any() for v in operator.apply(operator.random_vectors(0)).values())


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_images_and_buffers_that_ask_for_gradients_change_nothing(statistics):
    net = cases.network("cnn")
    x, y = cases.images(8)
    plain = SplittingOperator(net, [(x, y)], F.cross_entropy, statistics=statistics)
    vectors = plain.random_vectors(0)
    expected = plain.apply(vectors)
    asking = [x.clone().requires_grad_(), *(b for b in net.module.buffers() if b.is_floating_point())]
    for tensor in asking:
        tensor.requires_grad_()
    found = SplittingOperator(net, [(asking[0], y)], F.cross_entropy, statistics=statistics).apply(vectors)
    assert all(tensor.requires_grad for tensor in asking)
    for name, applied in expected.items():
        assert applied.abs().max() > 0
        assert torch.equal(found[name], applied)


def test_a_batch_without_images_counts_nothing():
    net = cases.network("cnn")
    x, y = cases.images(64)
    for method in ("lobpcg", "rmsprop"):
        full, padded = (
            es.splitting_index(net, batches, F.cross_entropy, method=method, sweeps=2)
            for batches in ([(x, y)], [(x, y), (x[:0], y[:0])])
        )
        for name, index in full.items():
            assert torch.isfinite(padded[name].value).all()
            if method == "lobpcg":
                assert torch.equal(index.value, padded[name].value)


MODELS = {
    "mobilenet_v1": partial(models.build, "mobilenet_v1", classes=10, width_multiplier=0.25),
    "resnet18": partial(models.build, "torchvision:resnet18", num_classes=10),
}


def _peak(work) -> int:
    """Most bytes that torch's allocator gave out at once while the work ran."""
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = torch.tensor([e.nbytes() for e in sorted(events, key=lambda event: event.start_ns())]).cumsum(0)
    return int(held.max())


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("kind", [kind for kind in _MODULES if kind is not nn.Softplus], ids=lambda k: k.__name__)
def test_pieces_that_nobody_keeps_are_written_over_only_when_they_are_spent(kind, precision):
    """Several vectors on each batch, nothing kept, beside kept pieces used again and again."""
    module = cases.network("cnn", kind).module.float()
    net = es.trace(module, cases.images(2)[0].float())
    batches = [(x.float(), y) for x, y in (cases.images(6, seed=seed) for seed in (1, 2))]
    bare, kept = (
        SplittingOperator(net, batches, F.cross_entropy, linear="outgoing", precision=precision, cache_bytes=room)
        for room in (0, 2**30)
    )
    ends = [kept.random_vectors(seed) for seed in range(3)]
    one_by_one = [kept.apply(vectors) for vectors in ends]
    assert len(kept.sample.kept) == len(batches)
    for expected, again, found in zip(one_by_one, kept.apply_all(ends), bare.apply_all(ends), strict=True):
        for name, applied in expected.items():
            assert torch.equal(again[name], applied)
            torch.testing.assert_close(found[name], applied)


@pytest.mark.parametrize(
    ("name", "size", "images", "statistics", "bar"),
    [
        ("mobilenet_v1", 64, 32, "running", 1.25),
        ("mobilenet_v1", 64, 32, "batch", 1.25),
        ("resnet18", 96, 16, "running", 1.25),  # weights are half of it
        ("resnet18", 128, 16, "running", 1.25),  # activations are
        ("resnet18", 128, 16, "batch", 1.45),
    ],
)
def test_a_sweep_holds_little_more_than_a_training_step(name, size, images, statistics, bar):
    """What is held is counted, not sampled, so the ratio is the same on every machine; 2.4 if nothing were let go."""
    torch.manual_seed(0)
    module = cases.randomise(MODELS[name]()).float()
    net = es.trace(module, torch.randn(2, 3, size, size))
    x, y = torch.randn(images, 3, size, size), torch.arange(images) % 10
    optimiser = torch.optim.SGD(net.module.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        net.module.train()
        F.cross_entropy(net.module(x), y).backward()
        optimiser.step()
        optimiser.zero_grad()  # what is freed while it is counted must have been counted: tests that ran before decide
        net.module.eval()

    trained = _peak(step)
    operator = SplittingOperator(net, [(x, y)], F.cross_entropy, statistics=statistics, cache_bytes=0)
    vectors = operator.random_vectors(0)
    assert _peak(lambda: operator.apply(vectors)) < bar * trained
