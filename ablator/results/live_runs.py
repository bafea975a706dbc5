"""The curves of trials that are being trained, for a look at them before their records are there.

A trial that takes long gets a live run in MLflow, which its final run replaces. Rows wait in memory only:
what is lost with the process is in the trial's record once more.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from ablator.results.durable import make_directory, replace, sync_directory
from ablator.results.outbox import Outbox
from ablator.results.runs import Point, milliseconds, point
from ablator.results.store import checked_name

LIVE = "live"
"""The `ablator.version` of live runs, where final ones have their outcome's."""
LIVE_AFTER_S = 20.0
"""Seconds from a trial's first row to its live run; a shorter trial never has one."""
LIVE_EVERY_S = 10.0
"""Least seconds between two batches of one trial, and after a batch that failed, of any."""
_MOST_ROWS = 1000


class Row(NamedTuple):
    """One epoch."""

    epoch: int
    when: int
    """Unix time in ms."""
    metrics: Mapping[str, float]
    """Never empty. Names are raw."""

    def points(self) -> list[Point]:
        """The row as MLflow's points; the first one tells whether MLflow has the row, which is sent whole."""
        return [point(name, value, self.when, self.epoch) for name, value in self.metrics.items()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """What a trial told since its last batch."""

    identity: str
    label: str
    """Name of the run, as of `MirrorTrial`."""
    arm: str
    seed: int
    rows: tuple[Row, ...]
    """By epoch; at least one."""


@dataclasses.dataclass(kw_only=True)
class _Waiting:
    label: str
    arm: str
    seed: int
    due: float
    """In seconds of `time.monotonic`."""
    epoch: int = -1
    """The newest that was noted."""
    rows: deque[Row] = dataclasses.field(default_factory=lambda: deque(maxlen=_MOST_ROWS))


class Curves:
    """The rows of all trials under way. For one thread at a time."""

    def __init__(self) -> None:
        self._trials: dict[str, _Waiting] = {}

    def note(
        self, *, identity: str, label: str, arm: str, seed: int, metrics: Mapping[str, float], epoch: int
    ) -> None:
        """Keep one row; an epoch that was noted before is the same again, after a worker's death. Where
        nobody takes the rows, the oldest are dropped. Raises TypeError or ValueError for no numbers."""
        row = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        trial = self._trials.get(identity)
        if trial is None:
            due = time.monotonic() + LIVE_AFTER_S
            trial = self._trials[identity] = _Waiting(label=label, arm=arm, seed=seed, due=due)
        if row and epoch > trial.epoch:
            trial.epoch = epoch
            trial.rows.append(Row(epoch, milliseconds(time.time()), row))

    def forget(self, identity: str) -> None:
        """Drop a trial that ended."""
        self._trials.pop(identity, None)

    def next(self) -> tuple[Curve | None, float | None]:
        """The curve that is to be sent now, or else the seconds until one is; None where none will be."""
        waiting = [(trial.due, identity) for identity, trial in self._trials.items() if trial.rows]
        if not waiting:
            return None, None
        due, identity = min(waiting)
        seconds = due - time.monotonic()
        if seconds > 0:
            return None, seconds
        trial = self._trials[identity]
        rows = tuple(trial.rows)
        return Curve(identity=identity, label=trial.label, arm=trial.arm, seed=trial.seed, rows=rows), None

    def sent(self, curve: Curve) -> None:
        """Drop the rows of `curve`, which MLflow has."""
        trial = self._trials.get(curve.identity)
        if trial is not None:
            trial.due = time.monotonic() + LIVE_EVERY_S
            while trial.rows and trial.rows[0].epoch <= curve.rows[-1].epoch:
                trial.rows.popleft()

    def postpone(self) -> None:
        """Leave a server that has trouble alone for a while."""
        later = time.monotonic() + LIVE_EVERY_S
        for trial in self._trials.values():
            trial.due = max(trial.due, later)


class LiveNotes:
    """Which trials may have a live run, as empty files mlflow-runs/<target>/<study>.live/<identity>: they
    outlive a driver that is killed, so that whoever sends the trial's record removes its live run, and
    looks for none where none was ever made."""

    def __init__(self, outbox: Outbox) -> None:
        self._folder = outbox.store.sent / outbox.target.folder / f"{outbox.folder.name}.live"

    def __contains__(self, identity: str) -> bool:
        return (self._folder / checked_name(identity)).exists()

    def add(self, identity: str) -> None:
        """Note a live run before it is made. Raises OSError."""
        if identity not in self:
            make_directory(self._folder)
            replace(self._folder / checked_name(identity), b"")

    def drop(self, identity: str) -> None:
        """Note that there is none any more. Raises OSError."""
        if identity in self:
            (self._folder / checked_name(identity)).unlink(missing_ok=True)
            sync_directory(self._folder)
