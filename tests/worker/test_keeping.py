"""A disk that is full, for a while or for good: a real one of two MiB."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from ablator.contracts.events import Ticket
from ablator.contracts.protocols import Progress, World
from ablator.contracts.record import Record
from ablator.plan.planning import plan as make_plan
from ablator.plan.trial import ticket_of
from ablator.results.store import Store
from ablator.study.loading import load
from ablator.training.kept import keep_weights, kept_weights
from ablator.worker import keeping
from ablator.worker.execution import Execution
from ablator.worker.keeping import NotKeptError
from ablator.worker.trial import TrialRunner


class Disk:
    """A file system that can be filled to the last byte."""

    def __init__(self, root: Path) -> None:
        self.root, self._filler = root, root / "filler"

    def fill(self) -> None:
        with open(self._filler, "ab", buffering=0) as file:
            for size in (2**16, 2**12, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(root)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small file system, and not in every container")
    yield Disk(root)
    subprocess.run(["umount", str(root)], check=True)


@pytest.fixture
def ticket(tmp_path: Path, write_study: Callable[..., Path]) -> Ticket:
    study = write_study(tmp_path, "one", [{"label": "MoTo", "set": {"moto.n": 4}}], seeds=1)
    return ticket_of(make_plan(load(study), fingerprint=lambda _: "data").trials[0])


@pytest.fixture(autouse=True)
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_WAITS_S", (0.05, 0.05))


def run(
    store: Store, ticket: Ticket, on_progress: Callable[[Progress], bool], *, keep: bool = False
) -> Record | None:
    execution = Execution(stall_seconds=0, keep_weights=keep)
    runner = TrialRunner(store, execution, world=World(), device=torch.device("cpu"))
    return runner.run(ticket, attempts=1, on_progress=on_progress)


def go_on(_: Progress) -> bool:
    return True


def test_a_trial_goes_on_without_checkpoints_and_says_so(disk: Disk, ticket: Ticket, tmp_path: Path) -> None:
    plain = run(Store.open(tmp_path / "store"), ticket, go_on)
    store = Store.open(disk.root / "store")

    def full_for_an_epoch(progress: Progress) -> bool:
        disk.fill() if progress.epoch == 1 else disk.free() if progress.epoch == 2 else None
        return True

    record = run(store, ticket, full_for_an_epoch)
    assert plain is not None
    assert record is not None
    assert record.curves == plain.curves
    assert "one checkpoint could not be written ([Errno 28] No space left on device)" in record.incidents
    assert store.ledger.get(ticket.identity) == record
    assert not list(disk.root.rglob("*.tmp"))


def test_a_record_that_finds_no_place_is_kept_by_a_later_run_with_nothing_lost(
    disk: Disk, ticket: Ticket, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(disk.root / "store")

    def full_at_the_end(progress: Progress) -> bool:
        if progress.epoch == progress.epochs:
            disk.fill()
        return True

    with pytest.raises(NotKeptError, match=r"cannot keep a finished trial's record at .*No space left"):
        run(store, ticket, full_at_the_end)
    assert [message.endswith("tried again in 0.05 s") for message in caplog.messages] == [True, True]
    assert store.ledger.get(ticket.identity) is None
    assert store.ledger.identities() == set()
    assert not list(store.ledger.root.rglob(".writing-*")), "no half file is left"
    disk.free()
    epochs: list[int] = []
    record = run(store, ticket, lambda progress: not epochs.append(progress.epoch))
    assert record is not None
    assert record.status == "completed"
    assert epochs == [3], "nothing is trained again"
    assert store.ledger.get(ticket.identity) == record


class Tidier(logging.Handler):
    """Makes room when it hears that there is none."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk

    def emit(self, record: logging.LogRecord) -> None:
        self._disk.free()


def test_a_record_is_kept_as_soon_as_there_is_space(disk: Disk, ticket: Ticket) -> None:
    store = Store.open(disk.root / "store")

    def full_at_the_end(progress: Progress) -> bool:
        if progress.epoch == progress.epochs:
            disk.fill()
        return True

    tidier, log = Tidier(disk), logging.getLogger("ablator.worker")
    log.addHandler(tidier)
    try:
        record = run(store, ticket, full_at_the_end)
    finally:
        log.removeHandler(tidier)
    assert record is not None
    assert store.ledger.get(ticket.identity) == record


def test_weights_of_an_earlier_epoch_are_not_kept_as_the_final_ones(disk: Disk, ticket: Ticket) -> None:
    store = Store.open(disk.root / "store")

    def full_for_the_last_checkpoint(progress: Progress) -> bool:
        disk.fill() if progress.epoch == 2 else disk.free() if progress.epoch == 3 else None
        return True

    with pytest.raises(NotKeptError, match=r"is of step .* and that of step .* could not be written"):
        run(store, ticket, full_for_the_last_checkpoint, keep=True)
    assert store.ledger.get(ticket.identity) is None
    record = run(store, ticket, go_on, keep=True)
    assert record is not None
    assert kept_weights(store.weights(ticket.identity), ticket.identity, "top1") is not None


def test_where_there_is_no_checkpoint_no_weights_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not there, and that of step 5"):
        keep_weights(tmp_path / "last.pt", tmp_path / "kept.pt", "tag", 5)
