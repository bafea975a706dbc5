"""A Ray cluster of several nodes on this machine, whose nodes can be killed and added."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ablator.scheduling.address import answers

_START_S = 120.0


class RayNodes:
    """A head and other nodes, each of `cpus` processors and with a raylet of its own. They end with the
    context. Raises RuntimeError where one does not start."""

    def __init__(self, cpus: int = 1) -> None:
        self._cpus = cpus
        # Ports outside of those that workers get.
        self._port, self._dashboard = _free_ports(2)
        self.address = f"127.0.0.1:{self._port}"
        self._started: list[subprocess.Popen[bytes]] = []
        self.others: list[subprocess.Popen[bytes]] = []
        """`ray start` of every node but the head; the node's processes are in its session."""

    def __enter__(self) -> RayNodes:
        self.start_head()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start_head(self) -> None:
        """Start the head, and wait until it answers."""
        head = _start(
            "--head", f"--port={self._port}", f"--dashboard-port={self._dashboard}", cpus=self._cpus
        )
        self._started.append(head)
        self._wait(head, lambda: answers(self.address))

    def add(self) -> subprocess.Popen[bytes]:
        """Start another node, and return once its raylet runs."""
        listen, grpc, runtime, metrics = _free_ports(4)
        node = _start(
            f"--address={self.address}",
            f"--dashboard-agent-listen-port={listen}",
            f"--dashboard-agent-grpc-port={grpc}",
            f"--runtime-env-agent-port={runtime}",
            f"--metrics-export-port={metrics}",
            cpus=self._cpus,
        )
        self._started.append(node)
        self._wait(node, lambda: raylet_of(node) is not None)
        self.others.append(node)
        return node

    def kill_raylet(self, node: subprocess.Popen[bytes]) -> None:
        """kill -9 of the node's raylet alone; what it started may live on for a moment."""
        raylet = raylet_of(node)
        if raylet is None:
            raise RuntimeError("the node has no raylet any more")
        os.kill(raylet, signal.SIGKILL)
        self.others.remove(node)

    def end(self) -> None:
        """kill -9 of all that was started."""
        for node in self._started:
            _kill(node)
        self._started.clear()
        self.others.clear()

    def _wait(self, node: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while not ready():
            if node.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ray start ended with {node.poll()}, or took over {_START_S:.0f} s")
            time.sleep(0.2)


def raylet_of(node: subprocess.Popen[bytes]) -> int | None:
    """The process id of a node's raylet; None where it has none."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
            if b"raylet/raylet" in command.split(b"\0")[0] and os.getsid(int(entry)) == node.pid:
                return int(entry)
    return None


def _start(*options: str, cpus: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", f"--num-cpus={cpus}", "--block", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill(node: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
