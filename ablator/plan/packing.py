"""How many slots share a GPU: as many as measured memory allows and measured speed is worth, else one.

Nothing is assumed of a model that has no record. What a packing does to speed is known only where trials have
run under it, so that each run tries one slot more than the best so far, until that is no faster.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ablator.contracts.record import Record
from ablator.plan.spec import TrialSpec

HEADROOM = 0.1
"""Part of a GPU's memory that stays free: allocators fragment, and no trial's peak is quite another's."""
BESIDE_MB = 1600.0
"""Of every slot beside its trial's peak: the CUDA context, and images that are kept on the device."""
SLOTS, MEMORY = "slots_per_gpu", "gpu_memory_mb"
"""What records are asked for among their versions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What one record says of packing."""

    device: str
    gpu_mb: float
    """Memory of that device (2^20 bytes)."""
    peak_mb: float
    images_per_second: float
    """Of this trial, with its neighbours beside it."""
    slots: int
    """Slots that shared the GPU."""


def measured(records: Iterable[Record], specs: Iterable[TrialSpec]) -> list[list[Measured]]:
    """For every different footprint among the specs what its records say; an empty list where none does."""
    wanted: dict[str, list[Measured]] = {footprint(spec.to_json()): [] for spec in specs}
    for record in records:
        if (said := _said(record)) is not None and (key := footprint(record.spec)) in wanted:
            wanted[key].append(said)
    return list(wanted.values())


def footprint(spec: Mapping[str, Any]) -> str:
    """Equal for specs whose training takes the same memory and work a step."""
    train = {key: spec.get("train", {}).get(key) for key in ("batch_size", "accumulate", "precision")}
    data = {key: spec.get("data", {}).get(key) for key in ("name", "image_size")}
    model = {key: value for key, value in spec.get("model", {}).items() if key != "weights"}
    rest = {
        key: value for key, value in spec.items() if key not in ("train", "data", "model", "augment", "seed")
    }
    return json.dumps([train, data, model, rest], sort_keys=True)


def slots_per_gpu(specs: Sequence[Sequence[Measured]], devices: Sequence[str]) -> int:
    """How many slots a GPU gets, at least one. `specs`: the measurements of every different footprint ahead;
    `devices`: kinds of GPUs that the cluster has, as Ray names them (`H100`).

    More than one only where all of `specs` were measured on such devices, their largest peak fits so often
    with HEADROOM, and trials that ran under that packing trained more images a second in all; or where nobody
    has run under it, and under one slot less it is as said. That run then measures it.
    """
    own = [[one for one in spec if _on(one.device, devices)] for spec in specs]
    if not own or not all(own):
        return 1
    fits = most_that_fit(
        min(one.gpu_mb for spec in own for one in spec), max(one.peak_mb for spec in own for one in spec)
    )
    gains = {slots: _gain(own, slots) for slots in {one.slots for spec in own for one in spec}}
    worth = [(gain, slots) for slots, gain in gains.items() if gain is not None and slots <= fits]
    # Of packings that are equally fast the one with fewer slots.
    gain, best = max(worth, key=lambda one: (one[0], -one[1]), default=(0.0, 1))
    if gain <= 1.0:
        best = 1
    # What is tried is compared with one slot, which some trial must have had.
    untried = best + 1 not in gains and gains.get(1) is not None
    return best + 1 if untried and best + 1 <= fits else best


def most_that_fit(gpu_mb: float, peak_mb: float) -> int:
    """Slots whose trials together stay below the GPU's memory with HEADROOM; 0 where not even one does."""
    return max(0, math.floor(gpu_mb * (1 - HEADROOM) / (peak_mb + BESIDE_MB)))


def _gain(specs: Sequence[Sequence[Measured]], slots: int) -> float | None:
    """Images a second of a GPU under a packing over those of one slot: the mean over specs that were measured
    under both; None where none was."""
    ratios = []
    for spec in specs:
        alone, packed = _speed(spec, 1), _speed(spec, slots)
        if alone and packed:
            ratios.append(slots * packed / alone)
    return statistics.fmean(ratios) if ratios else None


def _speed(spec: Sequence[Measured], slots: int) -> float | None:
    found = [one.images_per_second for one in spec if one.slots == slots]
    return statistics.median(found) if found else None


def _on(device: str, kinds: Sequence[str]) -> bool:
    """Whether a record's device is of every kind that the cluster has, and so of the only one."""
    return bool(kinds) and all(kind.lower() in device.lower() for kind in kinds)


def _said(record: Record) -> Measured | None:
    peak, speed = record.cost.get("peak_memory_mb", 0.0), record.cost.get("images_per_second", 0.0)
    memory, slots = record.versions.get(MEMORY, ""), record.versions.get(SLOTS, "")
    if record.status != "completed" or not (peak > 0 and speed > 0 and memory.isdigit() and slots.isdigit()):
        return None
    if record.versions.get("workers", "1") != "1" or int(slots) < 1 or int(memory) < 1:
        return None
    return Measured(
        device=record.versions.get("device", ""),
        gpu_mb=float(memory),
        peak_mb=peak,
        images_per_second=speed,
        slots=int(slots),
    )
