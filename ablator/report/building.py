"""From records to the table. Needs neither the study file nor the machine that trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ablator.contracts.record import Record
from ablator.errors import SettingError, nearest
from ablator.report import statistics
from ablator.report.costs import count_size, measure, trial_seconds
from ablator.report.formatting import reason
from ablator.report.search import SearchTable
from ablator.report.statistics import Comparison
from ablator.report.table import STATUSES, Account, Cell, Reported, Row, RowSpec, Table, TableSpec


def build_table(
    spec: TableSpec, records: Mapping[str, Record], searches: Sequence[SearchTable] = ()
) -> Table:
    """The table of `spec` from `records` by identity; a planned identity without a record is a missing cell.

    Raises SettingError where no row is labelled `spec.baseline`, or where a completed record lacks the
    metric.
    """
    order = _baseline_first(spec)
    cells = [_cells(spec.metric, row, records) for row in order]
    values = [{cell.seed: cell.value for cell in row if cell.value is not None} for row in cells]
    compared = _compare(spec, order, cells, values)
    found = [_found(row, records) for row in order]
    notes = [
        _row_notes(row_cells, row_found, values[0], row.chosen_from)
        for row, row_cells, row_found in zip(order, cells, found, strict=True)
    ]
    footnotes = tuple(dict.fromkeys(note for row in notes for note in row))
    numbers = {note: number for number, note in enumerate(footnotes, start=1)}
    rows = []
    for index, row in enumerate(order):
        finished = list(values[index].values())
        rows.append(
            Row(
                label=row.label,
                changes=row.changes,
                is_baseline=index == 0,
                cells=cells[index],
                n=len(finished),
                mean=math.fsum(finished) / len(finished) if finished else None,
                std=float(np.std(finished, ddof=1)) if len(finished) > 1 else None,
                counts={status: sum(cell.status == status for cell in cells[index]) for status in STATUSES},
                comparison=compared[index],
                size=count_size(list(found[index].values())),
                cost=measure(found[index], found[0]),
                reported=_reported(row.reported, order[0].reported),
                footnotes=tuple(dict.fromkeys(numbers[note] for note in notes[index])),
            )
        )
    planned = {identity for row in spec.rows for _, identity in row.identities}
    used = [records[identity] for identity in sorted(planned & set(records))]
    return Table(
        spec=spec,
        rows=tuple(rows),
        footnotes=footnotes,
        notes=(*spec.notes, *_scale_note(spec)),
        account=account(spec, records),
        versions=_versions(used),
        seconds=math.fsum(trial_seconds(record) for record in used),
        searches=tuple(searches),
    )


def account(spec: TableSpec, records: Mapping[str, Record], cached: Collection[str] | None = None) -> Account:
    """Planned trials by outcome; identities in `cached` that have a record are counted as cached instead."""
    planned = sorted({identity for row in spec.rows for _, identity in row.identities})
    before = (
        None
        if cached is None
        else {identity for identity in planned if identity in cached and identity in records}
    )
    rest = [identity for identity in planned if identity not in (before or ())]
    outcomes = [records[identity].status if identity in records else "missing" for identity in rest]
    return Account(
        planned=len(planned),
        cached=None if before is None else len(before),
        **{status: outcomes.count(status) for status in STATUSES},
    )


def _baseline_first(spec: TableSpec) -> list[RowSpec]:
    baseline = [row for row in spec.rows if row.label == spec.baseline]
    if not baseline:
        labels = [row.label for row in spec.rows]
        raise SettingError(
            f"the baseline {spec.baseline!r} is no row of study {spec.study!r}"
            f"{nearest(spec.baseline, labels)}; rows: {', '.join(labels) or 'none'}"
        )
    return [baseline[0], *(row for row in spec.rows if row is not baseline[0])]


def _found(row: RowSpec, records: Mapping[str, Record]) -> dict[int, Record]:
    return {seed: records[identity] for seed, identity in row.identities if identity in records}


def _cells(metric: str, row: RowSpec, records: Mapping[str, Record]) -> tuple[Cell, ...]:
    return tuple(
        _cell(metric, row.label, seed, identity, records.get(identity)) for seed, identity in row.identities
    )


def _cell(metric: str, label: str, seed: int, identity: str, record: Record | None) -> Cell:
    if record is None:
        return Cell(seed=seed, identity=identity, status="missing")
    if record.status == "completed" and metric not in record.metrics:
        raise SettingError(
            f"report.metric is {metric!r}, which the trial of {label!r} with seed {seed} did not measure"
            f"{nearest(metric, record.metrics)}; it has: {', '.join(sorted(record.metrics))}"
        )
    return Cell(
        seed=seed,
        identity=identity,
        status=record.status,
        value=record.metrics[metric] if record.status == "completed" else None,
        error=record.error,
        curve=tuple(
            (point["epoch"], point[metric])
            for point in record.curves
            if "epoch" in point and metric in point and math.isfinite(point[metric])
        ),
    )


def _compare(
    spec: TableSpec,
    order: Sequence[RowSpec],
    cells: Sequence[Sequence[Cell]],
    values: Sequence[Mapping[int, float]],
) -> list[Comparison | None]:
    paired = [statistics.compare(row, values[0]) for row in values[1:]]
    ps = [None if row.chosen_from else pair.p for row, pair in zip(order[1:], paired, strict=True)]
    family = sum(p is not None for p in ps)
    compared: list[Comparison | None] = [None]
    for row, row_cells, pair, p in zip(order[1:], cells[1:], paired, statistics.holm(ps), strict=True):
        reported = _reported(row.reported, order[0].reported).get(spec.metric)
        compared.append(
            statistics.judge(
                pair,
                mode=spec.mode,
                p_holm=p,
                family=family,
                expected=reported.delta if reported else None,
                diverged=(sum(cell.status == "diverged" for cell in row_cells), len(row_cells)),
                chosen_from=row.chosen_from,
            )
        )
    return compared


def _reported(row: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, Reported]:
    def difference(key: str, value: float) -> float | None:
        other = math.nan if row is baseline else baseline.get(key, math.nan)
        # Rounded, because 80.8 - 79.8 is 1.0 as printed and 0.9999999999999858 in binary.
        return round(value - other, 9) if math.isfinite(value - other) else None

    return {
        key: Reported(value=value if math.isfinite(value) else None, delta=difference(key, value))
        for key, value in row.items()
    }


def _row_notes(
    cells: Sequence[Cell], found: Mapping[int, Record], baseline: Mapping[int, float], chosen_from: int
) -> list[str]:
    """What a reader of one row must know, in the order in which it is numbered."""
    notes = [note for record in found.values() for note in record.notes]
    for status in ("diverged", "failed", "pruned", "missing"):
        hit = [cell for cell in cells if cell.status == status]
        if hit:
            seeds = ", ".join(str(cell.seed) for cell in hit)
            why = next((f": {reason(cell.error)[:200]}" for cell in hit if cell.error), "")
            notes.append(f"{'Seed' if len(hit) == 1 else 'Seeds'} {seeds} {status}{why}")
    unpaired = [str(cell.seed) for cell in cells if cell.value is not None and cell.seed not in baseline]
    if unpaired:
        notes.append(f"Δ leaves out seed {', '.join(unpaired)}, for which the baseline has no value")
    if chosen_from:
        notes.append(
            f"Best of {chosen_from} points by the values shown, so too good by selection; not tested"
        )
    return notes


def _scale_note(spec: TableSpec) -> list[str]:
    if spec.profile == "paper" or not any(row.reported for row in spec.rows):
        return []
    return [
        f"Reported values are the source's, at its own scale and data; this run used the profile "
        f"{spec.profile!r}, so compare the direction of the differences and not their size."
    ]


def _versions(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    met: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            met.setdefault(name, set()).add(version)
    return {name: tuple(sorted(met[name])) for name in sorted(met)}
