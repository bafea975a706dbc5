"""Ends a worker whose trial makes no progress, so that it is started again and goes on from its checkpoint.

What hangs may be a loader's process, a collective call that waits for a lost peer, or a library in a loop:
code that no exception reaches. So the process itself is ended, by a thread of C that Python's `faulthandler`
keeps and that needs neither the interpreter nor its lock; it writes down first where every thread was.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from torch import Tensor

from ablator.contracts.protocols import Batches, OnProgress, Progress
from ablator.results.durable import make_directory

_FILE = "stalled-*.txt"
_PARTS = 20
"""The clock is set back at most so often within the time allowed: each time starts a thread."""


class Watchdog:
    """Ends the process with exit code 1 where, inside of the context, `progressed` is not called for
    `seconds` (0: never). Where every thread was is then in a file of `folder`, which `stalls` counts."""

    def __init__(self, seconds: float, folder: Path, attempt: int) -> None:
        self._seconds = seconds
        # A driver that is started again counts attempts from the first one on.
        self._path = folder / _FILE.replace("*", f"{attempt}-{os.getpid()}")
        self._file: IO[str] | None = None
        self._set = 0.0

    def __enter__(self) -> Watchdog:
        if self._seconds > 0:
            make_directory(self._path.parent)
            self._file = open(self._path, "w", encoding="utf-8")
            self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)

    def progressed(self) -> None:
        """Something was done: the time begins anew."""
        if self._file is not None and time.monotonic() - self._set > self._seconds / _PARTS:
            self._arm()

    def batches(self, batches: Batches) -> Batches:
        """The same batches; each that is asked for is progress."""
        return _Watched(batches, self)

    def reporting(self, on_progress: OnProgress) -> OnProgress:
        """The same, without a limit: whoever is told may take long to answer, as a driver that compares
        trials does."""

        def report(progress: Progress) -> bool:
            if self._file is not None:
                faulthandler.cancel_dump_traceback_later()
            wanted = on_progress(progress)
            if self._file is not None:
                self._arm()
            return wanted

        return report

    def _arm(self) -> None:
        assert self._file is not None
        self._set = time.monotonic()
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)


class _Watched:
    """Batches whose every step is told to the watchdog."""

    def __init__(self, batches: Batches, watchdog: Watchdog) -> None:
        self.info = batches.info
        self._batches = batches
        self._watchdog = watchdog

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._batches.train(epoch, start):
            self._watchdog.progressed()
            yield batch
        self._watchdog.progressed()

    def evaluate(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._batches.evaluate():
            self._watchdog.progressed()
            yield batch
        self._watchdog.progressed()

    def notes(self) -> tuple[str, ...]:
        return self._batches.notes()


def stalls(folder: Path) -> int:
    """How often a watchdog ended the trial whose checkpoints are in `folder`; what it wrote is there until
    the trial is finished. A process that was killed in another way leaves an empty file, which is none."""
    return sum(path.stat().st_size > 0 for path in folder.glob(_FILE))


def stalled_text(count: int, seconds: float) -> str:
    """What a record says of it."""
    times = "once" if count == 1 else f"{count} times"
    return f"stopped {times} after {seconds:g} s without progress, and started again from its checkpoint"
