"""The trial as Ray Tune sees it: a light, reused actor that puts a ticket into a slot and passes on
what the slot reports, so that Tune's searchers and early stopping work on it."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import tune

from ablator.results.store import Store
from ablator.scheduling.tickets import read_ticket

_CLAIM_S = 0.02
"""Before a slot that is away or gone is asked again."""
_AWAY_S = 0.5
_HOLDER_S = 1.0
"""At most, for all slots to say whether they have a trial already."""
_QUIET_S = 1.0
"""Without early stopping, epochs are passed on at most this often: each costs the driver time."""


class TrialProxy(tune.Trainable):  # type: ignore[misc]
    """`config`: `trial`, the identity. `slots`, `store` (its address) and `metric` come with the class."""

    def setup(
        self,
        config: dict[str, Any],
        slots: list[Any],
        store: str,
        metric: str,
        every_epoch: bool,
        worst: float,
    ) -> None:
        """Called once per actor by Tune."""
        self._slots = slots
        self._store = Store(store)
        self._metric = metric
        self._every_epoch = every_epoch
        self._worst = worst
        self._new = True
        self._asked: dict[Any, int] = {}
        """Slots that were asked whether they are free and have not answered yet, by reference; of earlier
        trials too."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial; always possible."""
        self.config = new_config
        self._identity: str = new_config["trial"]
        self._slot: int | None = None
        self._seen = 0
        self._last: dict[str, Any] = {}
        return True

    def step(self) -> dict[str, Any]:
        """Wait for news of the trial and give Tune the newest."""
        if self._slot is None:
            self._slot = self._claim(0)
            return self._result({"news": "started"})
        deadline = time.monotonic() + _QUIET_S
        while True:
            events = self._follow()
            if events is None:
                self._move()
                continue
            for event in events:
                self._seen += 1
                if "finished" in event:
                    return self._finish(event["finished"])
                if "retried" in event:
                    return self._result({"news": "retried", "attempts": event["retried"]})
                self._last = event["row"]
                if self._every_epoch:
                    return self._result({"news": "epoch"})
            if events and time.monotonic() > deadline:
                return self._result({"news": "epoch"})

    def _move(self) -> None:
        """The slot has lost its worker. Where another slot is free, give the trial to that one: the lost
        worker may come back soon, or never, if its machine is gone."""
        assert self._slot is not None
        if not any(_asked(slot.free.remote()) for slot in self._slots):
            return
        attempts = _asked(self._slots[self._slot].withdraw.remote(self._identity))
        if attempts is not None:
            self._slot, self._seen = self._claim(attempts), 0

    def _follow(self) -> list[dict[str, Any]] | None:
        assert self._slot is not None
        try:
            answer = ray.get(self._slots[self._slot].follow.remote(self._identity, self._seen))
        except ray.exceptions.ActorUnavailableError:
            # The slot's actor is away for the moment; whether it is gone, the next question tells.
            time.sleep(_AWAY_S)
            return []
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return None if answer is None else list(answer)

    def _claim(self, attempts: int) -> int:
        """Put the ticket, whose trial was started so often before, into a slot that is free, waiting for
        one. All slots are asked at once and answer when they are free: with a hundred of them nobody may go
        round asking."""
        ticket = read_ticket(self._store, self._identity)
        # Several trials that begin at the same time begin with different slots.
        first = int(self._identity[:8], 16) % len(self._slots)
        order = [*range(first, len(self._slots)), *range(first)]
        dead: dict[int, str] = {}
        if (holder := self._holder()) is not None:
            return holder
        while True:
            for number in order:
                if number not in self._asked.values():
                    self._asked[self._slots[number].vacant.remote()] = number
            ready, _ = ray.wait(list(self._asked), num_returns=1)
            number = self._asked.pop(ready[0])
            answer = self._offer(number, ready[0], ticket, attempts)
            if answer == "taken":
                return number
            dead.pop(number, None)
            if answer not in ("busy", "starting"):
                dead[number] = answer
                time.sleep(_CLAIM_S)
            if len(dead) == len(self._slots):
                raise RuntimeError("no slot is alive: " + "; ".join(dead.values()))

    def _holder(self) -> int | None:
        """The slot that has the trial already, because whoever followed it died. Only an actor that is new
        asks: Tune has just started it, maybe for such a trial."""
        if not self._new:
            return None
        self._new = False
        asked = [slot.holds.remote(self._identity) for slot in self._slots]
        # Slots that are still starting hold nothing.
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_HOLDER_S)
        return next((asked.index(answer) for answer in answered if _asked(answer)), None)

    def _offer(self, number: int, vacant: Any, ticket: dict[str, Any], attempts: int) -> str:
        """What the slot says to the ticket (`Inbox.assign`), or why the slot is none any more."""
        try:
            if not ray.get(vacant):
                return "busy"
            return str(ray.get(self._slots[number].assign.remote(ticket, attempts)))
        except ray.exceptions.ActorUnavailableError:
            # Ray is starting the slot again; it is free or gone soon.
            time.sleep(_CLAIM_S)
            return "starting"
        except ray.exceptions.ActorDiedError as error:
            return str(error)

    def _finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        self._last = {**self._last, **summary.get("metrics", {})}
        result = self._result({"news": "finished", "status": summary["status"], "done": True})
        result["error"] = summary.get("error") or ""
        result["attempts"] = summary["attempts"]
        return result

    def _result(self, news: dict[str, Any]) -> dict[str, Any]:
        row = {"slot": self._slot, "trial": self._identity, "curve": dict(self._last), **news}
        row["epoch"] = int(self._last.get("epoch", 0))
        # Early stopping compares every result; a trial without the metric counts as the worst.
        row[self._metric] = float(self._last.get(self._metric, self._worst))
        return row


def _asked(answer: Any) -> Any:
    """What a slot answers; None from one that is gone."""
    try:
        return ray.get(answer)
    except ray.exceptions.RayActorError:
        return None
