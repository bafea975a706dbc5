"""What passes between a slot's workers and whoever follows its trials. Knows no Ray, only asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import Any

# How long one call waits before it answers "nothing yet"; bounds what a dead caller can hold.
_POLL_S = 5.0
_REMEMBERED = 16
_MOST_EXCUSED = 16


class _Assignment:
    """A ticket that the slot works on, and everything that its workers said about it."""

    def __init__(self, ticket: dict[str, Any], attempts: int) -> None:
        self.ticket = ticket
        self.attempts = attempts
        self.excused: set[int] = set()
        """Attempts that ended for a reason that is not the trial's, at most 16 of them."""
        self.events: list[dict[str, Any]] = []
        self.acknowledged = 0
        self.abandoned = False
        self.done = False


class Inbox:
    """One trial at a time: given with `assign`, worked on between `take` and `finish`, watched with `follow`.

    All coroutines run on one event loop, so the state needs no lock.
    """

    def __init__(self, number: int, *, lockstep: bool, max_attempts: int) -> None:
        self.number = number
        self._lockstep = lockstep
        self._max_attempts = max_attempts
        self.worker: str | None = None
        """Who takes trials here; None while workers are starting, or starting again."""
        self._assignment: _Assignment | None = None
        self._ended: OrderedDict[str, _Assignment] = OrderedDict()
        self.ended = 0
        """Trials that came to an end here, in whatever way."""
        self._changed = asyncio.Event()
        self._closing = False
        self._broken: str | None = None

    async def assign(self, ticket: dict[str, Any], attempts: int = 0) -> str:
        """Give the slot a trial that was started so often before: `"taken"`, `"busy"`, `"starting"` while
        there is no worker to train it, or why the slot can take none any more."""
        if self._broken is not None:
            return self._broken
        current = self._assignment
        if current is not None and not current.done:
            return "taken" if current.ticket["identity"] == ticket["identity"] else "busy"
        if self.worker is None:
            return "starting"
        self._assignment = _Assignment(ticket, attempts)
        self._notify()
        return "taken"

    async def vacant(self) -> bool:
        """Whether the slot would take a trial, or is broken, of which `assign` says why; waits a while for
        either, so that nobody has to ask again and again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _POLL_S
        while not (found := self._broken is not None or await self.free()) and loop.time() < end:
            await self._wait()
        return found

    async def holds(self, identity: str) -> bool:
        """Whether that trial was given to this slot and has not come to an end."""
        return self._current(identity) is not None

    async def free(self) -> bool:
        """Whether the slot would take a trial at once."""
        taken = self._assignment is not None and not self._assignment.done
        return self._broken is None and self.worker is not None and not taken

    async def take(self, worker: str) -> dict[str, Any] | None:
        """The next trial, for rank 0 of the workers, whose name is `worker`; waits for one. An unfinished
        trial is given again to workers that come back from the dead, up to the allowed attempts. None: the
        slot closes, or the worker that asked is not the one that counts any more."""
        self.worker = worker
        self._notify()
        while True:
            if self._closing or self.worker != worker:
                return None
            current = self._assignment
            if current is not None and not current.done:
                if current.attempts - len(current.excused) < self._max_attempts:
                    current.attempts += 1
                    if current.attempts > 1:
                        current.events.append({"retried": current.attempts})
                        self._notify()
                    return {"ticket": current.ticket, "attempts": current.attempts}
                await self.finish(
                    current.ticket["identity"],
                    {"status": "lost", "error": f"its worker died {current.attempts} times"},
                )
            await self._wait()

    async def mourn(self, worker: str) -> None:
        """That worker is dead."""
        if self.worker == worker:
            self.worker = None
            self._notify()

    async def withdraw(self, identity: str) -> int | None:
        """Take a trial back that nobody trains, to give it to another slot: how often it was started here
        and before. None where it is being trained, or has come to an end."""
        current = self._current(identity)
        if current is None or self.worker is not None:
            return None
        self._assignment = None
        return current.attempts - len(current.excused)

    async def report(self, identity: str, row: dict[str, float]) -> bool:
        """One epoch is done; False tells the worker to leave this trial."""
        current = self._current(identity)
        if current is None or current.abandoned:
            return False
        current.events.append({"row": row})
        self._notify()
        while self._lockstep and current.acknowledged < len(current.events) and not current.abandoned:
            await self._wait()
        return not current.abandoned

    async def excuse(self, identity: str, attempt: int) -> None:
        """The trial's workers end now and want it again; up to 16 times this does not count as an attempt."""
        current = self._current(identity)
        if current is not None and len(current.excused) < _MOST_EXCUSED:
            current.excused.add(attempt)

    async def finish(self, identity: str, summary: dict[str, Any]) -> None:
        """The trial is over and, unless its worker died, its record is committed."""
        current = self._current(identity)
        if current is not None:
            current.events.append({"finished": {**summary, "attempts": current.attempts}})
            current.done = True
            self.ended += 1
            # Whoever follows this trial may ask for its end after the slot has taken the next one.
            self._ended[identity] = current
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            self._notify()

    async def follow(self, identity: str, seen: int) -> list[dict[str, Any]] | str | None:
        """Events of the trial after the first `seen`, waiting a while for one; None where there are none and
        nobody trains it, as its worker died; a text where the slot cannot say more about this trial."""
        current = self._ended.get(identity) or self._current(identity)
        if current is None:
            return self._broken or f"slot {self.number} does not know this trial any more"
        current.acknowledged = seen
        self._notify()
        if len(current.events) <= seen:
            await self._wait()
        if self._broken is not None and not current.done:
            return self._broken
        new = current.events[seen:]
        return None if not new and self.worker is None and not current.done else new

    async def abandon(self, identity: str) -> None:
        """The trial's result is not wanted any more (early stopping); its worker stops at the next epoch."""
        current = self._current(identity)
        if current is not None:
            current.abandoned = True
            self._notify()

    async def close(self) -> None:
        """Let the workers end after what they are doing."""
        self._closing = True
        if self._assignment is not None:
            self._assignment.abandoned = True
        self._notify()

    def _current(self, identity: str) -> _Assignment | None:
        current = self._assignment
        if current is None or current.done or current.ticket["identity"] != identity:
            return None
        return current

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self) -> None:
        # The event is taken before anything else can run, so that no change between the caller's look
        # at the state and this wait is missed.
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), _POLL_S)
