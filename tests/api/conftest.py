"""One real run that many tests look at: every state a trial can end in, on a folder of mixed images."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablator import api
from ablator.results.store import Store
from ablator.watching import State, state_of


@dataclass(frozen=True)
class FirstRun:
    """A study that was run once."""

    study: Path
    store: Path
    images: Path
    outcome: Any
    seen: tuple[State, ...]
    """What `ablator.status` said while it ran, several times a second."""
    stale: bool
    """Whether the driver was taken for dead at any of these moments."""


def draw_images(root: Path, per_class: int = 24) -> Path:
    """An ImageFolder tree: stripes of two directions and plain noise, grey and colour, of many sizes."""
    rng = np.random.default_rng(0)
    for name in ("across", "down", "noise"):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            height, width = rng.integers(20, 60, size=2)
            image = rng.integers(0, 60, size=(height, width))
            if name == "across":
                image[(np.arange(height) // 4) % 2 == 0] += 160
            elif name == "down":
                image[:, (np.arange(width) // 4) % 2 == 0] += 160
            picture = Image.fromarray(image.astype(np.uint8))
            if i % 2:
                picture = picture.convert("RGB")
            picture.save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def first_run(
    tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any], write_study: Callable[..., Path]
) -> FirstRun:
    """DeiT and MoTo complete; one arm diverges; one cannot read its data."""
    folder = tmp_path_factory.mktemp("first")
    images = draw_images(folder / "images")
    broken = draw_images(folder / "broken")
    for name in ("3.png", "5.png", "8.png"):
        (broken / "across" / name).write_bytes(b"\x89PNG but no more")
    data = {"data.name": "folder", "data.root": str(images), "data.fraction": 1.0}
    study = write_study(
        folder,
        "states",
        [
            {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}},
            {"label": "too fast", "set": {"train.lr": 1e30}},
            {"label": "unreadable", "set": {"data.root": str(broken)}},
        ],
        set={**data, "train.batch_size": 16},
        report={"reported": {"baseline": 79.8, "n = 2": 80.8, "too fast": "NaN"}},
    )
    store = folder / "store"
    os.makedirs(store)
    planned, opened = api.plan(study), Store.open(store)
    seen: list[State] = []
    stale: list[bool] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.3):
            seen.append(state := state_of(planned, None, (), opened))
            stale.append(state.live is not None and state.live.stale())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        outcome = cli("run", study, "--store", store, "--json")
    finally:
        over.set()
        looking.join()
    return FirstRun(
        study=study, store=store, images=images, outcome=outcome, seen=tuple(seen), stale=any(stale)
    )
