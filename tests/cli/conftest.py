"""A study of six trials whose records are written by hand, so that every command runs without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ablator import api
from ablator.cli import diff, explaining, figures, studies, upkeep  # noqa: F401 (they add their commands)
from ablator.cli.app import app
from ablator.contracts.record import Record
from ablator.plan.trial import Trial
from ablator.results.store import Store

STUDY = """
study: tiny
source: "a book, Table 1"
question: Does it help?
baseline: {label: base}
arms:
  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}
seeds: 2
profiles: {laptop: {set: {train.epochs: 8}, seeds: 2}, mine: {seeds: 1}}
report: {metric: top1, reported: {baseline: 79.8, n = 2: 80.8}}
"""

Ablator = Callable[..., Result]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture
def ablator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ablator:
    """Run the command line in this process, in an empty folder and with a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("ABLATOR_OFFLINE", "1")
    monkeypatch.delenv("ABLATOR_STORE", raising=False)

    def invoke(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="ablator")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


def record_of(trial: Trial, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "identity": trial.identity,
        "status": "completed",
        "spec": trial.spec.to_json(),
        "metrics": {"top1": 80.0 + trial.arm + 0.1 * trial.seed**2},
        "curves": ({"epoch": 1.0, "train_loss": 1.0, "top1": 70.0},),
        "cost": {"train_seconds": 18.0, "eval_seconds": 2.0, "steps": 360.0, "step_ms": 40.0},
        "size": {"parameters": 158090.0, "training_parameters": 158090.0, "gmacs": 0.0114},
        "finished": 1_700_000_000.0,
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def fill(study: Path, tmp_path: Path) -> Callable[..., Path]:
    """`fill()` commits a record for every trial under --profile laptop and returns the store;
    `fill({("n = 2", 1): {"status": "failed", ...}, ("base", 0): None})` changes or leaves out some."""

    def make(changes: dict[tuple[str, int], dict[str, Any] | None] | None = None) -> Path:
        folder = tmp_path / "store"
        fill_store(Store.open(folder), study, changes)
        return folder

    return make


def fill_store(
    store: Store, study: Path, changes: dict[tuple[str, int], dict[str, Any] | None] | None
) -> None:
    for trial in api.plan(study, profile="laptop").trials:
        change = (changes or {}).get((trial.label, trial.seed), {})
        if change is not None:
            store.ledger.commit(record_of(trial, **change))


@pytest.fixture
def fill_s3(study: Path, s3_store: str) -> Callable[[], str]:
    """The same in an object store; returns its address."""

    def make() -> str:
        fill_store(Store.open(s3_store), study, None)
        return s3_store

    return make
