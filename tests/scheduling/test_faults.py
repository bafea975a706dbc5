"""kill -9 of everything that can die, at random moments of a real study, and what is left then."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import ablator
from ablator.report.markdown import render_markdown
from ablator.results.store import Store
from ablator.scheduling.address import answers

pytestmark = pytest.mark.slow

ARMS = [{"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 3, 4, 5, 6]}}]
TRIALS = 12


@dataclass(frozen=True)
class Undisturbed:
    """The same study, run without a fault."""

    study: Path
    store: Path


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, cli: Callable[..., Any], write_study: Callable[..., Path]
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("faults")
    study = write_study(
        folder, "faults", ARMS, set={"data.fraction": 1.0, "train.epochs": 6, "augment.flip": 0.1}
    )
    done = cli("run", study, "--store", folder / "store", "--json")
    assert done.json["completed"] == TRIALS, done.err
    return Undisturbed(study=study, store=folder / "store")


class Run:
    """`ablator run` in a process of its own, to be hurt."""

    def __init__(self, study: Path, store: Path, *options: str, log: str = "") -> None:
        self.store = store
        self.log = store.parent / f"{log or store.name}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ablator", "run", str(study), "--store", str(store), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait_for_records(self, count: int) -> None:
        """Until so many trials are finished."""
        self._wait(lambda: len(Store(self.store).ledger.identities()) >= count)

    def wait_for_words(self, words: str) -> None:
        """Until the run has said this."""
        self._wait(lambda: words in self.log.read_text())

    def kill(self, word: str) -> None:
        """kill -9 of one process whose command line has `word`, of the run or of the cluster it joined."""
        ours = {}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it ended while we looked
                ours[process] = " ".join(process.cmdline())
        victims = [process for process, command in ours.items() if word in command]
        assert victims, f"no {word} among {ours}"
        random.choice(victims).kill()

    def end(self, timeout: float = 240) -> int:
        """The exit code."""
        return self.process.wait(timeout)

    def end_all(self) -> None:
        """What a killed driver leaves goes with its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)


@pytest.fixture
def run(undisturbed: Undisturbed, tmp_path: Path) -> Iterator[Run]:
    made = Run(undisturbed.study, tmp_path / "store")
    yield made
    made.end_all()


def random_moment(run: Run, most: int) -> None:
    """Some trials are finished, others are in the middle. `ABLATOR_FAULTS` repeats a moment."""
    seed = int(os.environ.get("ABLATOR_FAULTS", time.time_ns() % 10**6))
    print(f"ABLATOR_FAULTS={seed}")
    random.seed(seed)
    run.wait_for_records(random.randint(1, most))
    time.sleep(random.random())


def check_all_is_there(undisturbed: Undisturbed, store: Path) -> None:
    """Every trial once, with the numbers of the undisturbed run, and the same table byte for byte."""
    kept = [Store(folder).ledger for folder in (undisturbed.store, store)]
    expected, found = (ledger.load(ledger.identities()) for ledger in kept)
    assert found.keys() == expected.keys()
    assert len(found) == TRIALS
    for identity, record in found.items():
        assert record.status == "completed"
        assert record.metrics == expected[identity].metrics
        assert record.curves == expected[identity].curves
    tables = [
        render_markdown(ablator.report(undisturbed.study, store=folder).table, costs=False)
        for folder in (undisturbed.store, store)
    ]
    assert tables[0] == tables[1]


def after_the_last_words(store: Path) -> dict[str, float]:
    """`stamps`, once workers that outlive their driver for a moment have finished what they are at."""
    time.sleep(6)
    return stamps(store)


def stamps(store: Path) -> dict[str, float]:
    """When each finished trial was finished."""
    ledger = Store(store).ledger
    return {i: record.finished for i, record in ledger.load(ledger.identities()).items()}


