"""The design of a study as a matrix: rows by the keys that any of them declares, with the values that each
row really has, so that what a row does not say can be read as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ablator.report.table import Table
from ablator.study.overlay import value_text

NONE = "–"
"""In the place of a value of a section that is off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DesignRow:
    """One row of the matrix."""

    label: str
    is_baseline: bool
    values: tuple[tuple[str, bool], ...]
    """For each key its value as text, empty where nobody says it, and whether the row declares it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """The matrix."""

    keys: tuple[str, ...]
    """Dotted, in the order in which rows declare them."""
    rows: tuple[DesignRow, ...]


def design(table: Table) -> Design:
    """The matrix of a table's rows; rows without a resolved spec show what they declare alone."""
    declared = dict.fromkeys(key for row in table.rows for key in row.changes)
    keys = [key for key in declared if not any(other.startswith(f"{key}.") for other in declared)]
    resolved = {row.label: row.resolved for row in table.spec.rows}
    models = {row.get("model.name") for row in resolved.values() if row}
    if len(models) > 1 and "model.name" not in keys:
        # Rows with recipes of their own need not declare what tells them apart.
        keys.insert(0, "model.name")
    return Design(
        keys=tuple(keys),
        rows=tuple(
            DesignRow(
                label=row.label,
                is_baseline=row.is_baseline,
                values=tuple(_value(key, row.changes, resolved.get(row.label, {})) for key in keys),
            )
            for row in table.rows
        ),
    )


def _value(key: str, changes: Mapping[str, Any], resolved: Mapping[str, Any]) -> tuple[str, bool]:
    if key in changes:
        value = changes[key]
        # An empty section is switched on, and none switched off.
        return {"{}": "on", "null": "off"}.get(value_text(value), value_text(value)), True
    if key in resolved:
        return value_text(resolved[key]), False
    if not resolved:
        return "", False
    inside = any(name.startswith(f"{key}.") for name in resolved)
    return ("on" if inside else "off" if "." not in key else NONE), False


def dotted(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested document's leaves by dotted key; lists are leaves."""
    return dict(_leaves(value, prefix))


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, below in value.items():
        key = f"{prefix}{name}"
        if isinstance(below, Mapping) and below:
            yield from _leaves(below, f"{key}.")
        else:
            yield key, below
