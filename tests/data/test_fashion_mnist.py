"""The real Fashion-MNIST of Debian's package `dataset-fashion-mnist`, which CI installs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ablator.contracts.protocols import World
from ablator.data.catalog import open_source
from ablator.data.loading import load
from ablator.data.settings import AugmentSettings, DataSettings

INSTALLED = Path("/usr/share/datasets/fashion-mnist")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED.is_dir(), reason="apt-get install dataset-fashion-mnist"),
]


def test_it_is_found_where_debian_puts_it_and_is_whole() -> None:
    source = open_source(DataSettings(name="fashion_mnist"))
    assert len(source.classes) == 10
    train, val = source.images("train"), source.images("val")
    assert (len(train.labels), len(val.labels)) == (60_000, 10_000)
    assert np.bincount(np.asarray(train.labels)).tolist() == [6000] * 10
    assert source.image("train", 0).size == (28, 28)


def test_a_tenth_of_it_gives_batches() -> None:
    augment = AugmentSettings(
        crop="pad", flip=0.5, rand_augment=None, color_jitter=0.0, erase=0.0, repeats=1, eval_crop=1.0
    )
    data = DataSettings(name="fashion_mnist", image_size=32, fraction=0.1)
    batches = load(data, augment, seed=0, batch_size=100, world=World())
    images, labels = next(iter(batches.train(0)))
    assert tuple(images.shape) == (100, 3, 32, 32)
    assert batches.steps_per_epoch == 60
    assert abs(float(images.mean())) < 0.3, "normalised by its own statistics"
    assert len(set(labels.tolist())) == 10
