from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ablator.contracts.record import Record
from ablator.plan.cost import Estimate, estimate, measured_rate, total, training_pflop
from ablator.plan.spec import resolve


def test_deit_s_on_imagenet_takes_what_papers_count() -> None:
    # 4.6 GMACs, 1,281,167 images, 300 epochs: 3 passes, 2 operations a multiply-add: 1.06e19 operations.
    assert training_pflop(4.6, 1_281_167, 300) == pytest.approx(10_608, rel=1e-3)


def record(seconds: float, **changes: Any) -> Record:
    spec = resolve({"data": {"name": "digits"}, "train": {"batch_size": 10}}, "test").to_json()
    for key, value in changes.pop("spec", {}).items():
        spec[key] = {**spec.get(key, {}), **value}
    fields: dict[str, Any] = {
        "identity": "0" * 64,
        "status": "completed",
        "spec": spec,
        "metrics": {"top1": 80.0},
        "cost": {"train_seconds": seconds - 1.0, "eval_seconds": 1.0, "steps": 100.0},
        "size": {"gmacs": 2.0},
    }
    return Record(**{**fields, **changes})


LIKE = resolve({"data": {"name": "digits"}, "train": {"batch_size": 10}}, "test")


def test_the_rate_is_the_median_over_records_of_the_same_scale() -> None:
    # 6 operations x 2e9 x 1,000 images in 10, 20 and 1,000 s.
    assert measured_rate([record(10), record(1000), record(20)], LIKE) == pytest.approx(1.2e13 / 20)


def test_arms_share_a_rate_and_profiles_do_not() -> None:
    other_arm = record(10, spec={"moto": {"n": 4}})
    other_model = record(10, spec={"model": {"name": "swin_tiny_patch4_window7_224"}})
    other_data = record(10, spec={"data": {"image_size": 32}})
    assert measured_rate([other_arm], LIKE) == pytest.approx(1.2e12)
    assert measured_rate([other_model, other_data], LIKE) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "diverged", "metrics": {}, "error": "nan"},
        {"cost": {}},
        {"size": {}},
    ],
)
def test_what_was_not_measured_whole_is_no_measurement(changes: dict[str, Any]) -> None:
    assert measured_rate([dataclasses.replace(record(10), **changes)], LIKE) is None


def test_a_time_needs_a_rate() -> None:
    assert estimate(2.0, 1000, 1, None) == Estimate(pflop=0.012, seconds=None)
    known = estimate(2.0, 1000, 1, 1.2e12)
    assert known.seconds == pytest.approx(10.0)
    assert total([known, known]).seconds == pytest.approx(20.0)
    assert total([known, Estimate(pflop=1.0, seconds=None)]) == Estimate(pflop=1.012, seconds=None)
