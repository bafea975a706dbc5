"""Tiny models of every family, and the memory that a call takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import ablator.backbones  # noqa: F401  (registers the families)
from ablator.backbones.families import build
from ablator.backbones.settings import ModelSettings
from ablator.contracts.protocols import Seams

TINY: dict[str, ModelSettings] = {
    "vit": ModelSettings(
        name="deit_tiny_patch16_224",
        drop_path=0.2,
        options={"patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2},
    ),
    "swin": ModelSettings(
        name="swin_tiny_patch4_window7_224",
        drop_path=0.2,
        options={"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 4},
    ),
    "pvt_v2": ModelSettings(
        name="pvt_v2_b0",
        drop_path=0.2,
        options={"depths": [1, 1, 2, 1], "embed_dims": [16, 16, 32, 32], "num_heads": [1, 1, 2, 2]},
    ),
    "t2t_vit": ModelSettings(
        name="t2t_vit_14",
        drop_path=0.2,
        options={"strides": [2, 2, 1], "token_dim": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    ),
    "pvt": ModelSettings(
        name="pvt_small",
        drop_path=0.2,
        options={"depths": [1, 1, 2, 1], "embed_dims": [16, 16, 32, 32], "num_heads": [1, 1, 2, 2]},
    ),
}

Build = Callable[..., tuple[nn.Module, Seams]]


@pytest.fixture
def tiny() -> Build:
    """A tiny model of a family, from seed 0, for 64-pixel images and 5 classes."""

    def make(family: str, **changes: Any) -> tuple[nn.Module, Seams]:
        torch.manual_seed(0)
        settings = TINY[family]
        options = {**settings.options, **changes}
        return build(
            ModelSettings(name=settings.name, drop_path=settings.drop_path, options=options),
            num_classes=5,
            image_size=64,
        )

    return make


@pytest.fixture
def peak_bytes() -> Callable[[Callable[[], object]], int]:
    """Most bytes that CPU's allocator handed out at one time during a call, what it returns included."""

    def measure(call: Callable[[], object]) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            kept = call()
        events = recorded.profiler.kineto_results.events()
        changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
        live = peak = 0
        for _, change in changes:
            live += change
            peak = max(peak, live)
        del kept
        return peak

    return measure
