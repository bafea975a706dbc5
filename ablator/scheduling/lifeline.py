"""Notice at once that Ray on this machine has died.

By itself Ray ends the process that uses it some seconds later, with exit code 1 and no word.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from types import FrameType, TracebackType

from ablator.errors import ClusterError

# SIGINT does not reach a process that a script started in the background.
_SIGNAL = signal.SIGUSR2
_DIED = (
    "Ray on this machine has died (its raylet was killed, or ran out of memory): run the same command again "
    "to go on"
)


class Lifeline:
    """A connection to this machine's raylet on which nothing is ever said, and which ends with the raylet. As
    a context, in the main thread: the body is interrupted then, and ClusterError raised in its place."""

    def __init__(self, raylet: str) -> None:
        """`raylet`: path of its socket."""
        self._raylet = raylet
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._over = False
        self._cut = False
        self._listener = threading.Thread(target=self._listen, name="lifeline", daemon=True)

    def __enter__(self) -> Lifeline:
        # Only the main thread takes signals; elsewhere Ray does what it does.
        self._main = threading.get_ident() == threading.main_thread().ident
        if self._main:
            try:
                self._connection.connect(self._raylet)
            except OSError as error:
                self._connection.close()
                raise ClusterError(_DIED) from error
            self._before = signal.signal(_SIGNAL, self._interrupt)
            self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
        if self._main:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            signal.signal(_SIGNAL, self._before)
        self._connection.close()
        if self._cut:
            raise ClusterError(_DIED) from None

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.recv(1)
        with self._lock:
            if not self._over:
                self._cut = True
                # Also out of a wait for something that will never come.
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # What catches every Exception, as Ray does in places, lets this one pass.
        if not self._over:
            raise KeyboardInterrupt
