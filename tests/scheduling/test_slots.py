"""Slots in other shapes and places: several workers a trial, a cluster that is there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store
from ablator.scheduling.address import answers, running_address

pytestmark = pytest.mark.slow

Cli = Callable[..., Any]


def records(store: Path) -> dict[str, Any]:
    ledger = Store(store).ledger
    return ledger.load(ledger.identities())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., Path]) -> Path:
    """MoTo behind every block, the last one included: some of its weights get no gradient."""
    folder = tmp_path_factory.mktemp("slots")
    arms = [{"label": "MoTo", "set": {"moto.blocks": "0:2", "tokenprop.scale": 16}}]
    return write_study(folder, "slots", arms, seeds=1)


@pytest.fixture(scope="module")
def alone(study: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Records of the study with one worker a trial."""
    store = tmp_path_factory.mktemp("alone")
    assert cli("run", study, "--store", store, "--json").code == 0
    return records(store)


def test_two_workers_train_the_same_trial(
    study: Path, alone: dict[str, Any], cli: Cli, tmp_path: Path
) -> None:
    done = cli("run", study, "--store", tmp_path, "--workers", 2, "--json")
    assert done.code == 0, done.err
    together = records(tmp_path)
    assert together.keys() == alone.keys(), "how many workers train is no part of a trial's identity"
    for identity, record in together.items():
        first, same = record.curves[0], alone[identity].curves[0]
        # Gradients are summed in another order, which grows from step to step.
        assert first["train_loss"] == pytest.approx(same["train_loss"], rel=2e-2)
        assert first["val_loss"] == pytest.approx(same["val_loss"], rel=5e-2)


@pytest.fixture
def running_cluster() -> Iterator[str]:
    """A cluster of `ray start`, as a user may have; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray = str(Path(sys.executable).parent / "ray")
    head = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--block"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 90
        while (address := running_address()) is None or not address.endswith(f":{port}"):
            assert head.poll() is None, "ray start ended"
            assert time.monotonic() < deadline, "ray start took too long"
            time.sleep(0.2)
        yield address
    finally:
        # `ray stop` would end every cluster of this machine.
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(60)


def test_a_cluster_that_is_there_is_joined_and_left_running(
    study: Path, alone: dict[str, Any], cli: Cli, running_cluster: str, tmp_path: Path
) -> None:
    done = cli("run", study, "--store", tmp_path, "--json")
    assert done.code == 0, done.err
    joined = records(tmp_path)
    assert {i: r.metrics for i, r in joined.items()} == {i: r.metrics for i, r in alone.items()}
    assert answers(running_cluster), "the cluster is not ours to end"
