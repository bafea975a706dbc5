"""A slot's inbox: one trial at a time, through deaths of workers and late readers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from ablator.scheduling import inbox as module
from ablator.scheduling.inbox import Inbox


def ticket(name: str) -> dict[str, Any]:
    return {"identity": name, "spec": {}, "label": name, "seed": 0}


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_S", 0.05)


def test_a_trial_passes_from_assign_to_finish() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=3)
        waiting = asyncio.create_task(box.take())
        assert await box.assign(ticket("a")) == "taken"
        assert (await waiting) == {"ticket": ticket("a"), "attempts": 1}
        assert await box.report("a", {"epoch": 1.0})
        await box.finish("a", {"status": "completed"})
        events = await box.follow("a", 0)
        assert [next(iter(event)) for event in events] == ["row", "finished"]
        assert events[1]["finished"]["attempts"] == 1

    run(story())


def test_a_busy_slot_takes_no_other_trial_but_knows_its_own() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=3)
        await box.assign(ticket("a"))
        assert await box.assign(ticket("b")) == "busy"
        assert await box.assign(ticket("a")) == "taken", "whoever followed it died and asks again"
        await box.take()
        await box.finish("a", {"status": "completed"})
        assert await box.assign(ticket("b")) == "taken"

    run(story())


def test_the_end_of_a_trial_is_told_after_the_next_one_has_begun() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=3)
        await box.assign(ticket("a"))
        await box.take()
        await box.finish("a", {"status": "completed"})
        await box.assign(ticket("b"))
        assert "finished" in (await box.follow("a", 0))[0]

    run(story())


def test_workers_that_come_back_get_the_unfinished_trial_until_the_attempts_are_spent() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=2)
        await box.assign(ticket("a"))
        assert (await box.take())["attempts"] == 1
        assert (await box.take())["attempts"] == 2, "its first worker died"
        lost = asyncio.create_task(box.take())
        events = await box.follow("a", 1)
        while not events:
            events = await box.follow("a", 1)
        assert events[-1]["finished"]["status"] == "lost"
        assert "died 2 times" in events[-1]["finished"]["error"]
        assert not lost.done(), "the worker waits for the next trial"
        await box.assign(ticket("b"))
        assert (await lost)["ticket"]["identity"] == "b"

    run(story())


def test_lockstep_holds_an_epoch_until_the_follower_wants_more() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=True, max_attempts=2)
        await box.assign(ticket("a"))
        await box.take()
        reporting = asyncio.create_task(box.report("a", {"epoch": 1.0}))
        assert len(await box.follow("a", 0)) == 1
        await asyncio.sleep(0.2)
        assert not reporting.done(), "early stopping has not decided yet"
        asking = asyncio.create_task(box.follow("a", 1))
        assert await reporting is True
        assert await asking == []

    run(story())


def test_an_abandoned_trial_stops_at_its_next_epoch() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=True, max_attempts=2)
        await box.assign(ticket("a"))
        await box.take()
        reporting = asyncio.create_task(box.report("a", {"epoch": 1.0}))
        await box.follow("a", 0)
        await box.abandon("a")
        assert await reporting is False
        assert await box.report("other", {"epoch": 1.0}) is False

    run(story())


def test_a_closed_inbox_sends_its_workers_home() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=2)
        waiting = asyncio.create_task(box.take())
        await asyncio.sleep(0)
        await box.close()
        assert await waiting is None

    run(story())


def test_a_follower_of_an_unknown_trial_is_told_so() -> None:
    async def story() -> None:
        answer = await Inbox(3, lockstep=False, max_attempts=2).follow("nobody", 0)
        assert answer == "slot 3 does not know this trial any more"

    run(story())


def test_an_excused_attempt_does_not_count_but_there_are_only_so_many() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=2)
        await box.assign(ticket("a"))
        for attempt in range(1, 17):
            assert (await box.take())["attempts"] == attempt
            for _ in range(2):  # each of several workers says so
                await box.excuse("a", attempt)
        assert (await box.take())["attempts"] == 17
        await box.excuse("a", 17)
        assert (await box.take())["attempts"] == 18, "the second that counts"
        lost = asyncio.create_task(box.take())
        events = await box.follow("a", 17)
        while not events:
            events = await box.follow("a", 17)
        assert events[-1]["finished"]["status"] == "lost"
        lost.cancel()

    run(story())
