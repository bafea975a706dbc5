"""Settings of the `model` section."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from annotated_types import Ge, Lt

from ablator.contracts.settings import settings


@settings
class ModelSettings:
    """The backbone."""

    name: str = "deit_small_patch16_224"
    """A model name of timm, of a family that has seams here."""
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Stochastic depth: largest chance that a block's branch is dropped."""
    weights: str | None = None
    """What the backbone starts from: a checkpoint file, such as published weights, or study:FILE#ROW, the
    trained trial of another study's row with the same seed; null: random weights."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of the model's constructor, such as embed_dim, depth and num_heads."""
