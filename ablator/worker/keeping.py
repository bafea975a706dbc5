"""Keeping what was trained in a store that may take nothing for a while; setting aside what is damaged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.results.store import Store
from ablator.training.checkpoint import verify
from ablator.training.kept import keep_weights

_log = logging.getLogger("ablator.worker")
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between two tries; a minute in all."""


class NotKeptError(StoreError):
    """The store took nothing, in all that time."""


def patiently(keep: Callable[[], object]) -> None:
    """Call `keep` until it raises no StoreError, for a minute. Raises NotKeptError with the last text."""
    for wait in (*_WAITS_S, None):
        try:
            keep()
            return
        except StoreError as error:
            if wait is None:
                raise NotKeptError(str(error)) from error
            _log.warning("%s; tried again in %g s", error, wait)
            time.sleep(wait)


def keep_record(store: Store, record: Record, *, weights: bool) -> None:
    """Commit a trial's record, and its weights first if they are to be kept: a trial that has its record has
    them as well. Then its checkpoints are removed. Raises NotKeptError."""
    identity = record.identity

    def keep() -> None:
        if weights:
            checkpoint, to = store.checkpoint(identity), store.weights(identity)
            keep_weights(checkpoint, to, identity, int(record.cost["steps"]))
            store.publish(to)
        store.ledger.commit(record)

    patiently(keep)
    # The trial has its record: what is left of it harms nobody.
    with suppress(StoreError):
        store.remove(store.checkpoints(identity))


def set_damage_aside(store: Store, identity: str) -> bool:
    """Whether the trial had a checkpoint that is damaged; it is in the quarantine then."""
    if store.remote:  # which compares checksums itself
        return False
    try:
        verify(store.checkpoint(identity))
    except StoreError:
        # Where it cannot be moved the trial fails by its name.
        with suppress(StoreError):
            store.set_aside(identity)
            return True
    return False
