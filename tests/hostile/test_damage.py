"""Chance: files of a store that are cut short at any length, or have one bit changed, anywhere.

Whatever it is, it is named, or it is as if the file were not there; nothing that is read is another number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablator.contracts.events import Ticket
from ablator.contracts.record import Record, Retry
from ablator.errors import StoreError
from ablator.results.journal import Journal, Sample
from ablator.results.leases import Leases
from ablator.results.outbox import MirrorTrial, Outbox
from ablator.results.store import Store
from ablator.results.tracking import target
from ablator.scheduling.tickets import read_ticket, write_ticket

ID = "3f" * 32
RECORD = Record(
    identity=ID,
    status="completed",
    spec={"seed": 3, "train": {"lr": 0.001}},
    metrics={"top1": 81.25},
    curves=({"epoch": 1.0, "top1": 80.0},),
    notes=("it is small",),
    attempts=2,
    retries=(Retry(ended="hung", when=1.5, epoch=1),),
)
TRIAL = MirrorTrial(identity=ID, label="n = 4", arm="n = 4", seed=3, changes={"moto.n": 4}, record=RECORD)
TICKET = Ticket(identity=ID, spec=RECORD.spec, label="n = 4", seed=3)


def hurt(content: bytes) -> Iterator[bytes]:
    """Every way: each length, and each bit."""
    for length in range(len(content)):
        yield content[:length]
    for at in range(len(content)):
        for bit in range(8):
            yield content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def unless_damaged(read: Callable[[], Any], path: Path) -> Any:
    """What is read; None where the damage is named, with the file."""
    try:
        return read()
    except StoreError as error:
        said = str(error)
    assert str(path) in said
    return None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_record(store: Store, status: str) -> None:
    record = RECORD
    if status == "failed":
        record = Record(identity=ID, status="failed", spec=RECORD.spec, error="it burst", attempts=4)
    store.ledger.commit(record)
    read = store.ledger.get if status == "completed" else store.ledger.failure
    (path,) = (store.root / "ledger").rglob(f"{ID}.json")
    for content in hurt(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="damaged record") as error:
            read(ID)
        assert str(path) in str(error.value)
    store.ledger.repair([ID])
    assert read(ID) is None, "the next run trains it again"
    assert store.ledger.commit(record)
    assert read(ID) == record


def test_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "search.jsonl")
    samples = [Sample(sample=n, point={"lr": 0.1 * n}, identities=(ID,)) for n in range(3)]
    for sample in samples:
        journal.append(sample)
    for content in hurt(journal.path.read_bytes()):
        journal.path.write_bytes(content)
        read = unless_damaged(journal.read, journal.path)
        assert read is None or read == samples[: len(read)], "what was drawn, from the first on"


def test_an_entry_of_the_outbox(store: Store) -> None:
    outbox = Outbox(store, target(store, "off"), "tiny")
    outbox.put_trial(TRIAL)
    path = outbox.folder / f"{ID}.json"
    whole = outbox.read(ID)
    assert whole is not None
    for content in hurt(path.read_bytes()):
        path.write_bytes(content)
        read = unless_damaged(lambda: outbox.read(ID), path)
        # Where the name of the checksum is what was hit there is one key more, and all others are whole.
        assert read is None or {key: read[key] for key in whole} == whole
    assert outbox.put_trial(TRIAL), "the next run writes it anew"
    assert outbox.read(ID) == whole


def test_what_mlflow_has(store: Store) -> None:
    outbox = Outbox(store, target(store, "http://127.0.0.1:1"), "tiny")
    outbox.put_trial(TRIAL)
    entry = outbox.read(ID)
    assert entry is not None
    outbox.mark_sent(ID, entry, "run-7")
    (path,) = store.sent.rglob("tiny.jsonl")
    for content in hurt(path.read_bytes()):
        path.write_bytes(content)
        again = Outbox(store, outbox.target, "tiny")
        known = again.sent.get(ID) == outbox.sent[ID]
        assert known or not again.sent
        assert known or again.doubtful or not content.strip(), "then its run is looked for by its tags"


def test_a_ticket(store: Store) -> None:
    write_ticket(store, TICKET)
    path = Path(str(store.ticket(ID)))
    whole = read_ticket(store, ID)
    for content in hurt(path.read_bytes()):
        path.write_bytes(content)
        assert unless_damaged(lambda: read_ticket(store, ID), path) in (None, whole)


def test_a_lease(store: Store) -> None:
    with Leases(store) as mine:
        assert mine.take("trial")
        files = [path for path in (store.root / "leases").rglob("*") if path.is_file()]
        for path in files:
            content = path.read_bytes()
            for damaged in list(hurt(content))[:: max(1, len(content) // 2)]:
                path.write_bytes(damaged)
                with Leases(store, expiry=0.0) as other:
                    # Two runs may train the same trial then; the ledger takes the first.
                    assert other.take("trial") in (True, False)
                    assert isinstance(other.holder("trial"), str)
            path.write_bytes(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), length=st.integers(1, 64), noise=st.binary(min_size=64))
def test_noise_in_the_middle_of_a_record(tmp_path: Path, place: float, length: int, noise: bytes) -> None:
    store = Store(tmp_path)
    store.ledger.repair([ID])
    store.ledger.commit(RECORD)
    (path,) = (store.root / "ledger" / ID[:2]).glob(f"{ID}.json")
    content = path.read_bytes()
    at = int(place * len(content))
    changed = content[:at] + noise[:length] + content[at + length :]
    path.write_bytes(changed)
    if changed == content:
        assert store.ledger.get(ID) == RECORD
        return
    with pytest.raises(StoreError, match="damaged record"):
        store.ledger.get(ID)