def test_after_the_run_died_the_same_command_goes_on(
    undisturbed: Undisturbed, run: Run, cli: Callable[..., Any]
) -> None:
    """Its driver is killed; and of the run that goes on then, Ray under it."""
    random_moment(run, most=3)
    os.kill(run.process.pid, signal.SIGKILL)
    assert run.end() != 0
    first = after_the_last_words(run.store)
    again = Run(undisturbed.study, run.store, log="again")
    try:
        again.wait_for_records(len(first) + random.randint(1, 3))
        again.kill("raylet/raylet")
        assert again.end() == 2
        assert "error: Ray on this machine has died" in again.log.read_text()
    finally:
        again.end_all()
    second = after_the_last_words(run.store)
    last = cli("run", undisturbed.study, "--store", run.store, "--json")
    assert last.code == 0, last.err
    assert last.json["cached"] == len(second)
    assert last.json["trained"] == TRIALS - len(second)
    after = stamps(run.store)
    for before in (first, second):
        assert {i: after[i] for i in before} == before, "what was finished is not trained again"
    check_all_is_there(undisturbed, run.store)


def test_the_run_survives_the_deaths_of_its_parts(
    running_cluster: str, undisturbed: Undisturbed, run: Run
) -> None:
    """A training worker, the actor that follows a trial, and a slot, one after the other, on a cluster of
    which every processor is some slot's. The run joins it without being told, and leaves it running."""
    random_moment(run, most=3)
    run.kill("RayTrainWorker")
    run.wait_for_records(5)
    run.kill("ResourceTrainable")
    run.wait_for_records(7)
    time.sleep(random.random())
    run.kill("ray::Slot")
    assert run.end() == 0, run.log.read_text()
    check_all_is_there(undisturbed, run.store)
    assert answers(running_cluster)


def test_a_node_that_joins_gets_trials_and_those_of_a_lost_one_go_on_elsewhere(
    ray_nodes: Any, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Two nodes, later three, then two again: the lost one does not come back, so that its slot never has a
    worker again."""
    run = Run(undisturbed.study, tmp_path / "store", "--slots", "3", "--address", ray_nodes.address)
    try:
        run.wait_for_words("room for 2 of the 3 slots")
        ray_nodes.add()
        deadline = time.monotonic() + 120
        # Three trials at once, all behind their first epoch: each of the nodes has one.
        while len(list((run.store / "checkpoints").glob("*/last.pt"))) < 3:
            assert time.monotonic() < deadline, run.log.read_text()
            time.sleep(0.01)
        ray_nodes.kill_raylet(random.choice(ray_nodes.others))
        assert run.end() == 0, run.log.read_text()
    finally:
        run.end_all()
    check_all_is_there(undisturbed, run.store)
    ledger = Store(run.store).ledger
    retried = [r.retries for r in ledger.load(ledger.identities()).values() if r.retries]
    assert len(retried) == 1, run.log.read_text()
    assert all(retry.epoch >= 1 for retry in retried[0]), "it went on from its checkpoint"


def test_two_runs_at_once_train_every_trial_once(undisturbed: Undisturbed, tmp_path: Path) -> None:
    store = tmp_path / "store"
    both = [Run(undisturbed.study, store, "--slots", "1", "--json", log=f"run-{n}") for n in range(2)]
    try:
        assert [run.end() for run in both] == [0, 0], [run.log.read_text() for run in both]
    finally:
        for run in both:
            run.end_all()
    accounts = [json.loads(run.log.read_text().splitlines()[-1]) for run in both]
    assert sum(account["trained"] for account in accounts) == TRIALS
    for account in accounts:
        assert account["completed"] == account["trained"]
        assert account["completed"] + account["cached"] == TRIALS
        assert account["missing"] == account["failed"] == 0
    check_all_is_there(undisturbed, store)
    left = [path for path in (store / "leases").rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []


def test_what_a_killed_run_was_training_is_taken_over_by_another_that_goes_on(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    both = [Run(undisturbed.study, store, "--slots", "1", log=f"run-{n}") for n in range(2)]
    try:
        both[0].wait_for_records(4)
        os.kill(both[0].process.pid, signal.SIGKILL)
        assert both[1].end() == 0, both[1].log.read_text()
    finally:
        for run in both:
            run.end_all()
    check_all_is_there(undisturbed, store)
