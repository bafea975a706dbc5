"""Costs are of this trial alone, in a process that has seen others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from ablator.contracts.protocols import World
from ablator.training.cost import CostMeter


def test_peak_memory_forgets_earlier_trials(toy: Any) -> None:
    class Hungry(toy.Model):
        def forward(self, images_BCHW: torch.Tensor) -> Any:
            torch.ones(50 * 2**20).sum()  # 200 MB, freed at once
            return super().forward(images_BCHW)

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux resets the high-water mark")
    settings = dataclasses.replace(toy.PLAIN, epochs=1)
    hungry, _ = toy.run(settings, model=Hungry)
    modest, _ = toy.run(settings)
    assert hungry.cost["peak_memory_mb"] > modest.cost["peak_memory_mb"] + 150


def meter() -> CostMeter:
    return CostMeter(torch.device("cpu"), World())


def test_what_outlives_a_trial_is_not_its_memory() -> None:
    apart = CostMeter(torch.device("cpu"), World(), resident_bytes=100 * 2**20)
    assert apart.result(0)["peak_memory_mb"] < meter().result(0)["peak_memory_mb"] - 90


def feed(cost: CostMeter, durations_ms: list[float]) -> None:
    cost.clock.read_ms = lambda: durations_ms  # type: ignore[method-assign]
    cost.collect_steps()


def test_the_first_steps_are_not_in_the_median() -> None:
    cost = meter()
    feed(cost, [900.0, 800.0, 700.0, 5.0, 7.0, 6.0])
    assert cost.result(6)["step_ms"] == 6.0


def test_a_trial_of_two_steps_has_a_median_too() -> None:
    cost = meter()
    feed(cost, [4.0, 2.0])
    assert cost.result(2)["step_ms"] == 3.0


def test_the_first_steps_after_a_resume_are_not_in_the_median_either() -> None:
    first, second = meter(), meter()
    feed(first, [900.0, 900.0, 900.0, 5.0, 5.0])
    second.restore(first.state())
    feed(second, [900.0, 900.0, 900.0, 7.0])
    assert second.result(9)["step_ms"] == 5.0


def test_an_unfinished_step_is_forgotten() -> None:
    clock = meter().clock
    with clock.running():
        pass
    clock.drop_step()
    assert clock.read_ms() == []
    with clock.running():
        pass
    clock.close_step()
    assert len(clock.read_ms()) == 1
