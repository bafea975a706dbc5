"""A cluster of the user's own."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablator.scheduling.address import running_address


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


@pytest.fixture
def ray_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes on this machine, each with one processor (benchmarks/ray_nodes.py)."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    with importlib.import_module("ray_nodes").RayNodes() as nodes:
        nodes.add()
        yield nodes
