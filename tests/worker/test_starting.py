"""Trials that start from what another one trained, in this process."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablator.contracts.protocols import Progress, World
from ablator.contracts.record import Record
from ablator.needs import needs_of, starts_of
from ablator.plan.planning import plan as make_plan
from ablator.plan.trial import Trial, ticket_of
from ablator.results.store import Store
from ablator.study.loading import load
from ablator.training.kept import kept_weights
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def tuned(tmp_path: Path, write_study: Callable[..., Path]) -> Callable[..., Trial]:
    """`tuned(**set)`: MoTo's trial of `below` that starts from MoTo's of `above`, whose `set` is given."""

    def make(task: str = "classification", **above: Any) -> Trial:
        moto = {"label": "MoTo", "set": {"moto.n": 4, "moto.blocks": "0:1"}}
        write_study(tmp_path, "above", [moto], seeds=1, set=above)
        changes = {"model.weights": "study:above.yaml", "train.epochs": 1}
        path = write_study(tmp_path, "below", [moto], seeds=1, task=task, set=changes)
        return make_plan(load(path), fingerprint=lambda _: "data").trials[1]

    return make


def upstream(trial: Trial) -> Trial:
    assert trial.start is not None
    return trial.start.trial


def run(store: Store, trial: Trial, *, keep: bool = False) -> Record:
    runner = TrialRunner(store, Execution(), world=World(), device=torch.device("cpu"))
    ticket = ticket_of(trial, keep_weights=keep)
    record = runner.run(ticket, attempts=1, on_progress=lambda progress: True)
    assert record is not None
    return record


@pytest.mark.parametrize("task", ["classification", "linear_probe"])
def test_a_trial_starts_from_what_the_other_one_trained(
    tuned: Callable[..., Trial], store: Store, task: str
) -> None:
    trial = tuned(task)
    first = run(store, upstream(trial), keep=True)
    record = run(store, trial)
    assert record.status == "completed", record.error
    assert "starts from the trial of the same row and seed of above" in record.notes
    assert not store.weights(trial.identity).exists(), "only what is needed is kept"
    if task == "classification":
        fresh = first.curves[0]["train_loss"]
        assert record.curves[0]["train_loss"] < fresh, "it goes on and does not begin"


def test_a_probe_does_not_touch_the_weights_that_it_starts_from(
    tuned: Callable[..., Trial], store: Store
) -> None:
    trial = tuned("linear_probe")
    run(store, upstream(trial), keep=True)
    identity = upstream(trial).identity
    before = kept_weights(store.weights(identity), identity, "top1")
    run(store, trial)
    after = kept_weights(store.weights(identity), identity, "top1")
    assert before is not None
    assert after is not None
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any("appended" in name for name in before), "MoTo's weights are among them"


def test_a_recorded_trial_is_trained_again_for_its_weights_and_keeps_its_record(
    tuned: Callable[..., Trial], store: Store
) -> None:
    above = upstream(tuned())
    first = run(store, above)
    assert not store.weights(above.identity).exists()
    again = run(store, above, keep=True)
    assert again.finished > first.finished, "it was trained again"
    assert again.metrics == first.metrics
    assert store.ledger.get(above.identity) == first, "the first record counts"
    assert store.weights(above.identity).exists()
    assert not store.checkpoint(above.identity).exists()

    def never(progress: Progress) -> bool:
        raise AssertionError(f"epoch {progress.epoch} of a trial that has all that is asked for")

    runner = TrialRunner(store, Execution(), world=World(), device=torch.device("cpu"))
    assert runner.run(ticket_of(above, keep_weights=True), attempts=1, on_progress=never) == first


@pytest.mark.parametrize(
    ("above", "left", "says"),
    [
        ({}, False, r"MoTo · seed 0 of above, which is not trained"),
        ({}, True, r"MoTo · seed 0 of above, which left no weights at .*\.pt; run again"),
        ({"train.lr": 1e30}, True, r"MoTo · seed 0 of above, which diverged: .*(nan|inf)"),
        ({"data.root": "/nowhere", "data.name": "folder"}, True, r"of above, which failed: .*nowhere"),
    ],
    ids=["missing", "not kept", "diverged", "failed"],
)
def test_a_trial_without_its_start_fails_and_says_what_became_of_it(
    tuned: Callable[..., Trial], store: Store, above: dict[str, Any], left: bool, says: str
) -> None:
    trial = tuned(**above)
    if left:
        run(store, upstream(trial))
    record = run(store, trial)
    assert record.status == "failed"
    assert record.error is not None
    assert re.search(says, record.error), record.error
    assert "Traceback" not in record.error


def test_damaged_weights_are_named(tuned: Callable[..., Trial], store: Store) -> None:
    trial = tuned()
    run(store, upstream(trial), keep=True)
    path = store.weights(upstream(trial).identity)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    record = run(store, trial)
    assert record.status == "failed"
    assert str(path) in (record.error or "")


def test_what_is_needed_follows_the_store(tuned: Callable[..., Trial], store: Store) -> None:
    trial = tuned()
    starts = starts_of([trial])
    assert starts.keys() == {upstream(trial).identity}

    def state() -> list[bool]:
        return [need.recorded for need in needs_of(starts.values(), store).values()]

    assert state() == [False]
    run(store, upstream(trial))
    assert state() == [True]
    run(store, upstream(trial), keep=True)
    assert state() == []
    diverging = tuned(**{"train.lr": 1e30})
    run(store, upstream(diverging))
    assert needs_of(starts_of([diverging]).values(), store) == {}, "training it again would not help"
