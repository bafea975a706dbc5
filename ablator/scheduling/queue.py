"""What to train next: the plan's trials in order, then whatever the searches ask for.

One Tune searcher serves both, so that designs and searches share slots, ledger and early stopping.
It answers from the ledger what the ledger knows, lets a duplicate wait for its twin that is still
training, and hands Tune nothing but an identity: the specs stay in ticket files.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from ray.tune.search import Searcher

from ablator.contracts.events import Event, OnEvent, Ticket
from ablator.contracts.record import Record
from ablator.results.leases import Leases
from ablator.results.store import Store
from ablator.scheduling.tickets import write_ticket

_PATIENCE = 1.0
"""Seconds between two looks at trials that other runs train."""


class Source(Protocol):
    """Where tickets come from, such as a search."""

    def ask(self) -> Ticket | None:
        """The next ticket; None while it must wait for results of tickets that it gave out."""
        ...

    def tell(self, record: Record) -> None:
        """A ticket's outcome."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether it will never give another ticket."""
        ...

    @property
    def alone(self) -> str:
        """What it writes down as it asks, such as a search's journal: only one run may have it at a time.
        Empty where it writes nothing."""
        ...


class TrialQueue(Searcher):  # type: ignore[misc]
    """Tune's searcher. `outcome` reads a record back after a trial has ended."""

    def __init__(
        self,
        tickets: Iterable[Ticket],
        sources: Iterable[Source],
        *,
        store: Store,
        limit: int,
        search_limit: int | None = None,
        on_event: OnEvent,
        outcome: Callable[[Ticket, dict[str, Any] | None], Record],
        leases: Leases,
        stopping: bool = False,
        statuses: dict[str, str] | None = None,
    ) -> None:
        """`leases` keep other runs from training the same trial at the same time; `limit`: trials live at
        once, waiting ones included; `search_limit`: the same once only searches have some left, whose
        sampler should see results before it draws more; `stopping`: whether trials are stopped early, so that
        pruned records of the ledger are results here; `statuses`: what the run trained before, to go on
        with."""
        super().__init__()
        self._tickets = deque(tickets)
        self._sources = list(sources)
        self._store = store
        self._limit = limit
        self._search_limit = limit if search_limit is None else search_limit
        self._on_event = on_event
        self._outcome = outcome
        self._stopping = stopping
        self._leases = leases
        self._live: dict[str, Ticket] = {}
        self._held: list[tuple[Ticket, Source | None]] = []
        """Tickets whose trials another run is training."""
        self._looked = 0.0
        """When these were looked at last."""
        self._waiting: dict[str, list[Source | None]] = {}
        self.statuses: dict[str, str] = {} if statuses is None else statuses
        """How every trial ended that this run started, by identity."""
        self.asked: dict[str, Source] = {}
        """Identities that were started for a source, and which."""
        self.answers: list[tuple[Source, str]] = []
        """Search samples answered without training: whose, and the status of the answer."""
        self.elsewhere: dict[str, str] = {}
        """How trials ended that another run finished while this one had them ahead, by identity."""
        self.error: Exception | None = None
        """What went wrong while an outcome was stored; the sweep ends with it."""

    @property
    def answered(self) -> int:
        """How many search samples were answered without training."""
        return len(self.answers)

    @property
    def exhausted(self) -> bool:
        """Whether it will never start another trial."""
        return not (self._tickets or self._held) and all(source.exhausted for source in self._sources)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune asks for a trial: its config, None (later), or FINISHED."""
        if len(self._live) >= (self._limit if self._tickets else self._search_limit):
            return None
        try:
            ticket, source = self._next()
            if ticket is not None:
                write_ticket(self._store, ticket)
        except Exception as problem:  # noqa: BLE001 - Tune would let running trials hang
            self._give_up(problem)
            return None
        if ticket is None:
            if self.exhausted:
                return str(Searcher.FINISHED)
            if not self._live:
                # Only another run's trials are left; Tune would ask again at once.
                time.sleep(_PATIENCE)
            return None
        self._waiting[ticket.identity] = [source]
        if source is not None:
            self.asked[ticket.identity] = source
        self._live[trial_id] = ticket
        return {"trial": ticket.identity}

    def _next(self) -> tuple[Ticket | None, Source | None]:
        while self._tickets:
            first = self._tickets.popleft()
            if self._claim(first, None):
                return first, None
        if (freed := self._freed()) is not None:
            return freed
        for source in self._sources:
            while not source.exhausted:
                ticket = source.ask()
                if ticket is None:
                    break
                known = self._known(ticket.identity)
                if known is not None:
                    self.answers.append((source, known.status))
                    source.tell(known)
                elif ticket.identity in self._waiting:
                    self._waiting[ticket.identity].append(source)
                elif self._claim(ticket, source):
                    return ticket, source
        return None, None

    def _claim(self, ticket: Ticket, source: Source | None) -> bool:
        """Take the trial's lease. One that another run has waits; one that it has finished is answered."""
        if ticket.identity in self._waiting:
            # A twin of it is being trained here by now.
            self._waiting[ticket.identity].append(source)
            return False
        if not self._leases.take(ticket.identity):
            self._held.append((ticket, source))
            return False
        # Another run may have finished it between the plan, or the source's question, and now.
        record = self._known(ticket.identity)
        trained_for_weights = ticket.keep_weights and not self._has_weights(ticket.identity)
        if record is None or record.status == "failed" or trained_for_weights:
            return True
        self._leases.give_back(ticket.identity)
        self._answer(ticket, source, record)
        return False

    def _freed(self) -> tuple[Ticket, Source | None] | None:
        """Of the trials that other runs had the next one that none has any more and that is not finished."""
        if not self._held or time.monotonic() - self._looked < _PATIENCE:
            return None
        held, self._held = self._held, []
        while held:
            ticket, source = held.pop(0)
            if self._claim(ticket, source):
                self._held += held
                return ticket, source
        self._looked = time.monotonic()
        return None

    def _answer(self, ticket: Ticket, source: Source | None, record: Record) -> None:
        """Take another run's outcome for this one's."""
        self.elsewhere[ticket.identity] = record.status
        if source is not None:
            self.answers.append((source, record.status))
            source.tell(record)
        self._tell_finished(ticket, record)

    def _has_weights(self, identity: str) -> bool:
        return self._store.has(self._store.weights(identity))

    def _known(self, identity: str) -> Record | None:
        record = self._store.ledger.get(identity)
        if record is not None and record.status == "pruned" and not self._stopping:
            self._store.ledger.drop_pruned([identity])
            return None
        # What failed in an earlier run is tried again, what failed in this one is not.
        if record is None and self.statuses.get(identity) == "failed":
            record = self._store.ledger.failure(identity)
        return record

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune says that a trial is over, in whatever way."""
        ticket = self._live.pop(trial_id, None)
        if ticket is None:
            return
        try:
            record = self._outcome(ticket, None if error else result)
        except Exception as problem:  # noqa: BLE001 - Tune would swallow it and wait for ever
            self._give_up(problem)
            return
        self.statuses[ticket.identity] = record.status
        trained_for, *twins = self._waiting.pop(ticket.identity)
        answered = [source for source in twins if source is not None]
        for source in answered if trained_for is None else (trained_for, *answered):
            source.tell(record)
        self.answers += [(source, record.status) for source in answered]
        spot = self._store.ticket(ticket.identity)
        with suppress(OSError):  # nobody asks for the ticket of a finished trial
            spot.files.remove(spot.name)
        self._leases.give_back(ticket.identity)
        self._tell_finished(ticket, record)

    def _tell_finished(self, ticket: Ticket, record: Record) -> None:
        self._on_event(
            Event(
                kind="finished",
                identity=ticket.identity,
                label=ticket.label,
                seed=ticket.seed,
                status=record.status,
                metrics={k: v for k, v in record.metrics.items() if math.isfinite(v)},
                text=record.error or "",
            )
        )

    def _give_up(self, problem: Exception) -> None:
        """Start nothing more; the sweep raises the problem when what runs has ended."""
        self.error = problem
        self._tickets.clear()
        self._held.clear()
        self._sources.clear()

    def ticket_of(self, trial_id: str) -> Ticket | None:
        """The ticket of a trial that is live in Tune."""
        return self._live.get(trial_id)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher at the start, for a restore that never happens here.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is what a resume starts from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the ledger is what a resume starts from."""
