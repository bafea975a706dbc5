"""Mixup and CutMix. timm draws from numpy's global generator, which the loop seeds before every micro-step.

Shape legend: B batch, C channels, H W height and width, K classes.
"""

from __future__ import annotations

from typing import cast

from timm.data import Mixup
from torch import Tensor

from ablator.contracts.train import TrainSettings


class Mixing:
    """Mixes every micro-batch with its mirror (arXiv 1710.09412 and 1905.04899, as in DeiT's recipe)."""

    def __init__(self, settings: TrainSettings, num_classes: int) -> None:
        self._mixup = Mixup(
            mixup_alpha=settings.mixup,
            cutmix_alpha=settings.cutmix,
            switch_prob=settings.mixup_switch,
            label_smoothing=settings.label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images and smoothed soft labels (B, K). The images given are left as they are, because
        they may be a cache of the data set's."""
        return cast(tuple[Tensor, Tensor], self._mixup(images_BCHW.clone(), labels_B))


def build_mixing(settings: TrainSettings, num_classes: int) -> Mixing | None:
    """The mixing that `settings` ask for; None where both are off (the task then smooths the labels)."""
    if settings.mixup == 0 and settings.cutmix == 0:
        return None
    return Mixing(settings, num_classes)
