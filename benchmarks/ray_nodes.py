"""A Ray cluster of several nodes on this machine, whose nodes can be killed and added."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ablator.scheduling.address import answers

_START_S = 120.0
_STARTS = 3
_LOOK_S = 0.2
_PORTS = range(20_000, 32_000)
"""Above those that Ray gives its workers, below those that the system gives to whoever asks for any."""


class RayNodes:
    """A head and other nodes, each of `cpus` processors, and of `gpus` that need not exist, with a raylet of
    its own. They end with the context. Raises RuntimeError where one does not start."""

    def __init__(self, cpus: int = 1, gpus: int = 0) -> None:
        self._holds = f"--num-cpus={cpus}", f"--num-gpus={gpus}"
        self._port, self._dashboard = free_ports(2)
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
        """Start the head, and wait until it is a node of its cluster."""
        ports = f"--port={self._port}", f"--dashboard-port={self._dashboard}"
        if self._start("--head", *ports, nodes=1) is None:
            raise RuntimeError("ray start --head ended")

    def add(self) -> subprocess.Popen[bytes]:
        """Start another node, and return once it is one of the cluster's. One that ends instead, as another
        process has taken a port of it meanwhile, is started again on other ports."""
        for _ in range(_STARTS):
            listen, grpc, runtime, metrics = free_ports(4)
            node = self._start(
                f"--address={self.address}",
                f"--dashboard-agent-listen-port={listen}",
                f"--dashboard-agent-grpc-port={grpc}",
                f"--runtime-env-agent-port={runtime}",
                f"--metrics-export-port={metrics}",
                nodes=self._registered() + 1,
            )
            if node is not None:
                self.others.append(node)
                return node
        raise RuntimeError(f"ray start ended {_STARTS} times")

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

    def _registered(self) -> int:
        """Nodes that the head has seen so far, those that are dead by now included."""
        # Ray looks at whether it needs a token when it is loaded; ablator.scheduling says so before.
        from ray._raylet import GcsClient

        return len(GcsClient(address=self.address).get_all_node_info())

    def _start(self, *options: str, nodes: int) -> subprocess.Popen[bytes] | None:
        """`ray start`, back when so many nodes have been seen; None where it ended. Raises RuntimeError where
        neither happens."""
        started = _start(*options, *self._holds)
        self._started.append(started)
        deadline = time.monotonic() + _START_S
        while started.poll() is None:
            if answers(self.address) and self._registered() >= nodes:
                return started
            if time.monotonic() > deadline:
                raise RuntimeError(f"ray start {' '.join(options)} took over {_START_S:.0f} s")
            time.sleep(_LOOK_S)
        return None


def raylet_of(node: subprocess.Popen[bytes]) -> int | None:
    """The process id of a node's raylet; None where it has none."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
            if b"raylet/raylet" in command.split(b"\0")[0] and os.getsid(int(entry)) == node.pid:
                return int(entry)
    return None


def _start(*options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", "--block", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill(node: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def free_ports(count: int) -> list[int]:
    """So many ports of the loopback interface that nothing listens at, and that nothing gets by chance."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"fewer than {count} free ports in {_PORTS}")
