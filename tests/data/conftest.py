"""Small real images on disk, in the layouts that the data sets read."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablator.data.settings import AugmentSettings, DataSettings


def _picture(number: int, width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def picture() -> Callable[[int, int, int], Image.Image]:
    """picture(number, width, height): a colour image that only depends on its arguments."""
    return _picture


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """tree(per_class, splits, classes): a folder data set of PNG files of different sizes."""

    def make(
        per_class: int = 6,
        splits: tuple[str, ...] = ("train", "val"),
        classes: tuple[str, ...] = ("ant", "bee"),
    ) -> Path:
        root = tmp_path / "tree"
        number = 0
        for split in splits:
            for name in classes:
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                for index in range(per_class):
                    number += 1
                    _picture(number, 20 + number, 40 - number % 7).save(folder / f"{index}.png")
        return root

    return make


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """Fashion-MNIST's four gzipped idx files, with 40 and 20 images."""
    random = np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 20)):
        pixels = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array, code in (("images-idx3", pixels, 3), ("labels-idx1", labels, 1)):
            header = bytes([0, 0, 8, code]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path) -> tuple[Path, Path]:
    """The same 50 + 10 images in CIFAR-10's binary layout and in its Python layout."""
    random = np.random.default_rng(0)
    binary, python = tmp_path / "binary", tmp_path / "python" / "cifar-10-batches-py"
    binary.mkdir()
    python.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = np.arange(10, dtype=np.uint8)
        pixels = random.integers(0, 256, (10, 3072), np.uint8)
        (binary / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], pixels], 1).tobytes())
        batch = {b"data": pixels, b"labels": labels.tolist(), b"batch_label": name.encode()}
        (python / name).write_bytes(pickle.dumps(batch, protocol=2))
    return binary, tmp_path / "python"


@pytest.fixture
def plain() -> AugmentSettings:
    """Resize only: no randomness but the order."""
    return AugmentSettings(
        crop="none", flip=0, rand_augment=None, color_jitter=0, erase=0, repeats=1, eval_crop=1.0
    )


@pytest.fixture
def light() -> AugmentSettings:
    """Padded crop and flip: what whole batches are made of at once."""
    return AugmentSettings(crop="pad", rand_augment=None, color_jitter=0, erase=0, repeats=1, eval_crop=1.0)


@pytest.fixture
def digits() -> DataSettings:
    return DataSettings(name="digits", image_size=16)
