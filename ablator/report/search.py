"""A search arm: the points that a sampler asked for, the best of them, and how the search went."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ablator.contracts.record import Status
from ablator.report.statistics import Mode
from ablator.study.spaces import Dimension

TOP = 10
"""Points that a table shows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchPoint:
    """One point that the sampler asked for."""

    params: Mapping[str, Any]
    """Dotted keys to sampled values; conditional dimensions that do not apply are absent."""
    value: float | None
    """The metric, or its mean over seeds; None unless completed."""
    status: Status
    identity: str
    """Identity of its trial; a point asked for again has the same one and is answered from the ledger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchTable:
    """A finished or running search."""

    label: str
    metric: str
    mode: Mode
    samples: int
    """Points asked for, repeats included."""
    points: tuple[SearchPoint, ...]
    """Distinct points, in the order in which they were first asked for."""
    top: tuple[SearchPoint, ...]
    """The best TOP completed points, best first."""
    history: tuple[tuple[int, float], ...]
    """(sample number from 1, best value so far) where a sample was completed, repeats included."""
    samples_done: tuple[tuple[int, float], ...]
    """(sample number from 1, its value) where a sample was completed, repeats included."""
    dimensions: Mapping[str, Dimension] = dataclasses.field(default_factory=dict)
    """The space that points were drawn from, by dotted key; empty where nobody says it."""

    @property
    def best(self) -> SearchPoint | None:
        """The best completed point; None where none is."""
        return self.top[0] if self.top else None

    def sampled_keys(self) -> list[str]:
        """Dotted keys that the shown points have, in order of appearance."""
        return list(dict.fromkeys(key for point in self.top for key in point.params))

    def summary(self) -> str:
        """What became of the samples, in one line."""
        counts = {status: sum(point.status == status for point in self.points) for status in _STATUSES}
        parts = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        repeats = self.samples - len(self.points)
        again = f"; repeats answered without training: {repeats}" if repeats else ""
        return f"{self.samples} samples, {len(self.points)} distinct points: {parts or 'none'}{again}"


_STATUSES: tuple[Status, ...] = ("completed", "pruned", "diverged", "failed")


def build_search(label: str, metric: str, mode: Mode, points: Sequence[SearchPoint]) -> SearchTable:
    """The table of a search from its points in the order asked for; ties keep that order. Raises ValueError
    where a completed point has no value or another one has."""
    for point in points:
        if (point.value is not None) != (point.status == "completed"):
            raise ValueError(
                f"a {point.status} point has the value {point.value}; only completed ones have one"
            )
    sign = -1.0 if mode == "max" else 1.0
    distinct = tuple({point.identity: point for point in reversed(points)}.values())[::-1]
    ranked = sorted(
        (sign * point.value, index) for index, point in enumerate(distinct) if point.value is not None
    )
    done = tuple((number, point.value) for number, point in enumerate(points, 1) if point.value is not None)
    best = itertools.accumulate((value for _, value in done), max if mode == "max" else min)
    return SearchTable(
        label=label,
        metric=metric,
        mode=mode,
        samples=len(points),
        points=distinct,
        top=tuple(distinct[index] for _, index in ranked[:TOP]),
        history=tuple((number, value) for (number, _), value in zip(done, best, strict=True)),
        samples_done=done,
    )
