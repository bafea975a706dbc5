"""What soak.py does to a run: kills, a full disk, damaged files, a tracking server that goes away."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
from ray_nodes import free_ports

_BECOME_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""

_WORDS = {
    "worker": "RayTrainWorker",
    "proxy": "ResourceTrainable",
    "slot": "ray::Slot",
    "controller": "TrainController",
    "raylet": "raylet/raylet",
    "head": "gcs/gcs_server",
}


def adopt_orphans() -> None:
    """Processes that outlive their parent become this one's, so that `family` finds all that was started."""
    if ctypes.CDLL(None, use_errno=True).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def family(root: int) -> dict[int, str]:
    """Id and command line of the living processes that `root` started, directly or not."""
    found = {}
    for process in psutil.Process(root).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found[process.pid] = " ".join(process.cmdline())
    # A process that is dead and not yet waited for has no command line.
    return {pid: command for pid, command in found.items() if command}


def kill_one(kind: str, rng: random.Random) -> bool:
    """kill -9 of one process of that kind; False where there is none at the moment."""
    victims = sorted(pid for pid, command in family(os.getpid()).items() if _WORDS[kind] in command)
    if not victims:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(victims), signal.SIGKILL)
        return True
    return False


def kill_all() -> None:
    """kill -9 of whatever this process started."""
    while left := family(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)


def damage(path: Path, rng: random.Random) -> str:
    """Cut the file off somewhere, or flip one bit, as no writer of ours would."""
    content = bytearray(path.read_bytes())
    if not content or rng.random() < 0.5:
        del content[rng.randrange(len(content) or 1) :]
        what = f"cut to {len(content)} bytes"
    else:
        at = rng.randrange(len(content))
        content[at] ^= 1 << rng.randrange(8)
        what = f"bit flipped in byte {at}"
    # In place, so that whoever has it open sees it too.
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate(len(content))
    return what


class Disk:
    """A small disk of its own for the store, which can be filled; a plain folder where mounting is not
    allowed."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self.place = place
        self._filler = place / "filler"
        place.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ablator-soak", str(place)]
        self.own = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Until nothing more can be written."""
        with open(self._filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 2**16)

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it, with what is on it."""
        if self.own:
            subprocess.run(["umount", "--lazy", str(self.place)], check=True)


class Tracking:
    """MLflow's server, as small as it gets, over a database of its own."""

    def __init__(self, folder: Path) -> None:
        (self._port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    @property
    def runs(self) -> bool:
        """Whether it was started and not killed."""
        return self._server is not None

    def start(self, *, wait: bool = False) -> None:
        """Start it unless it runs; `wait` until it answers. Raises RuntimeError where it never does."""
        if not self.runs:
            self._start()
        deadline = time.monotonic() + 180
        while wait and not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no tracking server after 180 s; see {self._folder / 'server.log'}")
            time.sleep(0.5)

    def kill(self) -> None:
        """kill -9 of the server and its processes."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def runs_of(self, experiment: str) -> Counter[str]:
        """Identity of every trial in that experiment to how often it is there."""
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(experiment)
        runs = client.search_runs([found.experiment_id], max_results=1000) if found else []
        return Counter(
            tags["ablator.identity"] for run in runs if "ablator.identity" in (tags := run.data.tags)
        )

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as reply:
            return bool(reply.status == 200)
        return False

    def _start(self) -> None:
        store = f"sqlite:///{self._folder / 'mlflow.db'}"
        options = ["--workers", "1", "--port", str(self._port), "--backend-store-uri", store]
        options += ["--artifacts-destination", str(self._folder / "artifacts")]
        with open(self._folder / "server.log", "ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
