"""What every registered task has to keep.

Shape legend: B batch, K classes.
"""

from __future__ import annotations

import math

import pytest
import torch

import ablator.tasks
from ablator.contracts.protocols import Measuring
from ablator.registry import TASKS

assert ablator.tasks  # importing the room is what registers

tasks = pytest.mark.parametrize("entry", [e for e in TASKS if e.trains], ids=lambda entry: entry.name)
measuring = pytest.mark.parametrize("entry", [e for e in TASKS if not e.trains], ids=lambda entry: entry.name)


@tasks
def test_losses_are_named_finite_scalars_that_train(entry) -> None:
    task = entry.load()(num_classes=10, label_smoothing=0.1)
    for target in (torch.tensor([1, 2, 3]), torch.full((3, 10), 0.1)):
        output_BK = torch.randn(3, 10, requires_grad=True)
        losses = task.loss(output_BK, target)
        assert len(losses) > 0
        sum(losses.values()).backward()
        assert output_BK.grad is not None
        for value in losses.values():
            assert value.shape == ()
            assert torch.isfinite(value)


@tasks
def test_the_main_metric_is_measured_and_improves_in_its_direction(entry) -> None:
    assert entry.summary
    task = entry.load()(num_classes=10, label_smoothing=0.1)
    target_B = torch.arange(10)
    found = []
    for sign in (1, -1):
        metrics = task.metrics("cpu")
        metrics.update(sign * 5 * torch.eye(10), target_B)
        values = metrics.compute()
        assert set(values) == set(task.measures)
        assert all(math.isfinite(value) for value in values.values())
        found.append(values[task.metric])
    right, wrong = found
    assert right > wrong if task.mode == "max" else right < wrong


@measuring
def test_what_a_measuring_task_says_it_measures_has_a_number_or_a_word(entry) -> None:
    assert entry.summary
    task = entry.load()(settings=entry.settings(sizes=(8, 4096), stride=1, repeats=2, memory_gb=0.1))
    assert isinstance(task, Measuring)
    found = task.measure(torch.nn.Identity(), seed=0, device=torch.device("cpu"))
    assert set(found.metrics) | set(found.unmeasured) == set(task.measures)
    assert not set(found.metrics) & set(found.unmeasured)
    assert all(math.isfinite(value) for value in found.metrics.values())
