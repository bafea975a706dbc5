"""What a plan will cost: operations as they are counted, time only where it was measured.

The convention: training a model on one image takes three times its forward pass (the backward pass counts
as two), and one multiply-add is two operations, so that a trial takes

    operations = 3 · 2 · GMACs · 10⁹ · (training images per epoch) · epochs .

GMACs are those of the deployed model (`assembly.check.Size`); decoders that only training needs, evaluation
and augmentation are not in it.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ablator.contracts.record import Record
from ablator.plan.spec import SECTIONS, TrialSpec
from ablator.tasks.settings import kept_views

_OPERATIONS_PER_MAC = 2
_FORWARDS_PER_STEP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one trial, or several one after the other, will cost."""

    pflop: float
    """Operations of training, in 10¹⁵."""
    seconds: float | None
    """Training and evaluation at the measured rate; None where nothing was measured yet."""


def epochs_worth(spec: TrialSpec) -> float:
    """The training that a trial takes, in epochs: its own; for a probe of a frozen backbone, a third for each
    forward pass over the training images (its heads weigh nothing beside that)."""
    if spec.probe is None:
        return spec.train.all_epochs
    passes = kept_views(spec.probe, spec.train.all_epochs, fixed=spec.augment.fixed)
    return (passes or spec.train.all_epochs) / _FORWARDS_PER_STEP


def training_pflop(gmacs: float, images: float, epochs: float) -> float:
    """Operations of one trial's training in PFLOP, for a model of `gmacs` billion multiply-adds an image,
    `images` training images an epoch and `epochs_worth` epochs."""
    return _FORWARDS_PER_STEP * _OPERATIONS_PER_MAC * gmacs * 1e9 * images * epochs / 1e15


def measured_rate(records: Iterable[Record], like: TrialSpec) -> float | None:
    """Operations per second that training reached: the median over the completed records whose data, model
    and precision are those of `like`; None where there is no such record.

    The seconds are those of training and evaluation together, so that a time made from this rate is a
    trial's whole time. Records of other machines count as well; the ledger does not know which one is next.
    """
    rates = [rate for record in records if (rate := _rate(record, like)) is not None]
    return statistics.median(rates) if rates else None


def estimate(gmacs: float, images: int, epochs: float, rate: float | None) -> Estimate:
    """One trial's cost at `rate` operations per second (`measured_rate`)."""
    pflop = training_pflop(gmacs, images, epochs)
    return Estimate(pflop=pflop, seconds=None if rate is None else pflop * 1e15 / rate)


T = TypeVar("T")


def longest_first(trials: Iterable[T], cost: Callable[[T], float]) -> list[T]:
    """The order in which trials are handed to slots, so that a run does not end with one long trial that all
    slots but one wait for; trials of the same cost stay in their order."""
    return sorted(trials, key=cost, reverse=True)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Of several trials, one after the other; the seconds are None if one trial's are."""
    parts = list(estimates)
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return Estimate(
        pflop=sum(part.pflop for part in parts), seconds=sum(seconds) if len(seconds) == len(parts) else None
    )


def _rate(record: Record, like: TrialSpec) -> float | None:
    seconds = record.cost.get("train_seconds", 0.0) + record.cost.get("eval_seconds", 0.0)
    steps, gmacs = record.cost.get("steps", 0.0), record.size.get("gmacs", 0.0)
    if record.status != "completed" or not (seconds > 0 and steps > 0 and gmacs > 0):
        return None
    if _scale(record.spec) != _scale(like.to_json()):
        return None
    images, epochs = steps * record.spec["train"]["batch_size"], 1.0
    if like.probe is not None:
        # Components do not matter here, and a plug-in's may not be loaded.
        needed = (*SECTIONS, "task", "seed", "probe")
        spec = TrialSpec.from_json({key: record.spec[key] for key in needed if key in record.spec})
        epochs = epochs_worth(spec) / spec.train.all_epochs
    return training_pflop(gmacs, images, epochs) * 1e15 / seconds


def _scale(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides how fast a machine trains: a profile changes it, an arm does not."""
    data, train = spec.get("data", {}), spec.get("train", {})
    return (
        spec.get("task"),
        {key: value for key, value in spec.get("model", {}).items() if key != "weights"},
        {key: data.get(key) for key in ("name", "image_size")},
        {key: train.get(key) for key in ("batch_size", "accumulate", "precision")},
    )
