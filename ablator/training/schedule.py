"""The learning rate over a trial, one value per optimiser step: linear warmup, half a cosine, cooldown."""

from __future__ import annotations

from timm.scheduler import CosineLRScheduler
from torch.optim import Optimizer

from ablator.contracts.train import TrainSettings


def build_schedule(optimizer: Optimizer, settings: TrainSettings, steps_per_epoch: int) -> CosineLRScheduler:
    """timm's schedule in steps; `step_update(t)` sets the rate of step t = 0, 1, ... whatever ran before.

    With peak lr p, T steps in `epochs` (2 at least) and W warmup steps (arXiv 1608.03983, eq. 5, as in DeiT's
    recipe, where the cosine runs underneath the warmup):
    t < W: warmup_lr + t · (p − warmup_lr)/W; t < T: min_lr + (p − min_lr)/2 · (1 + cos(π t/T)); else: min_lr.
    """
    # timm warns of a cosine over one step; its only rate, at t = 0, is the same for any length.
    length = max(2, settings.epochs * steps_per_epoch)
    return CosineLRScheduler(
        optimizer,
        t_initial=length,
        lr_min=settings.min_lr,
        warmup_t=round(settings.warmup_epochs * steps_per_epoch),
        warmup_lr_init=settings.warmup_lr,
        t_in_epochs=False,
    )
