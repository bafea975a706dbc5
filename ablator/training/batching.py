"""How a step's images are divided over workers and micro-batches, and the settings that cannot work."""

from __future__ import annotations

from ablator.contracts.protocols import World
from ablator.contracts.train import TrainSettings
from ablator.errors import SettingError


def micro_batch_size(settings: TrainSettings, world: World) -> int:
    """Images per worker and forward pass: `batch_size / (accumulate · world.size)`.

    Raises SettingError where that is not a whole number, or is odd while images are mixed (timm's Mixup
    pairs each image with its mirror in the batch).
    """
    parts = settings.accumulate * world.size
    if settings.batch_size % parts:
        raise SettingError(
            f"train.batch_size must be a multiple of train.accumulate times the workers of a trial: "
            f"{settings.batch_size} is not one of {settings.accumulate} · {world.size} = {parts}; "
            f"the nearest are {_nearest_multiples(settings.batch_size, parts)}"
        )
    micro = settings.batch_size // parts
    if micro % 2 and (settings.mixup > 0 or settings.cutmix > 0):
        raise SettingError(
            f"mixup and cutmix pair the images of a micro-batch, so its size must be even: train.batch_size "
            f"{settings.batch_size} / (train.accumulate {settings.accumulate} · {world.size} workers) "
            f"= {micro}; use a batch_size such as {_nearest_multiples(settings.batch_size, 2 * parts)}, "
            f"or mixup: 0 and cutmix: 0"
        )
    return micro


def steps_per_epoch(settings: TrainSettings, micro_batches: int) -> int:
    """Optimiser steps per epoch. Micro-batches left over at the epoch's end are dropped, so that every
    step sees exactly `batch_size` images and `accumulate` changes memory but never what is trained.

    Raises SettingError where the epoch is shorter than one step.
    """
    steps = micro_batches // settings.accumulate
    if steps == 0:
        raise SettingError(
            f"an epoch must hold at least one step: it has {micro_batches} micro-batches and "
            f"train.accumulate is {settings.accumulate}; use a smaller train.batch_size or train.accumulate"
        )
    return steps


def _nearest_multiples(value: int, of: int) -> str:
    below = value // of * of
    return f"{below} and {below + of}" if below else str(of)
