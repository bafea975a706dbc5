from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.contracts.record import Record
from ablator.results.outbox import MirrorTrial
from ablator.results.store import Store

MakeRecord = Callable[..., Record]
MakeTrial = Callable[..., MirrorTrial]


@pytest.fixture
def make_record() -> MakeRecord:
    """Records that differ by their number: `make_record(3, status="diverged", metrics={}, error="…")`."""

    def make(number: int, **changes: Any) -> Record:
        fields: dict[str, Any] = {
            "identity": hashlib.sha256(str(number).encode()).hexdigest(),
            "status": "completed",
            "spec": {
                "task": "classification",
                "seed": number,
                "model": {"name": "vit", "options": {"depth": 2}},
            },
            "metrics": {"top1": 80.0 + number},
            "curves": (
                {"epoch": 1, "train_loss": 2.5, "top1": 60.0},
                {"epoch": 2, "train_loss": 1.5, "top1": 81.0},
            ),
            "cost": {"step_ms": 3.5},
            "size": {"parameters": 1000.0},
            "versions": {"python": "3.11", "git_commit": "c" * 40},
            "started": 1_700_000_000.0,
            "finished": 1_700_000_010.0,
        }
        return Record(**{**fields, **changes})

    return make


@pytest.fixture
def make_trial(make_record: MakeRecord) -> MakeTrial:
    """What the mirror is told of such a record: `make_trial(3, arm="n = 2")`."""

    def make(number: int, arm: str = "n = 4", changes: Any = None, **record: Any) -> MirrorTrial:
        made = make_record(number, **record)
        return MirrorTrial(
            identity=made.identity,
            label=f"{arm} · seed {number}",
            arm=arm,
            seed=number,
            changes=changes or {"moto.n": 4},
            record=made,
        )

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")
