"""Records of trials that were not trained to their end."""

from __future__ import annotations

import time

from ablator.contracts.events import Ticket
from ablator.contracts.record import Record, Retry
from ablator.contracts.secrets import scrubbed


def failed_record(
    ticket: Ticket,
    error: str,
    *,
    attempts: int,
    started: float,
    retries: tuple[Retry, ...] = (),
    versions: dict[str, str] | None = None,
) -> Record:
    """The record of a trial that could not be finished."""
    return Record(
        identity=ticket.identity,
        status="failed",
        spec=ticket.spec,
        # Also told through Ray, whose files are not the ledger's.
        error=scrubbed(error),
        attempts=attempts,
        retries=retries,
        versions=versions or {},
        started=started,
        finished=time.time(),
    )


def pruned_record(
    ticket: Ticket,
    curve: dict[str, float],
    *,
    started: float,
    attempts: int = 1,
    retries: tuple[Retry, ...] = (),
) -> Record:
    """The record of a trial that early stopping ended after the epoch of `curve`."""
    return Record(
        identity=ticket.identity,
        status="pruned",
        spec=ticket.spec,
        metrics={k: v for k, v in curve.items() if k not in ("epoch", "lr")},
        curves=(curve,),
        attempts=attempts,
        retries=retries,
        started=started,
        finished=time.time(),
    )
