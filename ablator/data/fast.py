"""Whole batches at once, for small images that lie decoded in memory and light augmentation.

Every image is resized once per process, on the CPU, and kept on the device that trains; a batch is then a
gather of crops, a flip and a multiplication there. What is drawn for an epoch is drawn on the CPU and moved
in one piece, so that a batch takes nothing from the CPU, and is the same bit for bit on every device.

Shape legend: N images, M inputs of one epoch, B batch, C channels (1 for grey until the last step),
H = W = side.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import weakref
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ablator.data import draws
from ablator.data.augment import Channels, padding
from ablator.data.settings import AugmentSettings
from ablator.data.source import ArrayImages, Images

LIMIT_BYTES = 512 * 2**20
"""Above this size of a split's resized images (uint8), they are decoded one by one instead. At most two sets
of training images and two of validation images are kept in a process."""
_CHUNK = 1024


def fits(images: Images, side: int) -> bool:
    """Whether these are square images in memory that may be held at `side`."""
    if not isinstance(images, ArrayImages):
        return False
    shape = images.pixels.shape
    channels = shape[3] if len(shape) == 4 else 1
    square: bool = shape[1] == shape[2]
    return square and shape[0] * side * side * channels <= LIMIT_BYTES


def covers(augment: AugmentSettings) -> bool:
    """Whether `train_batch` can do all that `augment` asks for in training."""
    colour = augment.rand_augment is not None or augment.color_jitter > 0
    geometry = augment.crop in ("pad", "none") and augment.interpolation != "random"
    return geometry and not colour and not augment.erase


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """A split as it is kept on one device."""

    images: Tensor
    """Resized, uint8 (N, C, side, side)."""
    labels: Tensor
    """int64 (N,)."""

    @property
    def nbytes(self) -> int:
        """Bytes of images and labels."""
        return self.images.nbytes + self.labels.nbytes


_HELD: weakref.WeakSet[Held] = weakref.WeakSet()


def held_bytes(device: torch.device) -> int:
    """Bytes of all splits that this process keeps on a device of this type, whoever asked for them."""
    return sum(held.nbytes for held in tuple(_HELD) if held.labels.device.type == device.type)


@functools.lru_cache(maxsize=2)
def training_images(images: ArrayImages, side: int, interpolation: str, device: torch.device) -> Held:
    """All images as training sees them before it crops, on `device`."""
    return _held(_resized(images, side, interpolation), images, device)


@functools.lru_cache(maxsize=2)
def evaluation_images(
    images: ArrayImages, side: int, crop: float, interpolation: str, device: torch.device
) -> Held:
    """All images as evaluation sees them, before normalisation, on `device`."""
    large = math.floor(side / crop)
    edge = round((large - side) / 2.0)
    whole_NCHW = _resized(images, large, interpolation)
    return _held(whole_NCHW[:, :, edge : edge + side, edge : edge + side].contiguous(), images, device)


def _held(images_NCHW: Tensor, images: ArrayImages, device: torch.device) -> Held:
    held = Held(images_NCHW.to(device), torch.from_numpy(images.labels).to(device))
    _HELD.add(held)
    return held


def _resized(images: ArrayImages, side: int, interpolation: str) -> Tensor:
    """All images as uint8 (N, C, side, side), with antialiasing as Pillow's."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.pixels))
    pixels_NCHW = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    if pixels_NCHW.shape[-1] == side:
        return pixels_NCHW
    parts = [
        interpolate(part_BCHW, (side, side), mode=interpolation, antialias=True)
        for part_BCHW in torch.split(pixels_NCHW, _CHUNK)
    ]
    return torch.cat(parts)


@dataclasses.dataclass(frozen=True)
class Views:
    """What every input of an epoch shows, in their order."""

    chosen: Tensor
    """Image of the split (M,)."""
    offsets: Tensor | None
    """Row and column of the crop in the padded image (M, 2); None: no crop."""
    mirrored: Tensor | None
    """Whether it is flipped (M,); None: none is."""

    def to(self, device: torch.device) -> Views:
        """The same on `device`."""
        return self._each(lambda part: part.to(device))

    def part(self, start: int, stop: int) -> Views:
        """Inputs `start` .. `stop - 1`."""
        return self._each(lambda part: part[start:stop])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Views:
        offsets = None if self.offsets is None else change(self.offsets)
        mirrored = None if self.mirrored is None else change(self.mirrored)
        return Views(change(self.chosen), offsets, mirrored)


def views(
    chosen_M: NDArray[np.int64], words_M4: NDArray[np.uint64], augment: AugmentSettings, side: int
) -> Views:
    """The chosen images, cropped and flipped as their words say."""
    draws_M4 = draws.uniform(words_M4)
    offsets_M2 = mirrored_M = None
    if augment.crop == "pad":
        offsets_M2 = torch.from_numpy((draws_M4[:, :2] * (2 * padding(side) + 1)).astype(np.int64))
    if augment.flip:
        mirrored_M = torch.from_numpy(draws_M4[:, 2] < augment.flip)
    return Views(torch.from_numpy(chosen_M), offsets_M2, mirrored_M)


def train_batch(images_NCHW: Tensor, shown: Views) -> Tensor:
    """The inputs before normalisation: uint8 (B, C, H, W). Images and views lie on one device."""
    batch_BCHW = images_NCHW[shown.chosen]
    if shown.offsets is not None:
        batch_BCHW = _padded_crop(batch_BCHW, shown.offsets)
    if shown.mirrored is not None:
        batch_BCHW = torch.where(shown.mirrored[:, None, None, None], batch_BCHW.flip(-1), batch_BCHW)
    return batch_BCHW


def _padded_crop(batch_BCHW: Tensor, offsets_B2: Tensor) -> Tensor:
    side = batch_BCHW.shape[-1]
    edge = padding(side)
    windows = pad(batch_BCHW, (edge, edge, edge, edge)).unfold(2, side, 1).unfold(3, side, 1)
    first_B = torch.arange(len(batch_BCHW), device=batch_BCHW.device)
    return windows[first_B, :, offsets_B2[:, 0], offsets_B2[:, 1]]


class Normalise:
    """uint8 with one or three channels to float32 (B, 3, H, W): minus mean, over std, of values in [0, 1]."""

    def __init__(self, mean: Channels, std: Channels, device: torch.device) -> None:
        scale_C11 = (1 / (255 * torch.tensor(std, dtype=torch.float64))).float()[:, None, None]
        shift_C11 = (torch.tensor(mean) / torch.tensor(std))[:, None, None]
        self._scale_C11, self._shift_C11 = scale_C11.to(device), shift_C11.to(device)

    def __call__(self, batch_BCHW: Tensor) -> Tensor:
        """The normalised batch, where it lies."""
        return batch_BCHW.float() * self._scale_C11 - self._shift_C11
