"""The moving average of weights: its weights of the iterates, buffers, and what the module holds meanwhile."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from energysplit.errors import CheckpointError
from energysplit.train.average import RAMP, Average, decay_after


class Noisy(nn.Module):
    """A parameter used twice, a floating buffer that is replaced, an integer buffer, and a constant."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.tied = self.weight
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("constant", torch.full((2,), 1 / 3), persistent=False)

    def move(self, to: float):
        with torch.no_grad():
            self.weight.fill_(to)
        self.mean = torch.full((2,), 2 * to, dtype=torch.float64)
        self.count += 1


def weights_of_iterates(updates: int, decay: float) -> list[float]:
    """The part of each iterate in the average, by carrying unit iterates through the definition."""
    parts: list[float] = []
    for done in range(updates):
        kept = decay_after(done, decay)
        parts = [part * kept for part in parts] + [1 - kept]
    return parts


def test_the_average_is_of_iterates_whose_weights_sum_to_one_and_the_start_has_none():
    module = Noisy()
    module.move(1e6)  # the start
    average = Average(module, 0.8)
    iterates = [float(3 + i * i % 7) for i in range(60)]
    for number, value in enumerate(iterates, start=1):
        module.move(value)
        average.update()
        parts = weights_of_iterates(number, 0.8)
        assert sum(parts) == pytest.approx(1, abs=1e-12)
        expected = sum(part * value for part, value in zip(parts, iterates, strict=False))
        assert torch.allclose(average.tensors()["weight"], torch.full((3,), expected, dtype=torch.float64), rtol=1e-12)
        assert torch.allclose(average.tensors()["mean"], torch.full((2,), 2 * expected, dtype=torch.float64))
    assert decay_after(59, 0.8) == 0.8 > decay_after(20, 0.8), "both the ramp and the fixed decay were seen"
    assert torch.equal(average.tensors()["constant"], module.constant), "what does not move stays, bit for bit"


@pytest.mark.parametrize("updates", [20, 100, 1000])
def test_short_trainings_are_averaged_over_about_their_last_tenth(updates):
    parts = weights_of_iterates(updates, 0.9999)
    age = sum(part * (updates - 1 - i) for i, part in enumerate(parts))
    assert age == pytest.approx((updates - 1) / (RAMP + 1), rel=0.01)
    assert sum(parts[: updates // 2]) < 0.01
    # What a fixed decay would leave of the start: nearly everything.
    assert 0.9999**updates > 0.9


def test_the_module_is_shown_with_the_average_and_put_back_bit_for_bit():
    module = Noisy()
    average = Average(module, 0.5)
    for value in (0.1, 0.7):
        module.move(value)
        average.update()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def look_and_fail():
        with average.shown():
            assert torch.equal(module.weight.detach(), average.tensors()["weight"])
            assert not torch.equal(module.weight.detach(), before["weight"])
            raise KeyError

    with pytest.raises(KeyError):
        look_and_fail()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    average.write()
    assert torch.equal(module.mean, average.tensors()["mean"])
    assert int(module.count) == 2, "numbers that are counted are not averaged"


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_average_goes_on_from_its_tensors_bit_for_bit(channels_last):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    whole, part = Average(module, 0.9), Average(module, 0.9)
    for number in range(6):
        if number == 4:
            part = Average(module, 0.9, part.tensors(), updates=4)
        with torch.no_grad():
            module(torch.randn(8, 3, 5, 5))
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        whole.update()
        part.update()
    assert set(whole.tensors()) == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    assert all(torch.equal(tensor, part.tensors()[name]) for name, tensor in whole.tensors().items())
    assert all(tensor.is_contiguous() for tensor in whole.tensors().values())


@pytest.mark.parametrize("change", [{"weight": torch.zeros(4)}, {"other": torch.zeros(1)}])
def test_an_average_of_another_network_is_refused(change):
    tensors = {**Average(Noisy(), 0.9).tensors(), **change}
    with pytest.raises(CheckpointError, match=f"'{next(iter(change))}' is missing, unknown or of another shape"):
        Average(Noisy(), 0.9, tensors)
