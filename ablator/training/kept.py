"""Kept weights: what is left of a finished trial's checkpoint for those who want to look at its model.

A kept file is a checkpoint (see `checkpoint.py`) whose state holds `model`, the weights behind the plain
metrics, and `average`, those behind the `ema_` metrics or None. Optimiser and curves are left out.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ablator.errors import StoreError
from ablator.training import checkpoint as checkpoints

_AVERAGED = "ema_"


def keep_weights(checkpoint: Path, to: Path, tag: str, steps: int) -> None:
    """Write the weights of a finished trial's last `checkpoint`, which is after so many optimiser steps,
    under the same tag; the checkpoint stays. Raises StoreError, also where there is none of that step: it
    could not be written, and an older one is not what was measured."""
    state = checkpoints.load(checkpoint, tag)
    if state is None or state["updates"] != steps:
        there = "is not there" if state is None else f"is of step {state['updates']}"
        raise StoreError(
            f"the weights of a finished trial cannot be kept: {checkpoint} {there}, and that of step {steps} "
            "could not be written; run again once the store has free space"
        )
    checkpoints.save(to, tag, {"model": state["model"], "average": state["average"]})


def kept_weights(path: Path, tag: str, metric: str) -> dict[str, Tensor] | None:
    """The state dict that `metric` was measured with, on CPU: the weight average for `ema_` metrics. None
    where nothing was kept. Raises StoreError for a file that is damaged or another trial's, or that has no
    average where one is asked for."""
    state = checkpoints.load(path, tag)
    if state is None:
        return None
    found: dict[str, Tensor] | None = state["average" if metric.startswith(_AVERAGED) else "model"]
    if found is None:
        raise StoreError(
            f"{path} holds no weight average for the metric {metric!r}: train.ema_decay is null in this "
            "trial; use a metric without ema_, or set train.ema_decay"
        )
    return found
