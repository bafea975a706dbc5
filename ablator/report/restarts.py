"""Trials that were started more than once: what ended the earlier starts, in short."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from ablator.contracts.record import Record, Retry, retries_text

_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restart:
    """One such trial."""

    label: str
    """Of its row; a trial that two rows share is named with the first."""
    seed: int
    attempts: int
    """How often it was started."""
    retries: tuple[Retry, ...]
    """What ended each start but the last one; the latest 20."""


def restarts(rows: Iterable[tuple[str, Mapping[int, Record]]]) -> tuple[Restart, ...]:
    """Those among the rows' (label, records by seed)."""
    found: dict[str, Restart] = {}
    for label, records in rows:
        for seed, record in records.items():
            if record.retries and record.identity not in found:
                found[record.identity] = Restart(
                    label=label, seed=seed, attempts=record.attempts, retries=record.retries
                )
    return tuple(found.values())


def restarts_line(found: Sequence[Restart]) -> str:
    """All of them in a line; the first five by name."""
    named = [
        f"{one.label}, seed {one.seed}, {one.attempts} starts ({retries_text(one.retries)})"
        for one in found[:_SHOWN]
    ]
    more = [f"and {len(found) - _SHOWN} more trials"] if len(found) > _SHOWN else []
    return f"Started more than once: {'; '.join([*named, *more])}."
