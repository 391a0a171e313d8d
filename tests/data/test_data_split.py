"""Orders, draws, divisions and augmentation: what a seed fixes, and what every image must look like afterwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysplit import data
from energysplit.data.memory import Augmentation, MemorySplit
from energysplit.data.split import divide
from energysplit.errors import DataError


def numbered(count=50, size=6, channels=3, augmentation=None):
    """Images with random pixels; the label is the image's number, so that a batch says which images it holds."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)
    split = MemorySplit(
        images, torch.arange(count), mean=(0.0,) * channels, std=(1 / 255,) * channels, augmentation=augmentation
    )
    return images, split


def test_without_a_seed_the_order_is_fixed_and_pixels_are_normalised():
    images, split = numbered()
    inputs, targets = map(torch.cat, zip(*split.batches(8), strict=True))
    assert torch.equal(targets, torch.arange(50))
    assert inputs.dtype == torch.float32
    assert torch.allclose(inputs, images.float(), atol=1e-4)


def test_normalisation_is_pixel_minus_mean_over_std():
    images = torch.arange(0, 48, dtype=torch.uint8).view(1, 3, 4, 4)
    split = MemorySplit(images, torch.zeros(1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.2), white=50)
    ((inputs, _),) = split.batches(1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.4, 0.2)))
    assert torch.allclose(inputs, (images / 50 - mean) / std, atol=1e-6)


@pytest.mark.parametrize("augment", [False, True])
def test_a_seed_fixes_every_bit_whatever_the_global_state(augment):
    _, split = numbered(augmentation=Augmentation(2, "reflect", mirror=True))
    torch.manual_seed(1)
    first = list(split.batches(8, seed=3, augment=augment))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = list(split.batches(8, seed=3, augment=augment))
    assert torch.equal(state, torch.get_rng_state())
    other = list(split.batches(8, seed=4, augment=augment))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    assert sorted(torch.cat([t for _, t in first]).tolist()) == list(range(50))


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_augmented_images_are_windows_of_the_padded_image_perhaps_mirrored(border):
    images, split = numbered(augmentation=Augmentation(2, border, mirror=True))
    mode = "constant" if border == "zero" else "reflect"
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode=mode)
    seen = set()
    for seed in range(8):
        for inputs, targets in split.batches(7, seed=seed, augment=True):
            for image, number in zip(inputs.round(), targets.tolist(), strict=True):
                found = [
                    (dy, dx, mirrored)
                    for dy in range(5)
                    for dx in range(5)
                    for mirrored in (False, True)
                    if torch.equal(image.flip(2) if mirrored else image, padded[number, :, dy : dy + 6, dx : dx + 6])
                ]
                assert found
                seen.update(found)
    assert len(seen) == 50


def test_augmentation_is_uniform_over_shifts_and_mirrors():
    images = torch.zeros(4000, 1, 5, 5, dtype=torch.uint8)
    images[:, 0, 2, 2] = 255
    images[:, 0, 2, 3] = 100
    split = MemorySplit(
        images, torch.zeros(4000), mean=(0.0,), std=(1.0,), augmentation=Augmentation(1, "zero", mirror=True)
    )
    ((inputs, _),) = split.batches(4000, seed=0, augment=True)
    place = inputs.view(4000, 25).argmax(1).bincount(minlength=25).view(5, 5)
    assert place[1:4, 1:4].sum() == 4000
    # 9 places of probability 1/9: standard deviation 20.
    assert (place[1:4, 1:4] - 4000 / 9).abs().max() < 100
    right = inputs.view(4000, 25)[:, :-1].gather(1, (inputs.view(4000, 25).argmax(1) + 1)[:, None])
    assert abs((right > 0.2).float().mean().item() - 0.5) < 0.04


def test_without_augmentation_the_border_does_not_show():
    images, split = numbered(augmentation=Augmentation(2, "reflect", mirror=True))
    inputs, targets = map(torch.cat, zip(*split.batches(8, seed=9), strict=True))
    assert torch.equal(inputs.round(), images[targets].float())


def test_drop_last_and_ragged_last_batch():
    _, split = numbered()
    assert [len(t) for _, t in split.batches(16, seed=1)] == [16, 16, 16, 2]
    assert [len(t) for _, t in split.batches(16, seed=1, drop_last=True)] == [16, 16, 16]
    with pytest.raises(DataError, match="50 images make no full batch of 64"):
        split.batches(64, seed=1, drop_last=True)
    with pytest.raises(DataError, match="augmented batches need a seed"):
        split.batches(8, augment=True)


def test_draws_are_nested_disjoint_and_refused_when_too_large():
    _, split = numbered()
    small, large = split.draw(10, seed=1), split.draw(30, seed=1)
    assert torch.equal(small, large[:10])
    held_out = split.draw(20, seed=2, exclude=large)
    assert not set(held_out.tolist()) & set(large.tolist())
    assert torch.equal(held_out, split.draw(20, seed=2, exclude=large.tolist()))
    with pytest.raises(DataError, match="21 images asked for, 20 left of 50"):
        split.draw(21, seed=2, exclude=large)


def test_samples_are_the_drawn_images_without_augmentation():
    images, split = numbered(augmentation=Augmentation(2, "reflect", mirror=True))
    batches = split.sample(20, seed=5, batch_size=8)
    assert [len(t) for _, t in batches] == [8, 8, 4]
    targets = torch.cat([t for _, t in batches])
    assert torch.equal(targets, split.draw(20, seed=5))
    assert torch.equal(torch.cat([x for x, _ in batches]).round(), images[targets].float())


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**40),
)
def test_divisions_are_exact_in_total_and_within_one_image_in_each_class(counts, share, seed):
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    rest, part = divide(targets, share, seed=seed)
    assert sorted(torch.cat((rest, part)).tolist()) == list(range(len(targets)))
    assert len(part) == round(share * len(targets))
    for label, count in enumerate(counts):
        assert abs(int((targets[part] == label).sum()) - share * count) <= 1
    again = divide(targets, share, seed=seed)
    assert torch.equal(part, again[1])


def test_digits_splits_are_apart_and_the_test_part_never_changes():
    def pixels(split):
        return {tuple(image.flatten().tolist()) for inputs, _ in split.batches(500) for image in inputs}

    first, second = (data.load("digits", seed=seed) for seed in (0, 1))
    assert (len(first.train), len(first.validation), len(first.test)) == (1294, 144, 359)
    assert not pixels(first.train) & pixels(first.test)
    assert not pixels(first.train) & pixels(first.validation)
    assert pixels(first.test) == pixels(second.test)
    assert pixels(first.validation) != pixels(second.validation)
    shares = first.validation.targets.bincount(minlength=10) / len(first.validation)
    assert (shares - 0.1).abs().max() < 0.02


def test_digits_inputs_have_mean_zero_and_deviation_one():
    splits = data.load("digits")
    inputs = torch.cat([x for x, _ in splits.train.batches(2000)])
    assert inputs.shape == (1294, 1, 8, 8)
    assert abs(inputs.mean().item()) < 0.02
    assert abs(inputs.std().item() - 1) < 0.02


def test_limit_keeps_the_classes_shares_and_the_other_parts():
    whole, limited = data.load("digits"), data.load("digits", limit=200)
    assert len(limited.train) == 200
    assert (limited.train.targets.bincount() - 20).abs().max() <= 1
    assert torch.equal(whole.validation.targets, limited.validation.targets)
    assert torch.equal(whole.test.targets, limited.test.targets)
