"""What a row costs: counted sizes, and measured times and memory relative to the baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ablator.contracts.record import Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """Counted, so the same on every machine."""

    parameters: float | None = None
    """Parameters of what is deployed."""
    training_parameters: float | None = None
    """Parameters with decoders and other parts that only train."""
    gmacs: float | None = None
    """10⁹ multiply-adds for one image; papers print this number as GFLOPs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured on this machine, so different in every run. Ratios are to the baseline's trial of the same
    seed, averaged over the seeds where both were measured; None where nothing was."""

    overhead_percent: float | None = None
    """Extra time of a training step: the ratio of median step times, minus one, in percent."""
    throughput_ratio: float | None = None
    """Training images per second, as a ratio."""
    memory_ratio: float | None = None
    """Peak memory, as a ratio."""
    step_ms: float | None = None
    """Median milliseconds of a training step, mean over seeds."""
    images_per_second: float | None = None
    """Training images per second, mean over seeds."""
    peak_memory_mb: float | None = None
    """Peak memory in MB, mean over seeds."""
    seconds: float | None = None
    """Training and evaluation of all seeds together, in seconds."""


def count_size(records: Sequence[Record]) -> Size:
    """The size that the records of one row state; the first that states one, as seeds do not change it."""
    stated = next((record.size for record in records if record.size), {})
    return Size(**{field.name: stated.get(field.name) for field in dataclasses.fields(Size)})


def trial_seconds(record: Record) -> float:
    """Seconds of training and evaluation that a record accounts for."""
    return record.cost.get("train_seconds", 0.0) + record.cost.get("eval_seconds", 0.0)


def _positive(records: Mapping[int, Record], key: str) -> dict[int, float]:
    return {seed: record.cost[key] for seed, record in records.items() if record.cost.get(key, 0.0) > 0.0}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _ratio(records: Mapping[int, Record], baseline: Mapping[int, Record], key: str) -> float | None:
    ours, theirs = _positive(records, key), _positive(baseline, key)
    return _mean([ours[seed] / theirs[seed] for seed in sorted(set(ours) & set(theirs))])


def measure(records: Mapping[int, Record], baseline: Mapping[int, Record]) -> Cost:
    """The cost of a row from its records by seed, of any status that left measurements."""
    step_ratio = _ratio(records, baseline, "step_ms")
    seconds = sum(trial_seconds(record) for record in records.values())
    return Cost(
        overhead_percent=None if step_ratio is None else 100.0 * (step_ratio - 1.0),
        throughput_ratio=_ratio(records, baseline, "images_per_second"),
        memory_ratio=_ratio(records, baseline, "peak_memory_mb"),
        step_ms=_mean(list(_positive(records, "step_ms").values())),
        images_per_second=_mean(list(_positive(records, "images_per_second").values())),
        peak_memory_mb=_mean(list(_positive(records, "peak_memory_mb").values())),
        seconds=seconds or None,
    )
