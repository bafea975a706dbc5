"""Several slots a GPU: never more than memory allows, and only where that was measured to be faster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablator.contracts.record import Record
from ablator.plan.packing import (
    BESIDE_MB,
    HEADROOM,
    Measured,
    measured,
    most_that_fit,
    slots_per_gpu,
)
from ablator.plan.spec import resolve

H100 = "NVIDIA H100 80GB HBM3"


def seen(slots: int, speed: float, peak: float = 8000.0, **changes: Any) -> Measured:
    fields = {"device": H100, "gpu_mb": 80_000.0, "peak_mb": peak, "images_per_second": speed, "slots": slots}
    return Measured(**{**fields, **changes})


def test_the_fastest_packing_that_was_measured_is_taken() -> None:
    spec = [seen(1, 1000.0), seen(2, 700.0), seen(4, 400.0), seen(5, 310.0)]
    assert slots_per_gpu([spec], ["H100"]) == 4, "5 x 310 is less than 4 x 400"
    slow = [seen(1, 1000.0), seen(2, 700.0), seen(3, 300.0)]
    assert slots_per_gpu([slow], ["H100"]) == 2, "3 x 300 is less than 2 x 700"
    assert slots_per_gpu([[seen(1, 1000.0), seen(2, 500.0)]], ["H100"]) == 1, "it must be worth it"


def test_every_run_tries_one_slot_more_until_that_is_no_faster() -> None:
    speeds = {1: 1000.0, 2: 700.0, 3: 500.0, 4: 370.0}
    records: list[Measured] = [seen(1, speeds[1])]
    packings = []
    for _ in range(5):
        packings.append(slots_per_gpu([records], ["H100"]))
        records.append(seen(packings[-1], speeds[packings[-1]]))
    assert packings == [2, 3, 4, 3, 3]


def test_memory_bounds_what_speed_would_like() -> None:
    large = [seen(1, 100.0, peak=30_000.0), seen(2, 90.0, peak=30_000.0), seen(4, 80.0, peak=30_000.0)]
    assert slots_per_gpu([large], ["H100"]) == 2
    small = [seen(1, 100.0), seen(4, 80.0)]
    assert slots_per_gpu([small, large], ["H100"]) == 2, "the largest trial ahead counts"
    assert slots_per_gpu([[seen(1, 100.0, peak=40_000.0)]], ["H100"]) == 1, "nor is more tried"


@pytest.mark.parametrize(
    ("specs", "devices"),
    [
        ([], ["H100"]),
        ([[seen(1, 100.0), seen(2, 90.0)], []], ["H100"]),
        ([[seen(2, 90.0)]], ["H100"]),
        ([[seen(1, 100.0), seen(2, 90.0)]], ["V100"]),
        ([[seen(1, 100.0), seen(2, 90.0)]], ["H100", "V100"]),
        ([[seen(1, 100.0), seen(2, 90.0)]], []),
    ],
)
def test_what_was_not_measured_is_not_packed(specs: list[list[Measured]], devices: list[str]) -> None:
    assert slots_per_gpu(specs, devices) == 1


measurements = st.builds(
    seen,
    slots=st.integers(1, 16),
    speed=st.floats(1.0, 1e4),
    peak=st.floats(1.0, 1e5),
    gpu_mb=st.floats(1000.0, 2e5),
)


@given(specs=st.lists(st.lists(measurements, max_size=6), max_size=4))
def test_packed_trials_never_take_more_than_the_smallest_gpu_has(specs: list[list[Measured]]) -> None:
    count = slots_per_gpu(specs, ["H100"])
    assert count >= 1
    if count > 1:
        every = [one for spec in specs for one in spec]
        peak, gpu = max(one.peak_mb for one in every), min(one.gpu_mb for one in every)
        assert count * (peak + BESIDE_MB) <= gpu * (1 - HEADROOM) * (1 + 1e-9)
        known = {one.slots for one in every} | {1}
        assert count in known or count - 1 in known, "what was measured, or one more"


@given(gpu=st.floats(0.0, 1e6), peak=st.floats(0.0, 1e6))
def test_one_more_would_not_fit(gpu: float, peak: float) -> None:
    fits = most_that_fit(gpu, peak)
    assert fits * (peak + BESIDE_MB) <= gpu * (1 - HEADROOM) * (1 + 1e-9)
    assert (fits + 1) * (peak + BESIDE_MB) >= gpu * (1 - HEADROOM) * (1 - 1e-9)


def record(document: dict[str, Any], **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "identity": "0" * 64,
        "status": "completed",
        "spec": resolve(document, "test").to_json(),
        "metrics": {"top1": 80.0},
        "cost": {"peak_memory_mb": 4000.0, "images_per_second": 900.0},
        "versions": {"device": H100, "slots_per_gpu": "2", "gpu_memory_mb": "81559", "workers": "1"},
    }
    return Record(**{**fields, **changes})


def test_a_record_speaks_for_trials_of_its_model_and_batch() -> None:
    base = {"data": {"name": "digits"}, "train": {"batch_size": 10}}
    other_rate = {**base, "train": {"batch_size": 10, "lr": 0.5}}
    other_batch = {**base, "train": {"batch_size": 20}}
    other_arm = {**base, "moto": {"n": 4}}
    ahead = [resolve(one, "test") for one in (base, other_batch, other_arm)]
    found = measured([record(other_rate)], ahead)
    assert found == [[seen(2, 900.0, peak=4000.0, gpu_mb=81559.0)], [], []]


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"device": "x86_64"}},
        {"versions": {"device": H100, "slots_per_gpu": "2", "gpu_memory_mb": "81559", "workers": "2"}},
        {"cost": {"images_per_second": 900.0}},
        {"status": "diverged", "metrics": {}, "error": "nan"},
    ],
)
def test_other_records_say_nothing(changes: dict[str, Any]) -> None:
    base = {"data": {"name": "digits"}}
    assert measured([record(base, **changes)], [resolve(base, "test")]) == [[]]
