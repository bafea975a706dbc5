"""What the table says beside its numbers: the source's own values, and what a profile translated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ablator.errors import SettingError, nearest
from ablator.plan.designs import Row
from ablator.plan.scale import Scale
from ablator.study.overlay import value_text
from ablator.study.schema import Study


def reported_values(study: Study, labels: Sequence[str], where: str) -> dict[str, dict[str, float | str]]:
    """The source's numbers by label and metric, NaN for a divergence and OOM as it is. Raises SettingError
    for a label that no row has."""
    found: dict[str, dict[str, float | str]] = {}
    for name, value in study.report.reported.items():
        label = study.baseline.label if name == "baseline" and name not in labels else name
        if label not in labels:
            raise SettingError(
                f"{where}: report.reported: no row is called {name!r}{nearest(name, labels)}; rows: "
                + ", ".join(repr(known) for known in labels)
            )
        values: Mapping[str, float | str] = value if isinstance(value, dict) else {study.report.metric: value}
        found[label] = {
            metric: number if number == "OOM" else float(number) for metric, number in values.items()
        }
    return found


def profile_notes(scale: Scale, declared: Iterable[Row]) -> tuple[str, ...]:
    """Where labels show the study's values and a profile trains with others, and what has no effect."""
    used: dict[str, dict[str, Any]] = {}
    for row in declared:
        for key, value in row.changes.items():
            if scale.translated(key, value) is not value:
                used.setdefault(key, {})[value_text(value)] = scale.translated(key, value)
    idle = (f"nothing is trained here, so that {', '.join(scale.idle)} changes nothing",)
    return (idle if scale.idle else ()) + tuple(
        f"profile {scale.name}: {key} "
        + ", ".join(f"{old} stands for {value_text(new)}" for old, new in values.items())
        for key, values in used.items()
    )
