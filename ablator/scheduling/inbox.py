"""What passes between a slot's workers and whoever follows its trials. Knows no Ray, only asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import Any

# How long one call waits before it answers "nothing yet"; bounds what a dead caller can hold.
_POLL_S = 5.0
_REMEMBERED = 16


class _Assignment:
    """A ticket that the slot works on, and everything that its workers said about it."""

    def __init__(self, ticket: dict[str, Any]) -> None:
        self.ticket = ticket
        self.attempts = 0
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
        self._assignment: _Assignment | None = None
        self._ended: OrderedDict[str, _Assignment] = OrderedDict()
        self.ended = 0
        """Trials that came to an end here, in whatever way."""
        self._changed = asyncio.Event()
        self._closing = False
        self._broken: str | None = None

    async def assign(self, ticket: dict[str, Any]) -> str:
        """Give the slot a trial: `"taken"`, `"busy"`, or why it can take none any more."""
        if self._broken is not None:
            return self._broken
        current = self._assignment
        if current is not None and not current.done:
            return "taken" if current.ticket["identity"] == ticket["identity"] else "busy"
        self._assignment = _Assignment(ticket)
        self._notify()
        return "taken"

    async def vacant(self) -> bool:
        """Whether a trial may be put in; waits a while for that, so that nobody has to
        ask again and again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _POLL_S
        while not self._is_vacant() and loop.time() < end:
            await self._wait()
        return self._is_vacant()

    def _is_vacant(self) -> bool:
        # Of a broken slot `assign` says what is wrong.
        return self._broken is not None or self._assignment is None or self._assignment.done

    async def take(self) -> dict[str, Any] | None:
        """The next trial, for rank 0 of the workers; waits for one. An unfinished trial is given again
        to workers that come back from the dead, up to the allowed attempts. None: the slot closes."""
        while True:
            if self._closing:
                return None
            current = self._assignment
            if current is not None and not current.done:
                if current.attempts < self._max_attempts:
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

    async def follow(self, identity: str, seen: int) -> list[dict[str, Any]] | str:
        """Events of the trial after the first `seen`, waiting a while for one; a text where the slot
        cannot say more about this trial."""
        current = self._ended.get(identity) or self._current(identity)
        if current is None:
            return self._broken or f"slot {self.number} does not know this trial any more"
        current.acknowledged = seen
        self._notify()
        if len(current.events) <= seen:
            await self._wait()
        if self._broken is not None and not current.done:
            return self._broken
        return current.events[seen:]

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
