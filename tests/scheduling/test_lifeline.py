"""A run is told when Ray under it dies, and by nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablator.errors import ClusterError
from ablator.scheduling.lifeline import Lifeline

LISTENS = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1])
    server.listen()
    kept = []
    print("ready", flush=True)
    while True:
        kept.append(server.accept())
"""


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that takes connections at the socket `raylet`, and says nothing on them."""
    command = [sys.executable, "-c", LISTENS, str(tmp_path / "raylet")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def wait(interrupted: list[bool], swallowed: bool) -> None:
    try:
        time.sleep(60)
    except KeyboardInterrupt as interrupt:
        interrupted.append(True)
        if not swallowed:
            raise
        # As of whoever was in the middle of asking Ray something.
        raise OSError("no answer") from interrupt


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_body_is_interrupted_and_says_why(
    raylet: subprocess.Popen[str], tmp_path: Path, swallowed: bool
) -> None:
    interrupted: list[bool] = []
    line = Lifeline(str(tmp_path / "raylet"))
    threading.Timer(0.3, raylet.kill).start()
    with pytest.raises(ClusterError, match="Ray on this machine has died"), line:
        wait(interrupted, swallowed)
    assert interrupted, "out of its sleep"


def test_what_the_body_does_is_its_own_where_ray_lives(raylet: subprocess.Popen[str], tmp_path: Path) -> None:
    with Lifeline(str(tmp_path / "raylet")):
        pass
    with pytest.raises(KeyboardInterrupt), Lifeline(str(tmp_path / "raylet")):
        raise KeyboardInterrupt
    assert raylet.poll() is None
    time.sleep(0.1)  # nothing interrupts whoever comes after


def test_one_that_is_dead_already_is_told_as_well(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="Ray on this machine has died"), Lifeline(str(tmp_path / "none")):
        raise AssertionError("there is no raylet")
