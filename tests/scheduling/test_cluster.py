"""How many slots fit, counted by node and by device."""

from __future__ import annotations

import pytest

from ablator.errors import ClusterError, SettingError
from ablator.plan.packing import Measured
from ablator.scheduling.cluster import (
    Cluster,
    Resources,
    cluster,
    packed,
    shape_on,
    sharing,
    slots_for,
)
from ablator.scheduling.slot import SlotShape


def there(*nodes: tuple[float, float]) -> Cluster:
    return Cluster(joined=True, nodes=nodes)


def slots(shape: SlotShape, *nodes: tuple[float, float], asked: int | None = None, trials: int = 99) -> int:
    return slots_for(Resources(slots=asked, shape=shape), there(*nodes), trials)


@pytest.mark.parametrize(
    ("shape", "nodes", "expected"),
    [
        (SlotShape(cpus=1, gpus=0), [(2, 0)], 2),
        (SlotShape(cpus=3, gpus=0), [(4, 0)] * 3, 3),
        (SlotShape(cpus=1, gpus=0.6), [(16, 2)], 2),
        (SlotShape(cpus=1, gpus=0.25), [(16, 2)], 8),
        (SlotShape(cpus=4, gpus=1), [(8, 8), (64, 2)], 4),
        (SlotShape(cpus=1, gpus=1, workers=4), [(8, 2), (8, 2), (8, 3)], 1),
        (SlotShape(cpus=1, gpus=2), [(8, 5)], 2),
    ],
)
def test_what_fits_is_never_pieced_together(
    shape: SlotShape, nodes: list[tuple[float, float]], expected: int
) -> None:
    assert slots(shape, *nodes) == expected


def test_there_are_no_more_slots_than_trials() -> None:
    assert slots(SlotShape(gpus=0), (64, 0), trials=3) == 3
    assert slots(SlotShape(gpus=0), (64, 0), asked=2) == 2


def test_gpus_are_used_where_there_are_any() -> None:
    assert shape_on(Resources(), there((8, 1))).gpus == 1
    assert shape_on(Resources(), there((8, 0))).gpus == 0


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (SlotShape(cpus=9, gpus=0), "--cpus"),
        (SlotShape(gpus=1), "0 GPU"),
        (SlotShape(gpus=1.5), "whole GPUs"),
        (SlotShape(gpus=0.5, workers=2), "share a GPU"),
    ],
)
def test_what_does_not_fit_says_what_there_is(shape: SlotShape, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        slots(shape, (4, 0))


def test_more_slots_than_fit_wait_for_machines_that_can_come() -> None:
    assert slots(SlotShape(gpus=0), (2, 0), (2, 0), asked=9) == 9
    alone = Cluster(joined=False, nodes=((4, 0),))
    with pytest.raises(SettingError, match="--slots 5"):
        slots_for(Resources(slots=5, shape=SlotShape(gpus=0)), alone, 99)


def test_an_address_without_a_cluster_is_refused_at_once() -> None:
    with (
        pytest.raises(ClusterError, match="nothing answers"),
        cluster(Resources(address="127.0.0.1:1")),
    ):
        raise AssertionError("there is no cluster")


def seen(slots: int, speed: float) -> Measured:
    return Measured(
        device="NVIDIA H100", gpu_mb=80_000.0, peak_mb=8000.0, images_per_second=speed, slots=slots
    )


@pytest.mark.parametrize("count", [2, 3, 7])
def test_packed_slots_get_a_part_of_a_gpu_each(count: int) -> None:
    cluster = Cluster(joined=True, nodes=((64, 2),), devices=("H100",))
    found = packed(Resources(pack=True), cluster, [[seen(1, 100.0), seen(count, 90.0), seen(count + 1, 1.0)]])
    assert sharing(found.shape) == count
    assert slots_for(found, cluster, 99) == 2 * count


def test_nothing_is_packed_that_was_not_asked_for_or_measured() -> None:
    cluster = Cluster(joined=True, nodes=((64, 2),), devices=("H100",))
    fast = [[seen(1, 100.0), seen(2, 90.0)]]
    assert packed(Resources(), cluster, fast) == Resources()
    assert packed(Resources(pack=True), cluster, []) == Resources(pack=True)
    assert packed(Resources(pack=True), there((8, 0)), fast) == Resources(pack=True)
    assert slots_for(Resources(pack=True), cluster, 99) == 2


@pytest.mark.parametrize("shape", [SlotShape(gpus=0.5), SlotShape(workers=2)])
def test_packing_does_not_go_with_a_share_that_is_said(shape: SlotShape) -> None:
    with pytest.raises(SettingError, match="--pack"):
        Resources(shape=shape, pack=True)
