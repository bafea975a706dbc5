"""A second host on this machine: sshd on a loopback address, with a home, a token and Ray of its own.

Where the system allows it, it has its own processes and its own /tmp/ray as well (Linux namespaces), so that
`ray stop` there ends nothing here.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.2"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_FENCE = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
_THROUGH = """
import os, socket, sys, threading
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := far.recv(65536):
    os.write(1, data)
"""


def missing() -> str | None:
    """Why there can be no second host here; None where there can."""
    for program in ("ssh", "rsync", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if SSHD is None:
        return "sshd is not installed (Debian's openssh-server)"
    if not fenced() and _ray_runs():
        return (
            "another Ray runs on this machine, and `ray stop` would end it: namespaces are not permitted here"
        )
    return None


def fenced() -> bool:
    """Whether this user may give the second host processes of its own."""
    with contextlib.suppress(OSError):
        return subprocess.run([*_FENCE, "true"], capture_output=True, check=False).returncode == 0
    return False


def _ray_runs() -> bool:
    names = {process.name() for process in psutil.process_iter(["name"])}
    return bool(names & {"raylet", "gcs_server"})


def free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as server:
        port: int = server.getsockname()[1]
        return port


class SecondHost:
    """What a client has to know of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = free_port()
        self.key = folder / "key"
        self.home.mkdir(parents=True)
        (self.home / "shared").mkdir()
        _keys(folder)
        _environment(self.home)
        (folder / "through.py").write_text(_THROUGH, encoding="utf-8")
        lines = {
            "ListenAddress": ADDRESS,
            "Port": self.port,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "key.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PidFile": "none",
            # The code that runs there is what `ray up` brought, whatever the environment's own one is.
            "SetEnv": f"HOME={self.home} PYTHONPATH={self.home}/ablator OMP_NUM_THREADS=1",
        }
        text = "".join(f"{key} {value}\n" for key, value in lines.items())
        (folder / "sshd_config").write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def up(self) -> Iterator[SecondHost]:
        """sshd, for the body's time; with it all that was started through it ends."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        command = f"exec {SSHD} -D -e -f {shlex.quote(str(self.folder / 'sshd_config'))}"
        fence: list[str] = []
        if fenced():
            Path("/tmp/ray").mkdir(exist_ok=True)
            fence, command = _FENCE, f"mount -t tmpfs none /tmp/ray; {command}"
        with (self.folder / "sshd.log").open("w") as log:
            self.process = subprocess.Popen(
                [*fence, "sh", "-c", command], stderr=log, stdout=log, start_new_session=True
            )
            try:
                self._wait()
                yield self
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(30)

    def _wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text(encoding="utf-8")
            time.sleep(0.1)
        raise AssertionError("sshd does not answer")

    def processes(self) -> list[str]:
        """The command lines of what runs there beside sshd; of all of this machine's Ray without a fence."""
        return [line for line in self.run("ps -eo args=").splitlines() if "ray" in line.split()[0]]

    def run(self, command: str) -> str:
        """What `command` prints there."""
        options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]
        port = ["-p", str(self.port), "-i", str(self.key)]
        target = f"{getpass.getuser()}@{ADDRESS}"
        done = subprocess.run(
            ["ssh", *options, *port, target, command], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cluster_file(self, source: Path, code: Path) -> dict[str, Any]:
        """The cluster file at `source` with this host as its head, no workers and ports that are free."""
        text = source.read_text(encoding="utf-8").replace("/mnt/shared", str(self.home / "shared"))
        for port in ("6379", "8076", "8265"):
            text = text.replace(f"port={port}", f"port={free_port()}")
        document: dict[str, Any] = yaml.safe_load(text)
        document["cluster_name"] = f"ablator-{os.getpid()}"
        document["provider"] |= {"head_ip": ADDRESS, "worker_ips": []}
        python = shlex.quote(sys.executable)
        document["auth"] = {
            "ssh_user": getpass.getuser(),
            "ssh_private_key": str(self.key),
            "ssh_proxy_command": f"{python} {self.folder / 'through.py'} {ADDRESS} {self.port}",
        }
        document["file_mounts"]["~/ablator"] = str(code)
        return document


def _keys(folder: Path) -> None:
    for name in ("host", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, capture_output=True)


def _environment(home: Path) -> None:
    """This process's own environment as the host's ~/venv, up to date by its pins."""
    venv = home / "venv"
    venv.mkdir()
    for path in Path(sys.prefix).iterdir():
        (venv / path.name).symlink_to(path)
    pins = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    (venv / "pins").write_bytes(b"".join(pins))
