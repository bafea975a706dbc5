"""An SSH tunnel to the job server, which listens on the head's loopback interface and nowhere else."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from typing import IO

from ablator.errors import ClusterError
from ablator.remote.head import Head

_UP_SECONDS = 40.0


class Tunnel:
    """ssh, which forwards a free port of this machine's loopback interface; opened again where it broke."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._ssh: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._port = 0

    def url(self) -> str:
        """The job server's address on this machine, with ssh running. Raises ClusterError."""
        if self._ssh is None or self._ssh.poll() is not None:
            self.close()
            self._open()
        return f"http://127.0.0.1:{self._port}"

    def close(self) -> None:
        """End ssh. `url` starts it again."""
        if self._ssh is not None:
            self._ssh.terminate()
            try:
                self._ssh.wait(5)
            except subprocess.TimeoutExpired:
                self._ssh.kill()
                self._ssh.wait()
        if self._said is not None:
            self._said.close()
        self._ssh = self._said = None

    def _open(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._port = server.getsockname()[1]
        forward = f"127.0.0.1:{self._port}:127.0.0.1:{self.head.port}"
        command = ["ssh", "-N", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-L", forward]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (ssh writes into it while it runs)
        try:
            # In a session of its own: Ctrl-C is for the command, which has its last words to say through it.
            self._ssh = subprocess.Popen(
                [*command, *self.head.options, self.head.target],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as error:
            raise ClusterError(
                f"ssh cannot be started ({error.strerror}); install OpenSSH's client"
            ) from None
        self._wait(self._ssh)

    def _wait(self, ssh: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _UP_SECONDS
        while ssh.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.05)
        assert self._said is not None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        why = next((line.strip() for line in reversed(lines) if line.strip()), "no answer")
        self.close()
        raise ClusterError(
            f"--cluster {self.head.file}: ssh does not get to the head, {self.head.target} ({why}); check "
            "that the machine is up, and the file's `auth`: user, key and proxy"
        )
