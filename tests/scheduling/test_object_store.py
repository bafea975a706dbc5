"""kill -9 of a run whose store is in an S3-compatible server, and what the same command makes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import ablator
from ablator.contracts.protocols import World
from ablator.plan.trial import ticket_of
from ablator.report.markdown import render_markdown
from ablator.results.store import Store
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner

pytestmark = pytest.mark.slow

# The machine of the tests may have another cluster.
OPTIONS = ("--slots", "1", "--address", "local")
SET = {"data.fraction": 1.0, "train.epochs": 5, "augment.flip": 0.1}


@pytest.fixture
def study(tmp_path: Path, write_study: Callable[..., Path]) -> Path:
    arms = [{"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 3]}}]
    return write_study(tmp_path, "remote", arms, set=SET)


def on_a_folder(study: Path, folder: Path) -> Store:
    """What the same trials come to on a folder, in this process alone."""
    store = Store.open(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    worker = TrialRunner(store, Execution(), world=World(), device=torch.device("cpu"))
    for trial in ablator.plan(study).trials:
        worker.run(ticket_of(trial), attempts=1, on_progress=lambda progress: True)
    torch.set_num_threads(threads)
    return store


@pytest.fixture
def run(study: Path, s3_store: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`ablator run` in a session of its own, to be hurt."""
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ablator", "run", str(study), "--store", s3_store, *OPTIONS],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_the_middle(store: Store, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a trial is finished, and a checkpoint of another one is in the store."""
    deadline = time.monotonic() + 240
    while not (finished := store.ledger.identities()) or not store.checkpointed() - finished:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_after_kill_9_the_same_command_goes_on_and_the_table_is_that_of_a_folder(
    study: Path,
    s3_store: str,
    run: subprocess.Popen[bytes],
    cli: Callable[..., Any],
    tmp_path: Path,
) -> None:
    store = Store(s3_store)
    wait_for_the_middle(store, run, tmp_path / "log")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    before = store.ledger.load(store.ledger.identities())
    began = time.time()
    again = cli("run", study, "--store", s3_store, *OPTIONS, "--json")
    assert again.code == 0, again.err
    # A worker may have finished its trial while its driver died.
    assert again.json["cached"] in (len(before), len(before) + 1)
    assert again.json["completed"] == 6 - again.json["cached"]

    found = store.ledger.load(store.ledger.identities())
    assert {i: found[i].finished for i in before} == {i: r.finished for i, r in before.items()}
    folder = on_a_folder(study, tmp_path / "store")
    expected = folder.ledger.load(folder.ledger.identities())
    assert {i: r.curves for i, r in found.items()} == {i: r.curves for i, r in expected.items()}
    tables = [render_markdown(ablator.report(study, store=one).table, costs=False) for one in (store, folder)]
    assert tables[0] == tables[1]
    # Of what a worker finished while its driver died, the ticket stays, as in a folder.
    ours = {identity for identity, record in found.items() if record.started > began}
    assert not ours & (store.checkpointed() | store.ticketed()), "what only a run needs is gone"
    assert [*store.files.names("live"), *store.files.names("scratch")] == []
