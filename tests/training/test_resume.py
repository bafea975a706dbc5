"""A trial that is interrupted anywhere and started again ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MICRO_BATCHES = [(epoch, micro) for epoch in range(3) for micro in range(8)]


def interrupt_at(toy: Any, places: set[tuple[int, int]]) -> Any:
    """Raise once at each of `places`."""
    left = set(places)

    def fail(epoch: int, micro: int) -> None:
        if (epoch, micro) in left:
            left.remove((epoch, micro))
            raise toy.Interrupted

    return fail


def run_to_the_end(toy: Any, checkpoint: Path, fail: Any, seconds: float = 0, model: Any = None) -> Any:
    """Start the trial again, with a fresh model, as often as it is interrupted."""
    while True:
        try:
            return toy.run(
                toy.FULL,
                model=model or toy.resumable_model,
                checkpoint=checkpoint,
                checkpoint_seconds=seconds,
                fail=fail,
            )
        except toy.Interrupted:
            continue


def assert_same(toy: Any, found: Any, expected: Any) -> None:
    assert toy.digest(found[1]) == toy.digest(expected[1])
    assert found[0].curves == expected[0].curves
    assert found[0].metrics == expected[0].metrics
    assert found[0].cost["steps"] == expected[0].cost["steps"]


@pytest.fixture
def undisturbed(toy: Any) -> Any:
    return toy.run(toy.FULL, model=toy.resumable_model)


@pytest.mark.parametrize("place", MICRO_BATCHES)
def test_interrupted_at_every_micro_batch(
    toy: Any, undisturbed: Any, tmp_path: Path, place: tuple[int, int]
) -> None:
    found = run_to_the_end(toy, tmp_path / "c.pt", interrupt_at(toy, {place}))
    assert_same(toy, found, undisturbed)


@given(places=st.sets(st.sampled_from(MICRO_BATCHES), max_size=5), often=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_interrupted_several_times(
    toy: Any, undisturbed: Any, places: set[tuple[int, int]], often: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        seconds = 0 if often else 1e9
        found = run_to_the_end(toy, Path(folder) / "c.pt", interrupt_at(toy, places), seconds)
    assert_same(toy, found, undisturbed)


def test_a_resumed_trial_repeats_no_saved_step(toy: Any, tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def fail(epoch: int, micro: int) -> None:
        asked.append((epoch, micro))
        if asked.count((1, 5)) == 1 and (epoch, micro) == (1, 5):
            raise toy.Interrupted

    run_to_the_end(toy, tmp_path / "c.pt", fail)
    # Micro-batch 4 opened a step that 5 should have closed: only that step is done again.
    assert [place for place in MICRO_BATCHES if asked.count(place) == 2] == [(1, 4), (1, 5)]


def test_stochastic_depth_of_a_timm_model_resumes_exactly(toy: Any, tmp_path: Path) -> None:
    expected = toy.run(toy.FULL, model=toy.TimmModel)
    found = run_to_the_end(toy, tmp_path / "c.pt", interrupt_at(toy, {(0, 3), (2, 6)}), model=toy.TimmModel)
    assert_same(toy, found, expected)


def test_kill_9_in_another_process(toy: Any, undisturbed: Any, run_child: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pt"
    epoch, micro = random.choice(MICRO_BATCHES[2:])
    [(child, _, errors)] = run_child(["kill", str(checkpoint), str(epoch), str(micro)])
    assert child.returncode == -9, errors
    assert checkpoint.exists()
    found = toy.run(toy.FULL, model=toy.resumable_model, checkpoint=checkpoint)
    assert_same(toy, found, undisturbed)


def test_stopped_by_on_progress_then_resumed(toy: Any, undisturbed: Any, tmp_path: Path) -> None:
    options = {"model": toy.resumable_model, "checkpoint": tmp_path / "c.pt"}
    stopped, _ = toy.run(toy.FULL, on_progress=lambda progress: progress.epoch < 2, **options)
    assert stopped.status == "stopped"
    assert [row["epoch"] for row in stopped.curves] == [1, 2]
    assert stopped.metrics["top1"] == stopped.curves[-1]["top1"]

    seen: list[int] = []
    found = toy.run(toy.FULL, on_progress=lambda progress: not seen.append(progress.epoch), **options)
    assert seen == [2, 3], "a report that was lost with its process is sent again"
    assert found[0].status == "completed"
    assert_same(toy, found, undisturbed)


def test_a_finished_trial_trains_nothing_again(toy: Any, undisturbed: Any, tmp_path: Path) -> None:
    options = {"model": toy.resumable_model, "checkpoint": tmp_path / "c.pt"}
    first, _ = toy.run(toy.FULL, **options)

    def fail(epoch: int, micro: int) -> None:
        raise AssertionError("no micro-batch is needed")

    again = toy.run(toy.FULL, fail=fail, **options)
    assert_same(toy, again, undisturbed)
    for key in ("train_seconds", "eval_seconds", "images_per_second", "step_ms", "steps"):
        assert again[0].cost[key] == first.cost[key]


def test_costs_add_up_over_a_resume(toy: Any, tmp_path: Path) -> None:
    options = {"model": toy.resumable_model, "checkpoint": tmp_path / "c.pt"}
    half, _ = toy.run(toy.FULL, on_progress=lambda progress: progress.epoch < 2, **options)
    whole, _ = toy.run(toy.FULL, **options)
    assert (half.cost["steps"], whole.cost["steps"]) == (8, 12)
    assert whole.cost["train_seconds"] > half.cost["train_seconds"]
    assert whole.cost["eval_seconds"] > half.cost["eval_seconds"]
    images = 3 * 48
    assert whole.cost["images_per_second"] == pytest.approx(images / whole.cost["train_seconds"])
