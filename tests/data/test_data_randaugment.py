"""RandAugment on batches: reproducible, varied, on top of shifts, and only where it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from energysplit import data
from energysplit.data.memory import Augmentation, MemorySplit
from energysplit.data.randaugment import HANDS, OPERATIONS, RandAugment
from energysplit.errors import DataError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture
def pictures():
    """A training part of 300 smooth colour pictures."""
    steps = torch.linspace(0, 1, 24)
    ramps = torch.stack([steps[:, None] * steps, steps[:, None].expand(24, 24), steps.expand(24, 24)])
    noise = torch.rand(300, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    images = (255 * (0.2 + 0.6 * ramps * noise)).to(torch.uint8)
    return MemorySplit(
        images, torch.arange(300) % 10, mean=MEAN, std=STD, augmentation=Augmentation(2, "reflect", mirror=True)
    )


def inputs(split, **options):
    """All inputs of an epoch and their targets."""
    batches = list(split.batches(64, **options))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@pytest.mark.parametrize("name", ["pictures", "digits"])
def test_a_seed_fixes_every_bit_and_the_global_state_is_left_alone(name, pictures):
    split = pictures if name == "pictures" else data.load("digits", limit=300).train
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, targets = inputs(split, seed=3, augment="randaugment")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again, _ = inputs(split, seed=3, augment="randaugment")
    other, _ = inputs(split, seed=4, augment="randaugment")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain, same_targets = inputs(split, seed=3, augment=True)
    assert torch.equal(targets, same_targets), "the same order with and without"
    assert first.dtype == torch.float32
    # Digits are stretched to bytes and back, which rounds.
    changed = ((first - plain).abs() > 0.01).flatten(1).any(1).double().mean()
    assert 0.75 < changed < 1, "some images meet the identity twice, or an operation that leaves them as they are"


def test_it_goes_on_top_of_the_shifts_before_normalising(pictures, monkeypatch):
    """Without operations, what is left is shift and mirroring, bit for bit; pixels stay pixels."""
    found, _ = inputs(pictures, seed=5, augment="randaugment")
    pixels = found * torch.tensor(STD).view(1, 3, 1, 1) * 255 + torch.tensor(MEAN).view(1, 3, 1, 1) * 255
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)
    assert -1e-3 < float(pixels.min()) < float(pixels.max()) < 255 + 1e-3
    monkeypatch.setattr("energysplit.data.randaugment.OPERATIONS", 0)
    assert torch.equal(inputs(pictures, seed=5, augment="randaugment")[0], inputs(pictures, seed=5, augment=True)[0])


def test_images_of_a_batch_meet_many_operations_and_each_is_torchvisions():
    """A batch of one picture: each version is among those that torchvision makes of it with two operations."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=generator)
    once = versions(picture)
    possible = {version for each in once for version in versions(torch.frombuffer(bytearray(each), dtype=torch.uint8))}
    change = RandAugment(seed=0)
    found = [change(picture.repeat(200, 1, 1, 1)) for _ in range(5)]
    seen = {image.numpy().tobytes() for batch in found for image in batch}
    assert seen <= possible
    assert len({image.numpy().tobytes() for image in found[0]}) > 30
    assert not torch.equal(found[0], found[1])
    assert (OPERATIONS, HANDS) == (2, 16)


def versions(picture):
    """What torchvision's RandAugment can make of a picture with one operation, as bytes."""
    operation, found = v2.RandAugment(num_ops=1), set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(250):
            found.add(operation(picture.view(1, 3, 8, 8)).contiguous().numpy().tobytes())
    return found


def test_images_that_are_not_of_bytes_come_back_in_their_own_range():
    picture = torch.randint(0, 17, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = RandAugment(seed=0, white=16)(picture)
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) < float(found.max()) <= 16
    same = (found - picture).abs().flatten(1).amax(1) < 0.04  # stretched to 255 and back, rounded once
    assert 0 < int(same.sum()) < 32


def test_parts_that_are_not_augmented_and_samples_are_left_alone(pictures):
    plain, _ = inputs(pictures)
    assert torch.equal(torch.cat([x for x, _ in pictures.take(torch.arange(300), 100)]), plain)
    with pytest.raises(DataError, match="augmented batches need a seed"):
        pictures.batches(8, augment="randaugment")


def test_folders_draw_for_each_image_whatever_the_workers(folder_root):
    parts = [
        data.load("image_folder", root=folder_root, image_size=16, workers=workers, validation=0.2).train
        for workers in (0, 2)
    ]
    first, other = (torch.cat([x for x, _ in part.batches(5, seed=1, augment="randaugment")]).numpy() for part in parts)
    plain = torch.cat([x for x, _ in parts[0].batches(5, seed=1, augment=True)]).numpy()
    assert np.array_equal(first, other)
    assert (first != plain).any((1, 2, 3)).mean() > 0.5
