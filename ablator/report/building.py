"""From records to the table. Needs neither the study file nor the machine that trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from ablator.contracts.record import Record
from ablator.errors import SettingError, nearest
from ablator.report.contrasts import (
    compare_rows,
    deviation_of,
    found_records,
    further_metric,
    lacks,
    mean_of,
    reported_values,
    sequential_notes,
)
from ablator.report.costs import count_size, measure, trial_seconds
from ablator.report.disturbed import disturbed
from ablator.report.formatting import reason
from ablator.report.interactions import Measured, build_interactions
from ablator.report.origins import origins
from ablator.report.search import SearchTable
from ablator.report.spending import spend
from ablator.report.table import STATUSES, Account, Cell, Row, RowSpec, Table, TableSpec


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
    partners = _partners(spec, order)
    compared = compare_rows(spec, order, partners, cells, values)
    further = {
        metric: further_metric(spec, metric, order, partners, cells, records) for metric in spec.columns
    }
    found = [found_records(row, records) for row in order]
    notes = [
        _row_notes(row_cells, row_found, values[partner], row.chosen_from)
        for row, row_cells, row_found, partner in zip(order, cells, found, partners, strict=True)
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
                is_baseline=partners[index] == index,
                against=None if partners[index] == index else order[partners[index]].label,
                cells=cells[index],
                n=len(finished),
                mean=mean_of(finished),
                std=deviation_of(finished),
                counts={status: sum(cell.status == status for cell in cells[index]) for status in STATUSES},
                comparison=compared[index],
                size=count_size(list(found[index].values())),
                cost=measure(found[index], found[partners[index]]),
                reported=reported_values(row.reported, order[partners[index]].reported),
                further={metric: column[index] for metric, column in further.items()},
                footnotes=tuple(sorted({numbers[note] for note in notes[index]})),
            )
        )
    planned = {identity for row in spec.rows for _, identity in row.identities}
    used = [records[identity] for identity in sorted(planned & set(records))]
    return Table(
        spec=spec,
        rows=tuple(rows),
        footnotes=footnotes,
        notes=(*spec.notes, *_scale_note(spec), *sequential_notes(spec)),
        account=account(spec, records),
        versions=_versions(used),
        seconds=math.fsum(trial_seconds(record) for record in used),
        searches=tuple(searches),
        interactions=build_interactions(
            spec.interactions,
            _measured(rows, spec.metric),
            mode=spec.mode,
            tested=spec.test != "none" and spec.sequential is None,
        ),
        spending=spend(
            used,
            [identity for row in spec.rows for _, identity in row.identities],
            searches,
            [(found[index], row.spared) for index, row in enumerate(order) if row.spared],
        ),
        origins=origins(used),
        disturbed=disturbed((row.label, found[index]) for index, row in enumerate(order)),
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


def _partners(spec: TableSpec, order: Sequence[RowSpec]) -> list[int]:
    """The index of the row that each one is compared with; a baseline's own."""
    index = {row.label: i for i, row in enumerate(order)}
    return [
        i if i == 0 or row.baseline else index[row.against or spec.baseline] for i, row in enumerate(order)
    ]


def _cells(metric: str, row: RowSpec, records: Mapping[str, Record]) -> tuple[Cell, ...]:
    return tuple(
        _cell(metric, row.label, seed, identity, records.get(identity)) for seed, identity in row.identities
    )


def _cell(metric: str, label: str, seed: int, identity: str, record: Record | None) -> Cell:
    if record is None:
        return Cell(seed=seed, identity=identity, status="missing")
    word = record.unmeasured.get(metric)
    if record.status == "completed" and word is None and metric not in record.metrics:
        raise lacks("report.metric", metric, label, seed, record)
    return Cell(
        seed=seed,
        identity=identity,
        status=record.status,
        value=record.metrics.get(metric) if record.status == "completed" else None,
        word=word,
        error=record.error,
        curve=tuple(
            (point["epoch"], point[metric])
            for point in record.curves
            if "epoch" in point and metric in point and math.isfinite(point[metric])
        ),
    )


def _measured(rows: Sequence[Row], metric: str) -> dict[str, Measured]:
    """What each row brings to interactions, by label."""
    return {
        row.label: Measured(
            values={cell.seed: cell.value for cell in row.cells if cell.value is not None},
            diverged=row.counts["diverged"],
            planned=len(row.cells),
            reported=row.reported[metric].value if metric in row.reported else None,
        )
        for row in rows
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
