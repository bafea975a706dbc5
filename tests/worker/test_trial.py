"""One spec to one record, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablator.contracts.events import Ticket
from ablator.contracts.protocols import Progress, World
from ablator.plan.planning import Plan
from ablator.plan.planning import plan as make_plan
from ablator.plan.trial import ticket_of
from ablator.results.store import Store
from ablator.study.loading import load
from ablator.training.checkpoint import save
from ablator.training.kept import kept_weights
from ablator.worker.depot import CheckpointDepot
from ablator.worker.execution import Execution
from ablator.worker.records import failed_record, pruned_record
from ablator.worker.trial import TrialRunner


@pytest.fixture
def planned(tmp_path: Path, write_study: Callable[..., Path]) -> Callable[..., Plan]:
    """`planned(**set)`: a baseline and a MoTo arm, one seed."""

    def make(**changes: Any) -> Plan:
        path = write_study(tmp_path, "one", [{"label": "MoTo", "set": {"moto.n": 4}}], seeds=1, set=changes)
        return make_plan(load(path), fingerprint=lambda _: "data")

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def runner(store: Store) -> TrialRunner:
    return TrialRunner(store, Execution(), world=World(), device=torch.device("cpu"))


def go_on(_: Progress) -> bool:
    return True


def test_a_trial_leaves_a_committed_record_and_no_checkpoint(
    planned: Callable[..., Plan], store: Store
) -> None:
    ticket = ticket_of(planned().trials[1])
    record = runner(store).run(ticket, attempts=2, on_progress=go_on)
    assert record is not None
    assert record.status == "completed"
    assert record.attempts == 2
    assert store.ledger.get(ticket.identity) == record
    assert not store.checkpoint(ticket.identity).exists()
    assert record.size["parameters"] > 0
    assert record.versions["threads"] == str(torch.get_num_threads())


def test_a_finished_trial_is_answered_without_training(planned: Callable[..., Plan], store: Store) -> None:
    ticket = ticket_of(planned().trials[0])
    first = runner(store).run(ticket, attempts=1, on_progress=go_on)

    def never(progress: Progress) -> bool:
        raise AssertionError(f"epoch {progress.epoch} of a finished trial")

    assert runner(store).run(ticket, attempts=1, on_progress=never) == first


def test_trials_in_one_process_do_not_touch_each_other(planned: Callable[..., Plan], tmp_path: Path) -> None:
    baseline, moto = (ticket_of(trial) for trial in planned().trials)

    def result(folder: str, *tickets: Ticket) -> dict[str, float]:
        worker = runner(Store.open(tmp_path / folder))
        records = [worker.run(ticket, attempts=1, on_progress=go_on) for ticket in tickets]
        assert records[-1] is not None
        return records[-1].metrics

    assert result("alone", moto) == result("after another", baseline, moto)


def test_a_stopped_trial_has_no_record_and_goes_on_from_its_checkpoint(
    planned: Callable[..., Plan], store: Store, tmp_path: Path
) -> None:
    ticket = ticket_of(planned().trials[1])
    assert runner(store).run(ticket, attempts=1, on_progress=lambda p: p.epoch < 2) is None
    assert store.ledger.get(ticket.identity) is None
    assert store.checkpoint(ticket.identity).exists()
    epochs: list[int] = []
    resumed = runner(store).run(ticket, attempts=2, on_progress=lambda p: not epochs.append(p.epoch))
    undisturbed = runner(Store.open(tmp_path / "other")).run(ticket, attempts=1, on_progress=go_on)
    assert resumed is not None
    assert undisturbed is not None
    assert min(epochs) >= 2, "the first epoch is not trained again"
    assert resumed.curves == undisturbed.curves


def test_a_trial_goes_on_on_another_machine_over_an_object_store(
    planned: Callable[..., Plan], s3_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = ticket_of(planned().trials[1], keep_weights=True)
    assert runner(Store(s3_store)).run(ticket, attempts=1, on_progress=lambda p: p.epoch < 2) is None
    monkeypatch.setenv("ABLATOR_CACHE", str(tmp_path / "another machine"))
    there = Store(s3_store)
    epochs: list[int] = []
    resumed = runner(there).run(ticket, attempts=2, on_progress=lambda p: not epochs.append(p.epoch))
    local = Store.open(tmp_path / "folder")
    undisturbed = runner(local).run(ticket, attempts=1, on_progress=go_on)
    assert resumed is not None
    assert undisturbed is not None
    assert min(epochs) >= 2, "the first epoch is not trained again"
    assert (resumed.curves, resumed.metrics) == (undisturbed.curves, undisturbed.metrics)
    assert Store(s3_store).ledger.get(ticket.identity) == resumed
    assert there.files.names("checkpoints") == []
    kept = [kept_weights(s.weights(ticket.identity), ticket.identity, "top1") for s in (there, local)]
    assert kept[0] is not None
    assert kept[1] is not None
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[1])
    assert there.has(there.weights(ticket.identity))


def test_a_checkpoint_that_cannot_be_put_into_the_store_costs_a_note_and_no_trial(
    tmp_path: Path, s3_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablator.worker.depot._PATIENCE", 0.0)
    away = Store(s3_store.replace("127.0.0.1:", "127.0.0.1:1&region="))
    path = away.checkpoint("ab" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"state")
    depot = CheckpointDepot(away)
    assert depot.notes() == ()
    depot.publish(path)
    depot.publish(path)
    (note,) = depot.notes()
    assert "2 checkpoints could not be put into the store" in note
    assert "nothing answers there" in note
    assert path.exists(), "this machine still has it"


def test_an_exception_is_a_failed_record_with_its_place(planned: Callable[..., Plan], store: Store) -> None:
    ticket = ticket_of(planned().trials[0])

    def burst(_: Progress) -> bool:
        raise RuntimeError("the cat sat on the power switch")

    record = runner(store).run(ticket, attempts=1, on_progress=burst)
    assert record is not None
    assert record.status == "failed"
    assert "power switch" in (record.error or "")
    assert store.ledger.get(ticket.identity) is None
    assert store.ledger.failure(ticket.identity) == record


def test_a_damaged_checkpoint_is_set_aside_and_the_record_says_so(
    planned: Callable[..., Plan], store: Store
) -> None:
    ticket = ticket_of(planned().trials[0])
    assert runner(store).run(ticket, attempts=1, on_progress=lambda p: p.epoch < 2) is None
    path = store.checkpoint(ticket.identity)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    epochs: list[int] = []
    record = runner(store).run(ticket, attempts=2, on_progress=lambda p: not epochs.append(p.epoch))
    assert record is not None
    assert record.status == "completed"
    assert epochs == [1, 2, 3], "from its beginning"
    (note,) = [note for note in record.incidents if "damaged" in note]
    assert (
        note == "its checkpoint was damaged once and set aside, and it was trained from its beginning again"
    )
    assert (store.root / "checkpoints" / "quarantine" / f"{ticket.identity}.pt").read_bytes() == damaged


def test_another_trials_checkpoint_fails_the_trial_by_name(
    planned: Callable[..., Plan], store: Store
) -> None:
    ticket = ticket_of(planned().trials[0])
    path = store.checkpoint(ticket.identity)
    save(path, "another", {"epoch": 1})
    record = runner(store).run(ticket, attempts=1, on_progress=go_on)
    assert record is not None
    assert record.status == "failed"
    assert str(path) in (record.error or "")
    assert "belongs to another trial" in (record.error or "")


def test_a_divergence_is_a_result(planned: Callable[..., Plan], store: Store) -> None:
    ticket = ticket_of(planned(**{"train.lr": 1e30}).trials[0])
    record = runner(store).run(ticket, attempts=1, on_progress=go_on)
    assert record is not None
    assert record.status == "diverged"
    assert store.ledger.get(ticket.identity) == record


def test_records_made_for_a_worker_that_cannot_say_why(planned: Callable[..., Plan]) -> None:
    ticket = ticket_of(planned().trials[0])
    lost = failed_record(ticket, "its worker died 4 times", attempts=4, started=1.0)
    assert (lost.status, lost.attempts, lost.error) == ("failed", 4, "its worker died 4 times")
    pruned = pruned_record(ticket, {"epoch": 2.0, "lr": 0.1, "top1": 40.0}, started=1.0)
    assert pruned.metrics == {"top1": 40.0}
    assert pruned.curves[0]["epoch"] == 2
