"""What trials start from: which trained weights the store has, and what must be trained for the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ablator.plan.searching import SearchPlan
from ablator.plan.trial import Start, Trial
from ablator.results.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """A trial that must be trained for its weights before others can start from them."""

    start: Start
    recorded: bool
    """Whether it has its record already, which stays: it is trained again for the weights alone."""
    depth: int
    """How many other needs it waits for, one after the other."""


def starts_of(trials: Iterable[Trial], searches: Iterable[SearchPlan] = ()) -> dict[str, Start]:
    """By identity, what `trials`, and points of `searches` whichever are drawn, start from."""
    found = [trial.start for trial in trials if trial.start is not None]
    found += [start for search in searches for start in search.starts]
    return {start.trial.identity: start for start in found}


def needs_of(starts: Iterable[Start], store: Store) -> dict[str, Need]:
    """By identity, which of `starts`, and of what these start from, must be trained for their weights; what
    must come first stands first. A diverged trial has none to give: who starts from it fails by itself.

    Raises StoreError where a record is damaged.
    """
    found: dict[str, Need] = {}
    for start in starts:
        _add(start, store, found)
    return found


def _add(start: Start, store: Store, found: dict[str, Need]) -> int:
    """Add the start, if it is a need; how many needs who starts from it waits for."""
    identity = start.trial.identity
    if identity in found:
        return found[identity].depth + 1
    record = store.ledger.get(identity)
    status = "" if record is None else record.status
    if status == "diverged" or (status == "completed" and store.has(store.weights(identity))):
        return 0
    depth = 0 if start.trial.start is None else _add(start.trial.start, store, found)
    found[identity] = Need(start=start, recorded=status == "completed", depth=depth)
    return depth + 1
