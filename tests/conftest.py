"""Small real studies over real images, and a way to run them as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# One small transformer over the digits; a trial takes a second or two on one core.
RECIPE: dict[str, Any] = {
    "data": {"name": "digits", "image_size": 32, "fraction": 0.4},
    "model": {
        "name": "deit_tiny_patch16_224",
        "drop_path": 0.1,
        "options": {
            "patch_size": 8,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "weight_init": "jax",
        },
    },
    "augment": {
        "crop": "pad",
        "flip": 0.0,
        "rand_augment": None,
        "color_jitter": 0.0,
        "erase": 0.0,
        "repeats": 1,
        "eval_crop": 1.0,
    },
    "train": {
        "epochs": 3,
        "batch_size": 32,
        "lr": 2e-3,
        "lr_batch": None,
        "warmup_epochs": 1,
        "mixup": 0.0,
        "cutmix": 0.0,
    },
}


class Outcome:
    """A finished command line."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def json(self) -> dict[str, Any]:
        """The last line of standard output."""
        found: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return found


def ablator(*arguments: object, timeout: float = 300, **environment: str) -> Outcome:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ablator", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )
    return Outcome(done)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    """`cli("run", path, "--json")` runs the command line as a user does."""
    return ablator


@pytest.fixture(scope="session")
def write_study() -> Callable[..., Path]:
    """`write_study(folder, name, arms, **rest)` writes a small study file and returns its path."""

    def write(folder: Path, name: str, arms: Sequence[dict[str, Any]], **rest: Any) -> Path:
        document = {
            "study": name,
            "source": "a test",
            "question": "Does it run?",
            "base": RECIPE,
            "baseline": {"label": "DeiT"},
            "arms": list(arms),
            "seeds": 2,
            **rest,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write
