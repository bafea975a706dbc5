"""The time that is left holds: over whole runs of simulated trials, at any moment of them."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablator.contracts.events import Event
from ablator.plan.cost import longest_first
from ablator.report.eta import Eta, Going, handed_out
from ablator.report.live import Progress

EPOCHS = 10


def events(seconds: dict[str, float], slots: int) -> Iterator[tuple[float, Event]]:
    """What a run of these trials tells, by time: each goes to the slot that is free first."""
    free = [(0.0, slot) for slot in range(slots)]
    heapq.heapify(free)
    told: list[tuple[float, int, Event]] = []
    for order, (identity, took) in enumerate(seconds.items()):
        start, slot = heapq.heappop(free)
        heapq.heappush(free, (start + took, slot))
        told.append((start, order, Event(kind="started", identity=identity, slot=slot)))
        told += [
            (
                min(start + took * epoch / EPOCHS, start + took),
                order,
                Event(kind="epoch", identity=identity, slot=slot, epoch=epoch, epochs=EPOCHS),
            )
            for epoch in range(1, EPOCHS + 1)
        ]
        told.append((start + took, order, Event(kind="finished", identity=identity, status="completed")))
    yield from ((at, event) for at, _, event in sorted(told, key=lambda one: one[:2]))


def estimates(
    seconds: dict[str, float], slots: int, costs: dict[str, float] | None
) -> list[tuple[float, float | None]]:
    """(part of the run that is over, estimate over what was really left) at every hundredth of it."""
    clock = [0.0]
    progress = Progress(len(seconds), 0, clock=lambda: clock[0])
    progress.take(Event(kind="slots", slot=slots))
    if costs is not None:
        progress.take(Event(kind="costs", costs=costs))
    told = list(events(seconds, slots))
    end = told[-1][0]
    found: list[tuple[float, float | None]] = []
    for hundredth in range(100):
        clock[0] = end * hundredth / 100
        while told and told[0][0] <= clock[0]:
            at, event = told.pop(0)
            now, clock[0] = clock[0], at
            progress.take(event)
            clock[0] = now
        left = progress.remaining_seconds()
        assert left is None or left >= 0
        found.append((hundredth / 100, None if left is None else left / (end - clock[0])))
    return found


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_with_estimated_costs_the_time_left_is_right_within_a_third(slots: int) -> None:
    rng = random.Random(slots)
    costs = {f"t{i}": rng.choice([1.0, 2.0, 8.0]) for i in range(24)}
    costs = dict(longest_first(costs.items(), lambda item: item[1]))
    seconds = {name: 7.0 * cost * rng.uniform(0.85, 1.15) for name, cost in costs.items()}
    known = [(at, ratio) for at, ratio in estimates(seconds, slots, costs) if ratio is not None]
    assert known[0][0] < 0.15, "there is a basis soon"
    assert all(2 / 3 < ratio < 4 / 3 for at, ratio in known if at <= 0.9), known


def test_without_costs_it_is_right_within_a_third_where_trials_are_alike() -> None:
    rng = random.Random(0)
    seconds = {f"t{i}": rng.uniform(25.0, 35.0) for i in range(20)}
    known = [ratio for at, ratio in estimates(seconds, 3, None) if ratio is not None and at <= 0.9]
    assert all(2 / 3 < ratio < 4 / 3 for ratio in known), known


def test_one_long_trial_that_is_left_is_not_said_to_be_short() -> None:
    # Two short trials beside a long one, on two slots: the short ones' seconds say nothing of its own.
    seconds = {"long": 600.0, "short": 10.0, "other": 10.0}
    known = [ratio for at, ratio in estimates(seconds, 2, None) if ratio is not None and at >= 0.1]
    assert known
    assert all(3 / 4 < ratio < 4 / 3 for ratio in known), known
    costs = {"long": 60.0, "short": 1.0, "other": 1.0}
    early = [ratio for at, ratio in estimates(seconds, 2, costs) if ratio is not None and at >= 0.02]
    assert all(3 / 4 < ratio < 4 / 3 for ratio in early), early


def test_nothing_is_said_before_there_is_a_basis() -> None:
    eta = Eta()
    eta.expect({"a": 2.0, "b": 1.0})
    eta.start("a")
    going = Going(identity="a", seconds=10.0, part=0.0, seconds_then=0.0)
    assert eta.remaining([going], left=2, slots=1) is None
    eta.finish("a", 3.0, 0.0)
    assert eta.remaining([], left=1, slots=1) is None, "one that failed teaches nothing"
    going = Going(identity="b", seconds=10.0, part=0.5, seconds_then=8.0)
    assert eta.remaining([going], left=1, slots=0) is None, "no slot"
    assert eta.remaining([going], left=1, slots=1) == pytest.approx(6.0)
    assert eta.remaining([], left=0, slots=1) == 0.0


def test_a_trial_that_is_late_still_has_some_time_left() -> None:
    eta = Eta()
    eta.finish("a", 10.0, 1.0)
    late = Going(identity="b", seconds=100.0, part=0.0, seconds_then=0.0)
    found = eta.remaining([late], left=1, slots=1)
    assert found is not None
    assert found > 0


def test_thousands_of_waiting_trials_are_spread_evenly() -> None:
    eta = Eta()
    costs = {f"t{i}": 1.0 + i % 3 for i in range(3000)}
    eta.expect(costs)
    eta.finish("t0", 5.0, 1.0)
    exact = handed_out([5.0 * cost for cost in list(costs.values())[1:]], [0.0] * 7)
    assert eta.remaining([], left=2999, slots=7) == pytest.approx(exact, rel=0.01)


costs = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=30)


@settings(deadline=None)
@given(costs=costs, slots=st.integers(1, 8), over=st.integers(0, 5), part=st.floats(0.01, 1.0))
def test_it_lies_between_the_longest_part_and_all_the_work(
    costs: list[float], slots: int, over: int, part: float
) -> None:
    eta = Eta()
    eta.expect({str(i): cost for i, cost in enumerate(costs)})
    for i in range(min(over, len(costs))):
        eta.finish(str(i), 2.0 * costs[i], 1.0)
    left = costs[over:]
    going = []
    if left and part > 0:
        eta.start(str(over))
        then = 2.0 * left[0] * part
        going = [Going(identity=str(over), seconds=then, part=part, seconds_then=then)]
    found = eta.remaining(going, left=len(left), slots=slots)
    if found is None:
        assert over == 0
        return
    assert 0.0 <= found <= 2.0 * sum(left) * 1.1 + 1e-6
    assert found >= 2.0 * max(left[1:], default=0.0) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("costs", "slots"),
    [
        ([1, 1, 10], 2),
        ([1, 2, 3, 4, 20], 3),
        ([2, 2, 2, 2, 2, 2, 9], 2),
        ([5, 5, 5, 5], 2),
        ([1, 8, 1, 8, 1, 8, 1, 8, 30], 4),
    ],
)
def test_the_longest_first_end_no_later_than_in_the_order_of_the_plan(costs: list[int], slots: int) -> None:
    planned, longest = (handed_out(order, [0.0] * slots) for order in (costs, longest_first(costs, float)))
    assert longest <= planned


@settings(deadline=None)
@given(costs=st.lists(st.integers(1, 50), min_size=1, max_size=6), slots=st.integers(1, 3))
def test_the_longest_first_end_within_a_third_of_the_best(costs: list[int], slots: int) -> None:
    order = longest_first(costs, float)
    assert sorted(order) == sorted(costs), "every trial once"
    # Graham's bound, against the best of all ways to share the trials out.
    best = min(
        max(sum(c for c, at in zip(costs, where, strict=True) if at == slot) for slot in range(slots))
        for where in itertools.product(range(slots), repeat=len(costs))
    )
    assert handed_out(order, [0.0] * slots) <= (4 / 3 - 1 / (3 * slots)) * best + 1e-9


def test_trials_of_the_same_cost_stay_in_their_order() -> None:
    trials = [("a", 1.0), ("b", 2.0), ("c", 1.0), ("d", 2.0)]
    assert [name for name, _ in longest_first(trials, lambda one: one[1])] == ["b", "d", "a", "c"]
