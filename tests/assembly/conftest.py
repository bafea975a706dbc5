"""Tiny specs over the digits, resolved as a study's would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ablator import data
from ablator.contracts.protocols import DataInfo
from ablator.plan.spec import TrialSpec, resolve
from ablator.study.overlay import apply, flatten

TINY: dict[str, dict[str, Any]] = {
    "vit": {
        "name": "deit_tiny_patch16_224",
        "options": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
        "drop_path": 0.1,
    },
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "options": {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "drop_path": 0.1,
    },
    "pvt_v2": {
        "name": "pvt_v2_b0",
        "options": {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 2, 4]},
        "drop_path": 0.1,
    },
    "t2t_vit": {
        "name": "t2t_vit_14",
        "options": {"strides": [2, 2, 2], "token_dim": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
        "drop_path": 0.1,
    },
    "pvt": {
        "name": "pvt_small",
        "options": {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 2, 4]},
        "drop_path": 0.1,
    },
}


@pytest.fixture(params=sorted(TINY))
def family(request: pytest.FixtureRequest) -> str:
    """Every backbone family."""
    return str(request.param)


@pytest.fixture
def spec_of() -> Callable[..., TrialSpec]:
    """`spec_of(family, **{"moto.n": 4})`: a tiny spec of that family with dotted changes."""

    def make(family: str = "vit", changes: dict[str, Any] | None = None, seed: int = 0) -> TrialSpec:
        document = {
            "seed": seed,
            "data": {"name": "digits", "image_size": 32},
            "model": TINY[family],
            "train": {"batch_size": 32, "mixup": 0.0, "cutmix": 0.0},
        }
        return resolve(apply(document, flatten(changes or {}, "test"), "test"), "test")

    return make


@pytest.fixture(scope="session")
def info() -> DataInfo:
    """The digits' description."""
    from ablator.data.settings import DataSettings

    return data.info(DataSettings(image_size=32))
