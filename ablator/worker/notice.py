"""Whether this process is to end soon: it was told so by a signal, or Ray was told that its machine goes.

Providers of spot machines, Kubernetes and batch systems give a notice before they take a machine away. Ray
passes it on to the workers of a machine that drains; others send SIGTERM to every process.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from types import TracebackType
from typing import IO

from ray.train.v2._internal.execution.context import get_train_context


class Notices:
    """Inside of the context SIGTERM does not end the process, and `given` says that it came.

    Training runs in a thread, where Python sets no handlers. `faulthandler` sets one of C from any thread,
    which writes to a file where the process was.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._came = False

    def __enter__(self) -> Notices:
        # In memory: a full disk must not hide it.
        self._file = open(os.memfd_create("notice"), "wb")
        faulthandler.register(signal.SIGTERM, file=self._file, all_threads=False, chain=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.unregister(signal.SIGTERM)
        # Asked once more behind the context, where the file is gone.
        self._came = self._signalled()
        if self._file is not None:
            self._file.close()
            self._file = None

    def given(self) -> bool:
        """Whether there was one."""
        return self._signalled() or _drains()

    def _signalled(self) -> bool:
        return self._came or (self._file is not None and os.fstat(self._file.fileno()).st_size > 0)


def _drains() -> bool:
    """Whether Ray takes this machine, or that of another worker of the trial, out of the cluster. What the
    public `ray.train.get_preemption_info` does is a call between all workers, too long for every step."""
    return get_train_context().preemption_context.preemption_info is not None
