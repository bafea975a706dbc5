"""How long a run still takes: what its trials take, over the slots that there are.

A trial's cost is estimated before it starts (`plan/cost.py`, in any unit); the seconds of a unit are
measured, over trials that are over and the epochs of those that run. A trial that runs goes on at its own
pace. What waits is handed out in its order, each to the slot that is free first, as the run will do it.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence

_EXACT = 1000
"""Waiting trials that are handed out one by one; more of them fill all slots evenly."""
_OVERDUE = 0.05
"""Of its seconds so far, what a trial is taken to need that takes longer than was expected."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Going:
    """A trial that runs."""

    identity: str
    seconds: float
    """Since its start."""
    part: float
    """Done at its last epoch, 0 to 1."""
    seconds_then: float
    """From its start to that epoch."""


class Eta:
    """What has been learned of a run's trials."""

    def __init__(self) -> None:
        self._costs: dict[str, float] = {}
        self._average = 1.0
        self._ahead: dict[str, float] = {}
        """Costs of trials that have not been started, in their order."""
        self._ahead_units = 0.0
        self._seconds = 0.0
        self._units = 0.0

    def expect(self, costs: Mapping[str, float]) -> None:
        """Estimated costs of trials that will be started in this order."""
        self._costs |= costs
        self._average = sum(self._costs.values()) / len(self._costs) if self._costs else 1.0
        self._ahead |= costs
        self._ahead_units = sum(self._ahead.values())

    def start(self, identity: str) -> None:
        """A trial has been started."""
        self._ahead_units -= self._ahead.pop(identity, 0.0)

    def finish(self, identity: str, seconds: float, part: float) -> None:
        """A trial is over, after `part` of its epochs; one that failed teaches nothing (0)."""
        self.start(identity)
        if part > 0:
            self._seconds += seconds
            self._units += part * self._cost(identity)

    def remaining(self, running: Iterable[Going], left: int, slots: int) -> float | None:
        """Estimated seconds until `left` trials, the running ones included, are done; never negative. None
        where there is no slot, or no trial to learn from: none is over and none has done an epoch."""
        going = list(running)
        if left <= 0:
            return 0.0
        seconds = self._seconds + sum(one.seconds_then for one in going if one.part > 0)
        units = self._units + sum(one.part * self._cost(one.identity) for one in going)
        if units <= 0 or slots < 1:
            return None
        rate = seconds / units
        rests = [_rest(one, rate * self._cost(one.identity)) for one in going]
        waiting = max(0, left - len(going))
        busy = [*rests, *[0.0] * (slots - len(rests))]
        if waiting > _EXACT:
            unknown = max(0, waiting - len(self._ahead)) * self._average
            return max(*busy, (sum(busy) + rate * (self._ahead_units + unknown)) / len(busy))
        known = list(itertools.islice(self._ahead.values(), waiting))
        costs = [*known, *[self._average] * (waiting - len(known))]
        return handed_out([rate * cost for cost in costs], busy)

    def _cost(self, identity: str) -> float:
        """A search's samples have no estimate; they are taken to be like the others."""
        found = self._costs.get(identity)
        return self._average if found is None else found


def handed_out(seconds: Iterable[float], busy: Sequence[float]) -> float:
    """Seconds until the last trial is done, where each goes to the slot that is free first; `busy`: seconds
    until each slot is free."""
    slots = list(busy)
    heapq.heapify(slots)
    for one in seconds:
        heapq.heapreplace(slots, slots[0] + one)
    return max(slots)


def _rest(one: Going, expected: float) -> float:
    """Seconds that a running trial still takes; `expected`: what it takes in all, before its first epoch."""
    if one.part >= 1:
        return 0.0
    whole = one.seconds_then / one.part if one.part > 0 else expected
    left = whole - one.seconds
    return left if left > 0 else _OVERDUE * one.seconds
