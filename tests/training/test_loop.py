"""What one trial does, and what it tells."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch

from ablator.contracts.protocols import Progress
from ablator.contracts.train import TrainSettings
from ablator.errors import SettingError
from ablator.training.loop import evaluate, train


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns(toy: Any, optimizer: str, precision: str) -> None:
    settings = dataclasses.replace(toy.PLAIN, epochs=12, optimizer=optimizer, precision=precision)
    outcome, _ = toy.run(settings)
    assert outcome.status == "completed"
    assert outcome.curves[-1]["train_loss"] < 0.3 * outcome.curves[0]["train_loss"]
    assert outcome.metrics["top1"] >= 70


def test_bf16_computes_in_bf16(toy: Any) -> None:
    seen = []

    class Watching(toy.Model):
        def forward(self, images_BCHW: torch.Tensor) -> Any:
            output, terms = super().forward(images_BCHW)
            seen.append(output.dtype)
            return output, terms

    toy.run(dataclasses.replace(toy.PLAIN, epochs=1, precision="bf16"), model=Watching)
    assert set(seen) == {torch.bfloat16}


def test_a_timm_model_learns_with_everything_on(toy: Any) -> None:
    settings = dataclasses.replace(toy.FULL, epochs=20, lr=5e-3)
    outcome, _ = toy.run(settings, model=toy.TimmModel)
    assert outcome.curves[-1]["val_loss"] < outcome.curves[0]["val_loss"]
    assert outcome.metrics["top1"] >= 50


def test_same_seed_same_bits_and_another_seed_others(toy: Any) -> None:
    runs = [toy.run(toy.FULL, model=toy.resumable_model, seed=seed) for seed in (1, 1, 2)]
    hashes = [toy.digest(model) for _, model in runs]
    assert hashes[0] == hashes[1] != hashes[2]
    assert runs[0][0].curves == runs[1][0].curves


def test_arms_see_the_same_draws(toy: Any) -> None:
    draws = []
    for arm in (False, True):
        _, model = toy.run(model=partial(toy.Model, dropout=0.5, arm=arm))
        # gelu may give a rare exact zero itself; only agreement of almost all is needed to tell streams apart
        draws.append(torch.stack(model.kept).float())
    assert len(draws[0]) == 12
    assert (draws[0] == draws[1]).float().mean() > 0.99
    assert (draws[0][0] == draws[0][1]).float().mean() < 0.7, "and steps differ from each other"


def test_accumulation_changes_nothing_but_memory(toy: Any) -> None:
    one, in_one = toy.run(toy.PLAIN)
    two, in_two = toy.run(dataclasses.replace(toy.PLAIN, accumulate=2))
    for left, right in zip(in_one.parameters(), in_two.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    assert two.cost["steps"] == one.cost["steps"] == 12
    for row_one, row_two in zip(one.curves, two.curves, strict=True):
        assert row_two == pytest.approx(row_one, rel=1e-3)


def test_left_over_micro_batches_are_dropped(toy: Any) -> None:
    # 48 images: one step of 32 an epoch, with or without accumulation.
    whole, model = toy.run(dataclasses.replace(toy.PLAIN, batch_size=32))
    parts, in_parts = toy.run(dataclasses.replace(toy.PLAIN, batch_size=32, accumulate=2))
    assert whole.cost["steps"] == parts.cost["steps"] == 3
    for left, right in zip(model.parameters(), in_parts.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_curves_hold_every_loss_and_metric(toy: Any) -> None:
    outcome, _ = toy.run(dataclasses.replace(toy.PLAIN, ema_decay=0.9))
    row = outcome.curves[-1]
    measured = {"top1", "val_loss", "ema_top1", "ema_val_loss"}
    assert set(row) == {"epoch", "lr", "train_loss", "train_ce", "train_aux", *measured}
    assert row["train_loss"] == pytest.approx(row["train_ce"] + row["train_aux"])
    assert outcome.metrics == {key: row[key] for key in measured}
    assert set(outcome.cost) == {
        "train_seconds",
        "eval_seconds",
        "images_per_second",
        "step_ms",
        "peak_memory_mb",
        "steps",
    }
    assert all(value > 0 for value in outcome.cost.values())


def test_cooldown_goes_on_at_the_lowest_rate_and_ends_with_an_evaluation(toy: Any) -> None:
    plain, _ = toy.run(dataclasses.replace(toy.PLAIN, eval_every=2))
    cooled, _ = toy.run(dataclasses.replace(toy.PLAIN, eval_every=2, cooldown_epochs=2))
    assert [row["epoch"] for row in cooled.curves] == [1, 2, 3, 4, 5]
    assert [row["lr"] for row in cooled.curves[:3]] == [row["lr"] for row in plain.curves]
    assert [row["lr"] for row in cooled.curves[3:]] == [toy.PLAIN.min_lr] * 2
    assert ["top1" in row for row in cooled.curves] == [False, True, False, True, True]


def test_evaluation_every_other_epoch_and_at_the_end(toy: Any) -> None:
    outcome, _ = toy.run(dataclasses.replace(toy.PLAIN, eval_every=2))
    assert ["top1" in row for row in outcome.curves] == [False, True, True]


def test_a_trial_pruned_before_its_first_evaluation_has_a_value(toy: Any) -> None:
    outcome, _ = toy.run(dataclasses.replace(toy.PLAIN, eval_every=3), on_progress=lambda progress: False)
    assert outcome.status == "stopped"
    assert "top1" in outcome.metrics


def test_progress_after_every_epoch(toy: Any) -> None:
    seen: list[Progress] = []
    outcome, _ = toy.run(on_progress=lambda progress: not seen.append(progress))
    assert [(p.epoch, p.epochs, p.step) for p in seen] == [(1, 3, 4), (2, 3, 8), (3, 3, 12)]
    assert tuple(p.metrics for p in seen) == outcome.curves


def test_a_stop_after_the_last_epoch_is_a_completed_trial(toy: Any) -> None:
    outcome, _ = toy.run(on_progress=lambda progress: progress.epoch < 3)
    assert outcome.status == "completed"


def test_a_term_that_is_nan_diverges(toy: Any) -> None:
    outcome, _ = toy.run(model=partial(toy.Model, poison=7))
    assert outcome.status == "diverged"
    assert outcome.metrics == {}
    assert [row["epoch"] for row in outcome.curves] == [1]
    assert all(math.isfinite(value) for row in outcome.curves for value in row.values())
    assert outcome.error is not None
    assert outcome.error.startswith("loss is nan at epoch 2, step 7 (terms: ce=")
    assert outcome.error.endswith("aux=nan)")


def test_a_rate_that_is_far_too_high_diverges(toy: Any) -> None:
    outcome, _ = toy.run(dataclasses.replace(toy.PLAIN, optimizer="sgd", lr=1e30, warmup_lr=1e30))
    assert outcome.status == "diverged"
    assert outcome.error is not None


def test_an_evaluation_that_is_not_finite_diverges(toy: Any) -> None:
    class Overflowing(toy.Model):
        def forward(self, images_BCHW: torch.Tensor) -> Any:
            output, terms = super().forward(images_BCHW)
            return (output, terms) if self.training else (output * math.inf, terms)

    outcome, _ = toy.run(model=Overflowing)
    assert (outcome.status, outcome.metrics, outcome.curves) == ("diverged", {}, ())
    assert outcome.error is not None
    assert "val_loss is nan in the evaluation after epoch 1, step 4" in outcome.error


def test_the_weight_average_is_what_ema_metrics_measure(toy: Any) -> None:
    # Decay 1 keeps the weights of the first step (timm's average starts there) for the whole trial.
    frozen, _ = toy.run(dataclasses.replace(toy.PLAIN, ema_decay=1.0))
    losses = [row["ema_val_loss"] for row in frozen.curves]
    assert losses[0] == losses[1] == losses[2] != frozen.metrics["val_loss"]
    moving, _ = toy.run(dataclasses.replace(toy.PLAIN, ema_decay=1e-9))
    assert moving.metrics["ema_val_loss"] == pytest.approx(moving.metrics["val_loss"], rel=1e-5)


def test_mixing_leaves_the_data_sets_images_alone(toy: Any) -> None:
    shared = toy.Batches(12)
    before = shared.train_images.clone()

    class Whole(toy.Batches):
        def train(self, epoch: int, start: int = 0) -> Any:
            for first in range(start * 12, 48, 12):
                yield shared.train_images[first : first + 12], shared.train_labels[first : first + 12]

    settings = dataclasses.replace(toy.PLAIN, mixup=0.8, cutmix=1.0)
    model, cpu = toy.Model(), torch.device("cpu")
    train(model, toy.Task(), Whole(12), settings, seed=0, num_classes=toy.CLASSES, device=cpu)
    assert torch.equal(shared.train_images, before)


def test_batches_that_end_early(toy: Any) -> None:
    class Short(toy.Batches):
        def train(self, epoch: int, start: int = 0) -> Any:
            return islice(super().train(epoch, start), [3, 1, 0][epoch])

    settings = dataclasses.replace(toy.PLAIN, accumulate=2)  # 8 micro-batches of 6 are promised
    model, cpu = toy.Model(), torch.device("cpu")
    outcome = train(model, toy.Task(), Short(6), settings, seed=0, num_classes=toy.CLASSES, device=cpu)
    assert outcome.status == "completed"
    assert outcome.cost["steps"] == 1
    assert ["train_loss" in row for row in outcome.curves] == [True, False, False]


def test_evaluate_keeps_the_mode_and_counts_every_image(toy: Any) -> None:
    model = toy.Model()
    for mode in (True, False):
        model.train(mode)
        found = evaluate(model, toy.Task(), toy.Batches(12), torch.device("cpu"))
        assert model.training is mode
    assert set(found) == {"top1", "val_loss"}
    assert found["top1"] * 20 / 100 == round(found["top1"] * 20 / 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 5}, "train.batch_size must be a multiple .* 12 is not one of 5 · 1 = 5.* 10 and 15"),
        ({"batch_size": 3, "accumulate": 5}, "the nearest are 5"),
        ({"accumulate": 4, "mixup": 0.8}, "size must be even: train.batch_size 12 .* = 3.* 8 and 16"),
        ({"accumulate": 4, "cutmix": 1.0}, "size must be even"),
    ],
)
def test_settings_that_cannot_be_trained(toy: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        toy.run(dataclasses.replace(toy.PLAIN, **changes))


def test_an_epoch_shorter_than_a_step(toy: Any) -> None:
    settings = TrainSettings(epochs=1, batch_size=96, accumulate=4, mixup=0, cutmix=0)
    with pytest.raises(SettingError, match=r"2 micro-batches and train\.accumulate is 4"):
        toy.run(settings)
