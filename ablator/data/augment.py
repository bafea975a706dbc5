"""Transforms of single images, from timm's and torchvision's parts, with draws that depend on a key alone.

Shape legend: C channels, H = W = image_size.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data import auto_augment
from timm.data.transforms import ResizeKeepRatio
from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train
from torch import Tensor
from torchvision import transforms

from ablator.data.settings import AugmentSettings

Transform = Callable[[Image.Image], Tensor]
"""RGB image of any size to normalised float32 (3, H, W)."""
Channels = tuple[float, float, float]


def training_transform(augment: AugmentSettings, side: int, mean: Channels, std: Channels) -> Transform:
    """Crop, flip, RandAugment or jitter, normalisation, erasing: in DeiT's order (arXiv 2012.12877)."""
    whole, colour, final = transforms_imagenet_train(
        img_size=side,
        hflip=augment.flip,
        color_jitter=augment.color_jitter or None,
        auto_augment=augment.rand_augment,
        interpolation=augment.interpolation,
        mean=mean,
        std=std,
        re_prob=augment.erase,
        re_mode="pixel",
        separate=True,
    )
    if augment.crop != "random_resized":
        # The shorter side becomes `side`; what a longer one has beyond it is cut off evenly.
        steps = [ResizeKeepRatio(side, interpolation=augment.interpolation), transforms.CenterCrop(side)]
        if augment.crop == "pad":
            steps.append(transforms.RandomCrop(side, padding=padding(side)))
        whole = transforms.Compose([*steps, transforms.RandomHorizontalFlip(augment.flip)])
    _mend_posterize(colour)
    transform: Transform = transforms.Compose([whole, colour, final])
    return transform


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep the upper `bits` of every channel; none at all leaves black."""
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits >= 1 else Image.new(image.mode, image.size)


def _mend_posterize(colour: transforms.Compose) -> None:
    # RandAugment's strongest posterisation keeps 0 bits, as in rand-m9-mstd0.5-inc1 when its noise goes up.
    # That was a black image in the Pillow that DeiT was trained with; newer ones raise ValueError instead.
    for transform in colour.transforms:
        for op in getattr(transform, "ops", ()):
            if op.aug_fn is auto_augment.posterize:
                op.aug_fn = _posterize


def evaluation_transform(augment: AugmentSettings, side: int, mean: Channels, std: Channels) -> Transform:
    """Resize of the shorter side to side / eval_crop, centre crop, normalisation."""
    transform: Transform = transforms_imagenet_eval(
        img_size=side,
        crop_pct=augment.eval_crop,
        interpolation=evaluation_interpolation(augment),
        mean=mean,
        std=std,
    )
    return transform


def evaluation_interpolation(augment: AugmentSettings) -> str:
    """The training's, and bicubic where that is random."""
    return "bicubic" if augment.interpolation == "random" else augment.interpolation


def padding(side: int) -> int:
    """Pixels that crop `pad` adds on each side."""
    return side // 8


@contextlib.contextmanager
def drawn_from(words_4: NDArray[np.uint64]) -> Iterator[None]:
    """Seed the three generators that the transforms draw from (`random`, and the global ones of numpy
    and torch) with the words, and put their states back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    first, second, third = (int(word) for word in words_4[:3])
    try:
        random.seed(first)
        np.random.seed(second & 0xFFFFFFFF)
        # Not torch.manual_seed, which would also seed every accelerator.
        torch.default_generator.manual_seed(third >> 1)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
