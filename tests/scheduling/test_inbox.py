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


def attended(*, lockstep: bool = False, max_attempts: int = 3) -> Inbox:
    """An inbox whose worker is there and trains, or is about to ask for a trial."""
    box = Inbox(0, lockstep=lockstep, max_attempts=max_attempts)
    box.worker = "worker"
    return box


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_S", 0.05)


def test_a_trial_passes_from_assign_to_finish() -> None:
    async def story() -> None:
        box = attended(lockstep=False, max_attempts=3)
        waiting = asyncio.create_task(box.take("worker"))
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
        box = attended(lockstep=False, max_attempts=3)
        await box.assign(ticket("a"))
        assert await box.assign(ticket("b")) == "busy"
        assert await box.assign(ticket("a")) == "taken", "whoever followed it died and asks again"
        await box.take("worker")
        await box.finish("a", {"status": "completed"})
        assert await box.assign(ticket("b")) == "taken"

    run(story())


def test_the_end_of_a_trial_is_told_after_the_next_one_has_begun() -> None:
    async def story() -> None:
        box = attended(lockstep=False, max_attempts=3)
        await box.assign(ticket("a"))
        await box.take("worker")
        await box.finish("a", {"status": "completed"})
        await box.assign(ticket("b"))
        assert "finished" in (await box.follow("a", 0))[0]

    run(story())


def test_workers_that_come_back_get_the_unfinished_trial_until_the_attempts_are_spent() -> None:
    async def story() -> None:
        box = attended(lockstep=False, max_attempts=2)
        await box.assign(ticket("a"))
        assert (await box.take("worker"))["attempts"] == 1
        assert (await box.take("worker"))["attempts"] == 2, "its first worker died"
        lost = asyncio.create_task(box.take("worker"))
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
        box = attended(lockstep=True, max_attempts=2)
        await box.assign(ticket("a"))
        await box.take("worker")
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
        box = attended(lockstep=True, max_attempts=2)
        await box.assign(ticket("a"))
        await box.take("worker")
        reporting = asyncio.create_task(box.report("a", {"epoch": 1.0}))
        await box.follow("a", 0)
        await box.abandon("a")
        assert await reporting is False
        assert await box.report("other", {"epoch": 1.0}) is False

    run(story())


def test_a_closed_inbox_sends_its_workers_home() -> None:
    async def story() -> None:
        box = attended(lockstep=False, max_attempts=2)
        waiting = asyncio.create_task(box.take("worker"))
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
        box = attended(max_attempts=2)
        await box.assign(ticket("a"))
        for attempt in range(1, 17):
            assert (await box.take("worker"))["attempts"] == attempt
            for _ in range(2):  # each of several workers says so
                await box.excuse("a", attempt)
        assert (await box.take("worker"))["attempts"] == 17
        await box.excuse("a", 17)
        assert (await box.take("worker"))["attempts"] == 18, "the second that counts"
        lost = asyncio.create_task(box.take("worker"))
        events = await box.follow("a", 17)
        while not events:
            events = await box.follow("a", 17)
        assert events[-1]["finished"]["status"] == "lost"
        lost.cancel()

    run(story())


def test_an_excused_attempt_does_not_count_in_another_slot_either() -> None:
    async def story() -> None:
        box = attended()
        await box.assign(ticket("a"))
        await box.take("worker")
        await box.excuse("a", 1)
        await box.mourn("worker")
        assert await box.withdraw("a") == 0

    run(story())


def test_a_slot_without_a_worker_takes_no_trial() -> None:
    async def story() -> None:
        box = Inbox(0, lockstep=False, max_attempts=2)
        assert await box.assign(ticket("a")) == "starting"
        waiting = asyncio.create_task(box.take("first"))
        await asyncio.sleep(0)
        assert await box.free()
        await box.mourn("first")
        assert not await box.free()
        assert await box.assign(ticket("a")) == "starting"
        assert await waiting is None, "a dead worker takes nothing"
        second = asyncio.create_task(box.take("second"))
        await asyncio.sleep(0)
        await box.mourn("first")
        assert await box.assign(ticket("a")) == "taken", "the old worker's death is no news of the new one"
        assert (await second)["attempts"] == 1

    run(story())


def test_a_trial_whose_worker_died_moves_to_a_slot_that_is_free() -> None:
    async def story() -> None:
        box, other = attended(), attended()
        await box.assign(ticket("a"))
        await box.take("worker")
        assert await box.report("a", {"epoch": 1.0})
        assert await box.withdraw("a") is None, "it is being trained"
        following = asyncio.create_task(box.follow("a", 1))
        await asyncio.sleep(0)
        await box.mourn("worker")
        assert await following is None
        attempts = await box.withdraw("a")
        assert attempts == 1
        assert await other.assign(ticket("a"), attempts) == "taken"
        assert (await other.take("worker"))["attempts"] == 2, "starts are counted over all slots"
        assert (await other.follow("a", 0)) == [{"retried": 2}]
        returned = asyncio.create_task(box.take("again"))
        await asyncio.sleep(0)
        assert not returned.done(), "workers that come back find their old trial gone"
        assert await box.free()
        await box.close()
        assert await returned is None

    run(story())


def test_who_asks_whether_a_slot_is_vacant_is_answered_when_it_is() -> None:
    async def case() -> None:
        box = Inbox(0, lockstep=False, max_attempts=2)
        asking = asyncio.create_task(box.vacant())
        await asyncio.sleep(0)
        assert not asking.done(), "no worker is there yet"
        taking = asyncio.create_task(box.take("w"))
        assert await asyncio.wait_for(asking, 5)
        await box.assign(ticket("a"))
        await taking
        assert await box.holds("a")
        asking = asyncio.create_task(box.vacant())
        await asyncio.sleep(0)
        assert not asking.done()
        await box.finish("a", {"status": "completed"})
        assert await asyncio.wait_for(asking, 5)
        assert not await box.holds("a")

    asyncio.run(case())


def test_a_broken_slot_says_so_to_who_waits_for_it() -> None:
    async def case() -> None:
        box = Inbox(0, lockstep=False, max_attempts=2)
        box._broken = "slot 0 lost its workers"
        assert await box.vacant()
        assert await box.assign(ticket("a")) == "slot 0 lost its workers"

    asyncio.run(case())
