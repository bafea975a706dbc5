"""Leases: one run at a time trains a trial, and what a dead run had is free at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ablator.errors import StoreError
from ablator.results.leases import Leases
from ablator.results.store import Store

NAME = "ab" * 32

HOLDER = """
import sys, time
from ablator.results.leases import Leases
from ablator.results.store import Store
with Leases(Store(sys.argv[1])) as leases:
    print(leases.take(sys.argv[2]), flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    named = tmp_path / "store" if request.param == "folder" else request.getfixturevalue("s3_store")
    return Store.open(named)


def hold(store: Store) -> subprocess.Popen[str]:
    """A process that has the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.uri, NAME], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "True\n"
    return process


def test_a_lease_has_one_owner_until_it_is_given_back(store: Store) -> None:
    with Leases(store) as first, Leases(store) as second:
        assert first.take(NAME)
        assert first.take(NAME), "who has it has it"
        assert not second.take(NAME)
        second.give_back(NAME)
        assert not second.take(NAME), "nobody gives back what another one has"
        assert str(os.getpid()) in second.holder(NAME)
        first.give_back(NAME)
        assert second.holder(NAME) == ""
        assert second.take(NAME)
        assert not first.take(NAME)


def test_the_end_of_a_run_gives_everything_back(store: Store) -> None:
    with Leases(store) as first:
        assert all(first.take(f"{number:064x}") for number in range(5))
    left = [*store.files.names("leases"), *store.files.names("claims")]
    assert [name for name in left if name != "leases/.lock"] == []


def test_what_a_killed_process_had_is_free_at_once(store: Store) -> None:
    process = hold(store)
    with Leases(store) as leases:
        assert not leases.take(NAME)
        assert f"process {process.pid} on " in leases.holder(NAME)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert leases.take(NAME)


def test_an_owner_on_another_machine_is_gone_when_it_gives_no_sign_of_life(store: Store) -> None:
    process = hold(store)
    try:
        (said,) = store.files.names("leases/owners")
        there = json.loads(store.files.read(said)) | {"machine": "another one", "pid": 1}
        # The owner's own thread beats every ten seconds; here its file is written instead.
        process.send_signal(signal.SIGSTOP)
        store.files.write(said, json.dumps(there).encode())
        patient, hasty = Leases(store), Leases(store, expiry=0.0)
        assert not patient.take(NAME)
        assert not hasty.take(NAME), "the first look begins the wait"
        store.files.write(said, json.dumps(there | {"beats": 2}).encode())
        assert not hasty.take(NAME), "a sign of life begins it anew"
        assert not patient.take(NAME)
        assert hasty.take(NAME)
        assert not patient.take(NAME), "the new owner lives"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"nobody"])
def test_a_lease_of_nobody_is_taken_over(tmp_path: Path, content: bytes) -> None:
    store = Store.open(tmp_path / "store")
    with Leases(store) as leases:
        assert leases.take("other")
        (store.root / "leases" / NAME).write_bytes(content)
        assert leases.take(NAME)


def test_of_many_that_take_over_at_once_one_does(store: Store) -> None:
    process = hold(store)
    process.kill()
    process.wait()
    each = [Leases(store) for _ in range(12)]
    start = threading.Barrier(len(each))
    taken: list[bool] = []

    def take(leases: Leases) -> None:
        start.wait()
        taken.append(leases.take(NAME))

    threads = [threading.Thread(target=take, args=(leases,)) for leases in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1


def test_names_stay_in_their_folder(store: Store) -> None:
    with Leases(store) as leases, pytest.raises(StoreError, match="lease is made of"):
        leases.take("../ledger/record")
