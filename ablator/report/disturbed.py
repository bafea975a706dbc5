"""Trials that were disturbed: what ended their earlier starts, and what else happened to them, in short."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from ablator.contracts.record import Record, Retry, retries_text

_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disturbed:
    """One such trial."""

    label: str
    """Of its row; a trial that two rows share is named with the first."""
    seed: int
    attempts: int
    """How often it was started."""
    retries: tuple[Retry, ...]
    """What ended each start but the last one; the latest 20."""
    incidents: tuple[str, ...]
    """What else happened."""


def disturbed(rows: Iterable[tuple[str, Mapping[int, Record]]]) -> tuple[Disturbed, ...]:
    """Those among the rows' (label, records by seed)."""
    found: dict[str, Disturbed] = {}
    for label, records in rows:
        for seed, record in records.items():
            if (record.retries or record.incidents) and record.identity not in found:
                found[record.identity] = Disturbed(
                    label=label,
                    seed=seed,
                    attempts=record.attempts,
                    retries=record.retries,
                    incidents=record.incidents,
                )
    return tuple(found.values())


def disturbed_line(found: Sequence[Disturbed]) -> str:
    """All of them in a line; the first five by name."""
    named = []
    for one in found[:_SHOWN]:
        starts = f", {one.attempts} starts" if one.retries else ""
        events = "; ".join([*([retries_text(one.retries)] if one.retries else []), *one.incidents])
        named.append(f"{one.label}, seed {one.seed}{starts} ({events})")
    more = [f"and {len(found) - _SHOWN} more trials"] if len(found) > _SHOWN else []
    return f"Disturbed: {'; '.join([*named, *more])}."
