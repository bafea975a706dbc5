"""What a finished trial leaves: the record, and the states that it can be in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from ablator.contracts.settings import as_plain

Status = Literal["completed", "failed", "diverged", "pruned"]
FINAL: frozenset[str] = frozenset({"completed", "diverged", "pruned"})
"""States that are results: running again does not train them again. A failure is tried again."""


End = Literal["worker died", "hung", "out of memory", "slot died", "notice", "another run"]
"""What ended a start of a trial before its end. notice: its machine was to be taken away. another run: the
run that trained it ended or died, and a later one went on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """One start of a trial that something ended, and from where the next one went on."""

    ended: End
    when: float
    """Unix seconds at which that was seen."""
    epoch: int = 0
    """Finished epochs that the next start found in the checkpoint."""


def retries_text(retries: Sequence[Retry]) -> str:
    """The same in words, such as `worker died, went on in epoch 4; hung, went on in epoch 1`."""
    return "; ".join(f"{retry.ended}, went on in epoch {retry.epoch + 1}" for retry in retries)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One trial's outcome. Raises ValueError where its parts contradict each other."""

    identity: str
    """Content hash of the resolved spec (64 hex digits)."""
    status: Status
    spec: dict[str, Any]
    """The resolved spec, seed included, as plain JSON."""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    """Final evaluation: top1 and top5 in percent, losses in nats. Empty unless completed or pruned."""
    unmeasured: dict[str, str] = dataclasses.field(default_factory=dict)
    """Metrics that have no number and the word that stands in its place, such as OOM: a result as well."""
    curves: tuple[dict[str, float], ...] = ()
    """One row an epoch: epoch, train_loss, lr, the evaluation's metrics, every loss term."""
    cost: dict[str, float] = dataclasses.field(default_factory=dict)
    """Measured: train_seconds, eval_seconds, images_per_second, step_ms (median ms of a step),
    peak_memory_mb, steps."""
    size: dict[str, float] = dataclasses.field(default_factory=dict)
    """Counted: parameters (of what is deployed), training_parameters (with decoders), gmacs (one image)."""
    notes: tuple[str, ...] = ()
    """What a reader of the table must know, such as a feature network that stands in for VGG19."""
    error: str | None = None
    """Why it failed or where it diverged; None for the other states."""
    attempts: int = 1
    """How often it was started, deaths of workers and earlier runs included."""
    incidents: tuple[str, ...] = ()
    """What happened around the training and changes no number, such as a checkpoint that found no space."""
    retries: tuple[Retry, ...] = ()
    """What ended each start but the last one, in order; the latest 20. Older records have none."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Python, torch, timm, ablator, device name, threads, git commit."""
    started: float = 0.0
    """Unix seconds at the first attempt."""
    finished: float = 0.0
    """Unix seconds at commit."""

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(
                f"a record's status is one of {', '.join(get_args(Status))}, not {self.status!r}"
            )
        if self.status in ("failed", "diverged"):
            if self.metrics:
                raise ValueError(
                    f"a {self.status} record has no metrics, this one has {sorted(self.metrics)}"
                )
            if not self.error:
                raise ValueError(f"a {self.status} record says why")
        else:
            if self.error is not None:
                raise ValueError(f"a {self.status} record has no error, this one says {self.error!r}")
            if not self.metrics:
                raise ValueError(f"a {self.status} record has metrics")
            bad = sorted(k for k, v in self.metrics.items() if not math.isfinite(v))
            both = sorted(self.metrics.keys() & self.unmeasured.keys())
            if both:
                raise ValueError(f"a metric has a number or a word for it, not both: {', '.join(both)}")
            if bad:
                raise ValueError(f"a {self.status} record has finite metrics; not finite: {', '.join(bad)}")

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        plain: dict[str, Any] = as_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """The inverse of `to_json`; raises ValueError on unknown or contradicting fields, and on values that
        are of another type."""
        if not isinstance(data, dict):
            raise ValueError("not a record: no JSON object")
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        missing = sorted({"identity", "status", "spec"} - set(data))
        if unknown or missing:
            raise ValueError(f"not a record: unknown fields {unknown}, missing fields {missing}")
        wrong = sorted(name for name, value in data.items() if not _CHECKS[name](value))
        if wrong:
            raise ValueError(f"not a record: values of the wrong type in {', '.join(wrong)}")
        tuples = {name: tuple(data.get(name, ())) for name in ("curves", "notes", "incidents")}
        retries = tuple(Retry(**retry) for retry in data.get("retries", ()))
        return cls(**{**data, **tuples, "retries": retries})


def _is_number(value: Any) -> bool:
    """NaN and infinities, which the curves of a diverged trial hold, count; what no float holds does not."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any, item: Callable[[Any], bool] = lambda _: True) -> bool:
    return isinstance(value, dict) and all(map(item, value.values()))


def _is_list(value: Any, item: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(map(item, value))


def _has_numbers(value: Any) -> bool:
    return _is_mapping(value, _is_number)


def _has_texts(value: Any) -> bool:
    return _is_mapping(value, _is_text)


def is_retry(value: Any) -> bool:
    """Whether `value` is a Retry as plain JSON."""
    return (
        _is_mapping(value)
        and value.keys() == {"ended", "when", "epoch"}
        and value["ended"] in get_args(End)
        and _is_number(value["when"])
        and math.isfinite(value["when"])
        and type(value["epoch"]) is int
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "identity": _is_text,
    "status": _is_text,
    "spec": _is_mapping,
    "metrics": _has_numbers,
    "unmeasured": _has_texts,
    "curves": lambda value: _is_list(value, _has_numbers),
    "cost": _has_numbers,
    "size": _has_numbers,
    "notes": lambda value: _is_list(value, _is_text),
    "error": lambda value: value is None or _is_text(value),
    "attempts": lambda value: type(value) is int,
    "incidents": lambda value: _is_list(value, _is_text),
    "retries": lambda value: _is_list(value, is_retry),
    "versions": _has_texts,
    "started": lambda value: _is_number(value) and math.isfinite(value),
    "finished": lambda value: _is_number(value) and math.isfinite(value),
}
"""What a file may hold in each field; a reader of records relies on it."""
