"""Whole batches at once, for small images that lie decoded in memory and light augmentation.

Every image is resized once per process; a batch is then a gather of crops, a flip and a multiplication.

Shape legend: N images, B batch, C channels (1 for grey until the last step), H = W = side.
"""

from __future__ import annotations

import functools
import math

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
"""Above this size of the resized images (uint8), they are decoded one by one instead."""
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


@functools.lru_cache(maxsize=2)
def resized(images: ArrayImages, side: int, interpolation: str) -> Tensor:
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


@functools.lru_cache(maxsize=2)
def evaluation_images(images: ArrayImages, side: int, crop: float, interpolation: str) -> Tensor:
    """All images as evaluation sees them, before normalisation: uint8 (N, C, side, side)."""
    large = math.floor(side / crop)
    edge = round((large - side) / 2.0)
    whole_NCHW = resized.__wrapped__(images, large, interpolation)
    return whole_NCHW[:, :, edge : edge + side, edge : edge + side].contiguous()


def train_batch(
    images_NCHW: Tensor, chosen_B: NDArray[np.int64], words_B4: NDArray[np.uint64], augment: AugmentSettings
) -> Tensor:
    """The chosen images, cropped and flipped as their words say: uint8 (B, C, H, W)."""
    batch_BCHW = images_NCHW[torch.from_numpy(chosen_B)]
    draws_B4 = draws.uniform(words_B4)
    if augment.crop == "pad":
        batch_BCHW = _padded_crop(batch_BCHW, draws_B4)
    if augment.flip:
        flip_B = torch.from_numpy(draws_B4[:, 2] < augment.flip)
        batch_BCHW = torch.where(flip_B[:, None, None, None], batch_BCHW.flip(-1), batch_BCHW)
    return batch_BCHW


def _padded_crop(batch_BCHW: Tensor, draws_B4: NDArray[np.float64]) -> Tensor:
    side = batch_BCHW.shape[-1]
    edge = padding(side)
    offsets_B4 = torch.from_numpy((draws_B4 * (2 * edge + 1)).astype(np.int64))
    windows = pad(batch_BCHW, (edge, edge, edge, edge)).unfold(2, side, 1).unfold(3, side, 1)
    return windows[torch.arange(len(batch_BCHW)), :, offsets_B4[:, 0], offsets_B4[:, 1]]


def normalised(batch_BCHW: Tensor, mean: Channels, std: Channels) -> Tensor:
    """uint8 with one or three channels to float32 (B, 3, H, W): minus mean, over std, of values in [0, 1]."""
    scale_C11 = (1 / (255 * torch.tensor(std, dtype=torch.float64))).float()[:, None, None]
    shift_C11 = (torch.tensor(mean) / torch.tensor(std))[:, None, None]
    return batch_BCHW.float() * scale_C11 - shift_C11
