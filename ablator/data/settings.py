"""Settings of the `data` and `augment` sections."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ablator.contracts.settings import settings

DATA = "ABLATOR_DATA"
"""Environment variable: the folder that a relative `data.root` is relative to, else the working folder. A
cluster sets it on every node, so that studies need no paths of machines."""


def place_of(root: str) -> Path:
    """Where `data.root` is on this machine."""
    return Path(os.environ.get(DATA, "")).expanduser() / Path(root).expanduser()


@settings
class DataSettings:
    """Which images, and how many of them."""

    name: str = "digits"
    """A registered data set: digits, fashion_mnist, cifar10, folder or parquet."""
    root: str | None = None
    """Where it lies; needed by folder and parquet, looked for by the others when null."""
    image_size: Annotated[int, Ge(8)] = 224
    """Side of the square that the model sees, in pixels."""
    fraction: Annotated[float, Gt(0), Le(1)] = 1.0
    """Part of the training set that is used: stratified, and smaller fractions lie inside larger ones."""
    fraction_seed: int = 0
    """Seed of the fraction's draw; the same in every arm and for every trial seed."""
    holdout: Annotated[float, Gt(0), Le(0.9)] = 0.2
    """Part held out for validation, per class, where the data has no validation set of its own."""
    holdout_seed: int = 0
    """Seed of that split."""
    max_corrupt: Annotated[int, Ge(0)] = 0
    """Unreadable images that are skipped (named and counted) before the trial fails."""


@settings
class AugmentSettings:
    """How a training image becomes an input. The defaults are DeiT's."""

    crop: Literal["random_resized", "pad", "none"] = "random_resized"
    """random_resized (scale .08-1); pad: resize, pad by an eighth, crop at random; none: resize only."""
    flip: Annotated[float, Ge(0), Le(1)] = 0.5
    """Chance of a horizontal flip."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's RandAugment description; null switches it off."""
    color_jitter: Annotated[float, Ge(0)] = 0.3
    """Strength of colour jitter; used only where rand_augment is null."""
    erase: Annotated[float, Ge(0), Le(1)] = 0.25
    """Chance of random erasing with pixel noise."""
    repeats: Annotated[int, Ge(1)] = 3
    """Repeated augmentation: views of one image per epoch; the epoch's length stays the same."""
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    """Of resizing, in training and evaluation."""
    eval_crop: Annotated[float, Gt(0), Le(1)] = 0.875
    """Evaluation resizes so that the centre crop takes this part of the side."""

    @property
    def fixed(self) -> bool:
        """Whether an image is the same input in every epoch, each once."""
        drawn = self.crop != "none" or self.flip > 0 or self.erase > 0 or self.interpolation == "random"
        colour = self.rand_augment is not None or self.color_jitter > 0
        return not drawn and not colour and self.repeats == 1
