"""How often a trial was started, and what ended each start: a small file beside its checkpoint.

It is there from the first start until the trial's record is, whatever dies in between, and the next start
says what ended the one before it. It is no promise: where it cannot be written or read, a record says less.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from contextlib import suppress
from typing import Any

from ablator.contracts.record import End, Retry, is_retry
from ablator.contracts.settings import as_plain
from ablator.results.durable import canonical_json
from ablator.results.files import Spot
from ablator.results.store import Store
from ablator.worker.watchdog import stalls

_PATIENCE_S = 5.0
_MOST_BYTES = 2**20
_KEPT = 20
_MOST_EXCUSED = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a trial. All its workers are given the same."""

    number: int = 1
    """Counts from 1, over all runs."""
    retries: tuple[Retry, ...] = ()
    """What ended the starts before it; the latest 20."""
    accumulate: int | None = None
    """What `train.accumulate` must be for a step to fit into memory; None: as the spec says."""
    aside: int = 0
    """How often its checkpoint was damaged and set aside."""

    @property
    def excusable(self) -> bool:
        """Whether it may end for a reason that is not the trial's without counting: up to 16 may."""
        spared = [retry for retry in self.retries if retry.ended in ("notice", "out of memory")]
        return len(spared) < _MOST_EXCUSED


@dataclasses.dataclass(kw_only=True)
class _Notes:
    run: str = ""
    number: int = 0
    stalls: int = 0
    accumulate: int | None = None
    aside: int = 0
    ended: End | None = None
    """What ended the latest start, where it could say so itself."""
    when: float = 0.0
    retries: tuple[Retry, ...] = ()


class History:
    """The history of a trial, in the run named `run`. What is asked of the store is asked once."""

    def __init__(self, store: Store, identity: str, run: str = "") -> None:
        self._spot, self._folder = store.starts(identity), store.checkpoints(identity)
        self._run = run

    def begin(self, attempts: int, *, aside: bool = False) -> Start:
        """Note a start, which is number `attempts` of those that the slot has given; `aside` where the
        checkpoint was damaged and set aside."""
        notes = _read(self._spot)
        if notes.number:
            ended = self._ended(notes, attempts)
            when = notes.when if notes.ended else time.time()
            notes.retries = (*notes.retries, Retry(ended=ended, when=when))[-_KEPT:]
        notes = dataclasses.replace(
            notes,
            run=self._run,
            number=max(notes.number + 1, attempts),
            stalls=stalls(self._folder),
            aside=notes.aside + aside,
            ended=None,
        )
        _write(self._spot, notes)
        return Start(
            number=notes.number,
            retries=notes.retries,
            accumulate=notes.accumulate,
            aside=notes.aside,
        )

    def goes_on(self, start: Start, epoch: int) -> Start:
        """Note that a start has found a checkpoint with so many finished epochs."""
        if not start.retries or epoch == 0:
            return start
        retries = (*start.retries[:-1], dataclasses.replace(start.retries[-1], epoch=epoch))
        _write(self._spot, dataclasses.replace(_read(self._spot), retries=retries))
        return dataclasses.replace(start, retries=retries)

    def end(self, ended: End, accumulate: int | None = None) -> None:
        """Note what ended the latest start, and the `accumulate` of the next one where it must be another."""
        notes = dataclasses.replace(_read(self._spot), ended=ended, when=time.time())
        if accumulate is not None:
            notes.accumulate = accumulate
        _write(self._spot, notes)

    def so_far(self) -> tuple[int, tuple[Retry, ...]]:
        """How many starts there were, and what ended each but the latest."""
        notes = _read(self._spot)
        return max(notes.number, 1), notes.retries

    def lost(self, attempts: int) -> tuple[int, tuple[Retry, ...]]:
        """Of a trial that is given up after `attempts` starts: how many there were in all, and what ended
        each, the last one included."""
        notes = _read(self._spot)
        if not notes.number:
            return attempts, ()
        last = Retry(ended=self._ended(notes, 2), when=notes.when if notes.ended else time.time())
        return max(notes.number, attempts), (*notes.retries, last)[-_KEPT:]

    def _ended(self, notes: _Notes, attempts: int) -> End:
        if notes.ended is not None:
            return notes.ended
        if stalls(self._folder) > notes.stalls:
            return "hung"
        if notes.run != self._run:
            return "another run"
        # A slot that has it for the first time was given it because the one that had it is gone.
        return "worker died" if attempts > 1 else "slot died"


def aside_text(count: int) -> str:
    """What a record says of damaged checkpoints."""
    times = "once" if count == 1 else f"{count} times"
    return f"its checkpoint was damaged {times} and set aside, and it was trained from its beginning again"


def _write(spot: Spot, notes: _Notes) -> None:
    # A full disk, or a store that is away, must not end a trial.
    with suppress(OSError):
        spot.files.write(spot.name, canonical_json(as_plain(notes)), synced=False, patience=_PATIENCE_S)


def _read(spot: Spot) -> _Notes:
    try:
        said = json.loads(spot.files.read(spot.name, _MOST_BYTES))
        return _parsed(said)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return _Notes()


def _parsed(said: dict[str, Any]) -> _Notes:
    """Raises ValueError, TypeError or KeyError for what `_write` did not write."""
    retries = said.pop("retries")
    notes = _Notes(**said)
    numbers = (notes.number, notes.stalls, notes.aside, 1 if notes.accumulate is None else notes.accumulate)
    sound = all(type(number) is int and 0 <= number < 2**31 for number in numbers)
    sound = sound and isinstance(notes.run, str) and isinstance(retries, list) and len(retries) <= _KEPT
    sound = sound and type(notes.when) is float and math.isfinite(notes.when)
    if not sound or not all(map(is_retry, retries)) or notes.accumulate == 0:
        raise ValueError("not a history")
    if notes.ended is not None and not is_retry({"ended": notes.ended, "when": 0.0, "epoch": 0}):
        raise ValueError("not a history")
    notes.retries = tuple(Retry(**retry) for retry in retries)
    return notes
