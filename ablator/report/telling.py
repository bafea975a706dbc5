"""The watcher that says in the store where a run stands, for `ablator status` in other terminals and on other
machines."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from ablator.contracts.events import Event
from ablator.errors import StoreError
from ablator.plan.planning import Plan
from ablator.report.filling import Drawn
from ablator.report.live import Progress
from ablator.results.files import Spot
from ablator.results.journal import Journal
from ablator.results.standing import RunningTrial, remove_standing, write_standing
from ablator.results.store import Store

_EVERY = 1.0
"""Seconds between two looks at whether there is something new to say."""
_SILENT = 5.0
"""Seconds after which it is said again that the run is there: an epoch may take an hour."""


class Teller:
    """Writes one file a study, at most once a second and whenever a trial is finished, and removes them at
    the run's end. Use as a context. It never raises into the run, nor holds it up for longer than a write."""

    def __init__(
        self,
        progress: Progress,
        plans: Sequence[Plan],
        store: Store,
        journals: Sequence[Mapping[int, Journal]],
    ) -> None:
        """`journals` of each plan, by index of the search's arm."""
        self._progress = progress
        self._studies = [_Study(*one, store) for one in zip(plans, journals, strict=True)]
        # Events come from the sweep's thread, what is said in silence from an own one.
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="ablator-standing", daemon=True)
        self._new = True
        self._last = 0.0

    def __enter__(self) -> Teller:
        self._say()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for study in self._studies:
            with contextlib.suppress(StoreError):
                remove_standing(study.spot())

    def __call__(self, event: Event) -> None:
        """Take the event over; what is finished is said at once."""
        with contextlib.suppress(Exception):
            with self._lock:
                self._progress.take(event)
                self._new = True
            if event.kind == "finished":
                self._say()

    def _go_on(self) -> None:
        while not self._over.wait(_EVERY):
            if self._new or time.monotonic() - self._last >= _SILENT:
                self._say()

    def _say(self) -> None:
        with self._lock, contextlib.suppress(Exception):
            self._new, self._last = False, time.monotonic()
            running = set(self._progress.running)
            having = {identity for study in self._studies for identity in study.having(running)}
            for study in self._studies:
                standing = self._progress.standing(study.metric, studies=len(self._studies))
                own = [study.named(trial, nobodys=trial.identity not in having) for trial in standing.running]
                trials = tuple(trial for trial in own if trial is not None)
                write_standing(study.spot(), dataclasses.replace(standing, running=trials))


class _Study:
    """One study of the run: where it is said, and which trials are its own."""

    def __init__(self, planned: Plan, journals: Mapping[int, Journal], store: Store) -> None:
        self._planned = planned
        self._store = store
        self._labels = {identity: trial.label for identity, trial in planned.unique().items()}
        self._drawn = Drawn(planned, journals)
        self.metric = planned.study.report.metric

    def spot(self) -> Spot:
        """Raises StoreError for a name that is none."""
        return self._store.live(self._planned.study.study, self._planned.profile)

    def having(self, identities: set[str]) -> set[str]:
        """Which of the trials are its own."""
        if identities - self._labels.keys():
            self._drawn.news()
            self._labels = {**self._drawn.labels, **self._labels}
        return identities & self._labels.keys()

    def named(self, trial: RunningTrial, *, nobodys: bool) -> RunningTrial | None:
        """The trial by its own label; what is trained for its weights is `nobodys`, and shown by all."""
        if trial.identity in self._labels:
            return dataclasses.replace(trial, label=self._labels[trial.identity])
        return trial if nobodys else None
