"""Classification's losses and metrics against hand counts.

Shape legend: B batch, K classes.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ablator.errors import SettingError
from ablator.tasks.classification import build

LOGITS_BK = torch.tensor(
    [
        [9.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
        [9.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
        [9.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0],
    ]
)
LABELS_B = torch.tensor([0, 4, 5, 6])  # first; fifth; sixth; first


def by_hand(output_BK: Tensor, target_B: Tensor) -> dict[str, float]:
    top1 = top5 = loss = 0.0
    for logits, label in zip(output_BK.double().tolist(), target_B.tolist(), strict=True):
        order = sorted(range(len(logits)), key=lambda k: -logits[k])
        top1 += order[0] == label
        top5 += label in order[:5]
        loss += math.log(sum(math.exp(value) for value in logits)) - logits[label]
    count = len(target_B)
    return {"top1": 100 * top1 / count, "top5": 100 * top5 / count, "loss": loss / count}


def measure(*batches: tuple[Tensor, Tensor]) -> dict[str, float]:
    metrics = build(batches[0][0].shape[1], 0.1).metrics("cpu")
    for output_BK, target_B in batches:
        metrics.update(output_BK, target_B)
    return metrics.compute()


def test_metrics_of_four_images_counted_by_hand() -> None:
    values = measure((LOGITS_BK, LABELS_B))
    assert values["top1"] == 50.0
    assert values["top5"] == 75.0
    assert values == pytest.approx(by_hand(LOGITS_BK, LABELS_B), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_metrics_are_those_of_all_images_however_they_are_batched(seed: int, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    output_BK = torch.randn(sum(sizes), 9, generator=generator)
    target_B = torch.randint(9, (sum(sizes),), generator=generator)
    batches = zip(output_BK.split(sizes), target_B.split(sizes), strict=True)
    assert measure(*batches) == pytest.approx(by_hand(output_BK, target_B), rel=1e-6)


def test_a_model_that_says_nothing_scores_no_better_than_chance() -> None:
    target_B = torch.arange(10)
    values = measure((torch.zeros(10, 10), target_B))
    assert values["top1"] == 10.0
    assert values["top5"] == 50.0
    assert values["loss"] == pytest.approx(math.log(10))


@pytest.mark.parametrize(("classes", "names"), [(2, {"top1", "loss"}), (5, {"top1", "loss"})])
def test_top5_is_left_out_where_it_could_not_miss(classes: int, names: set[str]) -> None:
    assert set(measure((torch.randn(3, classes), torch.tensor([0, 1, 1])))) == names


def test_half_precision_outputs_are_measured_in_full() -> None:
    values = measure((LOGITS_BK.bfloat16(), LABELS_B))
    assert values == pytest.approx(by_hand(LOGITS_BK, LABELS_B), rel=1e-6)


def test_a_model_that_gives_nan_has_a_loss_that_says_so() -> None:
    assert math.isnan(measure((torch.full((2, 7), math.nan), torch.tensor([0, 1])))["loss"])


def test_two_evaluations_do_not_share_their_counts() -> None:
    task = build(7, 0.1)
    first, second = task.metrics("cpu"), task.metrics("cpu")
    first.update(LOGITS_BK[:1], LABELS_B[:1])
    second.update(LOGITS_BK[2:3], LABELS_B[2:3])
    assert (first.compute()["top1"], second.compute()["top1"]) == (100.0, 0.0)


def test_two_workers_report_what_one_would(tmp_path) -> None:
    """Over gloo, with even shares, uneven ones, and a worker that has no image at all."""
    generator = torch.Generator().manual_seed(0)
    output_BK = torch.randn(11, 8, generator=generator)
    target_B = torch.randint(8, (11,), generator=generator)
    order = list(range(11))
    shares = [
        [[order[0::2][:5], [order[10]]], [order[1::2]]],
        [[order[:9]], [order[9:]]],
        [[order], []],
    ]
    torch.save((output_BK, target_B, shares), tmp_path / "data.pt")
    address = f"file://{tmp_path}/rendezvous"
    script = str(Path(__file__).with_name("gloo_worker.py"))
    workers = [
        subprocess.Popen(
            [sys.executable, script, str(rank), address, str(tmp_path / "data.pt")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    first, second = (json.loads(text.strip().splitlines()[-1]) for text in printed)
    assert first == second
    for values in first:
        assert values == pytest.approx(by_hand(output_BK, target_B), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), smoothing=st.floats(0, 0.9))
def test_hard_labels_with_smoothing_equal_the_soft_labels_they_stand_for(seed: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    output_BK = torch.randn(5, 6, generator=generator)
    target_B = torch.randint(6, (5,), generator=generator)
    soft_BK = (1 - smoothing) * torch.eye(6)[target_B] + smoothing / 6
    task = build(6, smoothing)
    hard, soft = task.loss(output_BK, target_B)["ce"], task.loss(output_BK, soft_BK)["ce"]
    torch.testing.assert_close(hard, soft)


def test_the_loss_is_in_fp32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = build(7, 0.0).loss(LOGITS_BK.bfloat16(), LABELS_B)["ce"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand(LOGITS_BK, LABELS_B)["loss"], rel=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0])
def test_smoothing_outside_its_range_is_refused(smoothing: float) -> None:
    with pytest.raises(SettingError, match=r"label_smoothing .* not"):
        build(10, smoothing)
