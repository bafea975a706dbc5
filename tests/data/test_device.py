"""Whole batches are made where they are wanted, and what they show does not depend on where that is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ablator.contracts.protocols import World
from ablator.data import draws, fast
from ablator.data.augment import padding
from ablator.data.catalog import open_source
from ablator.data.loading import load
from ablator.data.settings import AugmentSettings, DataSettings

ALONE = World()
ELSEWHERE = torch.device("meta")
"""A device that every machine has and that refuses to be mixed with the CPU; values do not exist there."""


@pytest.mark.parametrize("world", [ALONE, World(rank=1, size=2)])
@pytest.mark.parametrize("side", [8, 20])
def test_batches_show_what_their_words_say(light: AugmentSettings, world: World, side: int) -> None:
    """Image by image and in numpy: the padded crop, the flip and the normalisation, bit for bit."""
    augment = dataclasses.replace(light, flip=0.4, repeats=2)
    data = DataSettings(name="digits", image_size=side, fraction=0.05)
    loader = load(data, augment, seed=3, batch_size=6, world=world, device=torch.device("cpu"))
    images = fast.training_images(open_source(data).train, side, "bicubic", torch.device("cpu"))  # type: ignore[arg-type]
    mean, std = (np.array(c, np.float32)[:, None, None] for c in (loader.info.mean, loader.info.std))
    scale = (1 / (255 * std.astype(np.float64))).astype(np.float32)
    edge = padding(side)
    found = list(loader.train(4, 2))
    assert len(found) == loader.steps_per_epoch - 2 > 2
    for (positions, places), (batch, labels) in zip(loader._plan(4, 2), found, strict=True):
        for position, place, image, label in zip(positions, places, batch, labels, strict=True):
            row, column, flip, _ = draws.uniform(draws.words(int(position), 1, "augmentation", 3, 4))[0]
            index = loader._chosen[place]
            whole = np.pad(images.images[index, 0].numpy(), edge)
            top, left = int(row * (2 * edge + 1)), int(column * (2 * edge + 1))
            crop = whole[top : top + side, left : left + side]
            crop = crop[:, ::-1] if flip < 0.4 else crop
            assert label == images.labels[index]
            assert np.array_equal(image.numpy(), crop.astype(np.float32) * scale - mean / std)


@pytest.mark.parametrize("world", [ALONE, World(rank=1, size=3)])
def test_batches_are_made_on_the_device_that_is_asked_for(light: AugmentSettings, world: World) -> None:
    data = DataSettings(name="digits", image_size=16, fraction=0.1)
    there, here = (
        load(data, light, seed=0, batch_size=8, world=world, device=device)
        for device in (ELSEWHERE, torch.device("cpu"))
    )
    for moved, plain in ((there.train(1, 1), here.train(1, 1)), (there.evaluate(), here.evaluate())):
        pairs = list(zip(moved, plain, strict=True))
        assert pairs
        for (images, labels), (expected, expected_labels) in pairs:
            assert images.device.type == labels.device.type == "meta"
            assert (images.shape, images.dtype) == (expected.shape, expected.dtype)
            assert (labels.shape, labels.dtype) == (expected_labels.shape, expected_labels.dtype)


def test_a_gpus_batches_mix_no_devices(light: AugmentSettings) -> None:
    """With tensors that only know their device and shape, which takes no GPU."""
    shown = fast.views(np.arange(6), draws.words(0, 6, "augmentation", 0, 0), light, 16)
    assert shown.offsets is not None
    assert shown.mirrored is not None
    gpu = torch.device("cuda:0")
    with FakeTensorMode() as fake:
        moved = fast.Views(*(fake.from_tensor(t) for t in (shown.chosen, shown.offsets, shown.mirrored)))
        pixels = torch.empty(10, 1, 16, 16, dtype=torch.uint8, device=gpu)
        batch = fast.train_batch(pixels, moved.to(gpu).part(1, 5))
        normalised = fast.Normalise((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), gpu)(batch)
    assert (batch.device, normalised.device) == (gpu, gpu)
    assert normalised.shape == (4, 3, 16, 16)


def test_placed_images_are_counted_once(light: AugmentSettings) -> None:
    data = DataSettings(name="digits", image_size=9)
    loader = load(data, light, seed=0, batch_size=8, world=ALONE, device=ELSEWHERE)
    before = fast.held_bytes(ELSEWHERE)
    held = loader.place()
    images = loader.info.train_size + loader.info.val_size
    assert held - before <= images * (9 * 9 + 8) <= held
    assert load(data, light, seed=1, batch_size=4, world=ALONE, device=ELSEWHERE).place() == held
    assert load(data, light, seed=0, batch_size=8, world=ALONE).place() == 0


def test_heavy_augmentation_stays_on_the_cpu(digits: DataSettings) -> None:
    loader = load(digits, AugmentSettings(), seed=0, batch_size=4, world=ALONE, device=ELSEWHERE)
    images, labels = next(loader.train(0))
    assert images.device.type == labels.device.type == "cpu"
    assert next(loader.evaluate())[0].device.type == "meta"
