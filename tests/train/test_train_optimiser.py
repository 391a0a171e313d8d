"""The optimiser: which parameters are decayed, and its state as named tensors in both directions."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

from energysplit import models
from energysplit.errors import CheckpointError, InputError
from energysplit.train import load_state_tensors, make_optimiser, state_tensors


def step(module, optimiser, seed=0):
    generator = torch.Generator().manual_seed(seed)
    optimiser.zero_grad()
    module(torch.randn(4, 3, 8, 8, generator=generator)).square().sum().backward()
    optimiser.step()


@pytest.fixture
def stepped():
    torch.manual_seed(0)
    module = models.build("cnn", widths=[4, 6])
    optimiser = make_optimiser(module, learning_rate=0.01)
    step(module, optimiser)
    return module, optimiser


def test_batch_norms_and_biases_are_not_decayed():
    module = models.build("cnn", widths=[4, 6])
    optimiser = make_optimiser(module, weight_decay=0.1)
    decayed, others = ({id(p) for p in group["params"]} for group in optimiser.param_groups)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]
    for name, parameter in module.named_parameters():
        mixes = name.endswith((".conv.weight", "classifier.weight"))
        assert id(parameter) in (decayed if mixes else others)
    assert len(decayed) + len(others) == len(list(module.parameters()))


def test_state_goes_through_safetensors_and_back(stepped):
    module, optimiser = stepped
    tensors = safetensors.torch.load(safetensors.torch.save(state_tensors(optimiser, module)))
    assert set(tensors) == {f"{name}/momentum_buffer" for name, _ in module.named_parameters()}
    twin = models.build("cnn", widths=[4, 6])
    twin.load_state_dict(module.state_dict())
    other = make_optimiser(twin, learning_rate=0.01)
    load_state_tensors(other, twin, tensors)
    step(module, optimiser, seed=1)
    step(twin, other, seed=1)
    for a, b in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_tensors_are_copies(stepped):
    module, optimiser = stepped
    tensors = state_tensors(optimiser, module)
    before = {key: value.clone() for key, value in tensors.items()}
    step(module, optimiser)
    assert all(torch.equal(before[key], tensors[key]) for key in before)


def test_channels_last_state_is_stored_contiguous_and_put_back_in_its_format():
    module = models.build("cnn", widths=[4, 6]).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(module)
    step(module, optimiser)
    tensors = state_tensors(optimiser, module)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    load_state_tensors(optimiser, module, tensors)
    weight = module.blocks[1].conv.weight
    assert optimiser.state[weight]["momentum_buffer"].stride() == weight.stride()


def test_no_state_before_the_first_step_and_none_is_a_state_too(stepped):
    module, optimiser = stepped
    assert state_tensors(make_optimiser(module), module) == {}
    load_state_tensors(optimiser, module, {})
    assert state_tensors(optimiser, module) == {}


def test_without_momentum_there_is_no_state():
    module = models.build("cnn", widths=[4])
    optimiser = make_optimiser(module, momentum=0.0)
    step(module, optimiser)
    assert state_tensors(optimiser, module) == {}


def test_state_that_does_not_fit_is_refused_and_nothing_changes(stepped):
    module, optimiser = stepped
    good = state_tensors(optimiser, module)
    key = "blocks.0.conv.weight/momentum_buffer"
    cases = [
        ({**good, "blocks.9.conv.weight/momentum_buffer": good[key]}, "belongs to no parameter.*did you mean"),
        ({**good, key: good[key][:2]}, r"shape \(2, 3, 3, 3\); its parameter is .*\(4, 3, 3, 3\).*other widths"),
        ({**good, key: good[key].double()}, "torch.float64"),
        ({k: v for k, v in good.items() if k != key}, "missing for 'blocks.0.conv.weight' and 0 other"),
    ]
    for tensors, message in cases:
        with pytest.raises(CheckpointError, match=message):
            load_state_tensors(optimiser, module, tensors)
        assert all(torch.equal(v, good[k]) for k, v in state_tensors(optimiser, module).items())


def test_state_of_parameters_replaced_by_surgery_is_refused(stepped):
    module, optimiser = stepped
    module.classifier = nn.Linear(6, 10)
    with pytest.raises(CheckpointError, match="make a new optimiser after surgery"):
        state_tensors(optimiser, module)


def test_wrong_settings_are_refused():
    module = models.build("mlp")
    with pytest.raises(InputError, match=r"unknown optimiser 'sdg'.*did you mean 'sgd'"):
        make_optimiser(module, optimizer="sdg")
    with pytest.raises(InputError, match=r"momentum = 0.0 and nesterov = True can't go together"):
        make_optimiser(module, momentum=0.0, nesterov=True)
