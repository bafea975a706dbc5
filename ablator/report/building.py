"""From records to the table. Needs neither the study file nor the machine that trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ablator.contracts.record import Record
from ablator.errors import SettingError, nearest
from ablator.report import claims, sequential, statistics
from ablator.report.costs import count_size, measure, trial_seconds
from ablator.report.formatting import reason
from ablator.report.interactions import Measured, build_interactions
from ablator.report.origins import origins
from ablator.report.search import SearchTable
from ablator.report.sequential import SequentialDesign
from ablator.report.spending import spend
from ablator.report.statistics import Comparison, Paired
from ablator.report.table import STATUSES, Account, Cell, Further, Reported, Row, RowSpec, Table, TableSpec


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
    compared = _compare(spec, order, partners, cells, values)
    further = {metric: _further(spec, metric, order, partners, cells, records) for metric in spec.columns}
    found = [_found(row, records) for row in order]
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
                mean=_mean(finished),
                std=_std(finished),
                counts={status: sum(cell.status == status for cell in cells[index]) for status in STATUSES},
                comparison=compared[index],
                size=count_size(list(found[index].values())),
                cost=measure(found[index], found[partners[index]]),
                reported=_reported(row.reported, order[partners[index]].reported),
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
        notes=(*spec.notes, *_scale_note(spec), *_sequential_notes(spec)),
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


def _found(row: RowSpec, records: Mapping[str, Record]) -> dict[int, Record]:
    return {seed: records[identity] for seed, identity in row.identities if identity in records}


def _cells(metric: str, row: RowSpec, records: Mapping[str, Record]) -> tuple[Cell, ...]:
    return tuple(
        _cell(metric, row.label, seed, identity, records.get(identity)) for seed, identity in row.identities
    )


def _cell(metric: str, label: str, seed: int, identity: str, record: Record | None) -> Cell:
    if record is None:
        return Cell(seed=seed, identity=identity, status="missing")
    word = record.unmeasured.get(metric)
    if record.status == "completed" and word is None and metric not in record.metrics:
        raise _lacks("report.metric", metric, label, seed, record)
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


def _lacks(key: str, metric: str, label: str, seed: int, record: Record) -> SettingError:
    return SettingError(
        f"{key} is {metric!r}, which the trial of {label!r} with seed {seed} did not measure"
        f"{nearest(metric, record.metrics)}; it has: {', '.join(sorted(record.metrics))}"
    )


def _further(
    spec: TableSpec,
    metric: str,
    order: Sequence[RowSpec],
    partners: Sequence[int],
    cells: Sequence[Sequence[Cell]],
    records: Mapping[str, Record],
) -> list[Further]:
    """A further metric of every row. Its tests are a family of their own: each column answers its own
    question, and none of them decides the verdict (Bender & Lange 2001). With sequential seeds the main
    metric decides how many there are, so that the others have intervals of rows that may stop early, and no
    test."""
    numbers = [_numbers(metric, row, records) for row in order]
    paired: list[Paired | None] = []
    for row, row_cells, partner, (values, _) in zip(order, cells, partners, numbers, strict=True):
        if order[partner] is row:
            paired.append(None)
            continue
        pair = statistics.compare(values, numbers[partner][0], bootstrap=False)
        untested = _selected(row, row_cells) or any(cell.status == "diverged" for cell in row_cells)
        if spec.sequential is not None:
            pair = dataclasses.replace(sequential.widened(pair), p=None)
        paired.append(statistics.selected(pair) if untested else pair)
    adjusted = statistics.holm([pair.p if pair else None for pair in paired])
    return [
        Further(
            n=len(values),
            mean=_mean(list(values.values())),
            std=_std(list(values.values())),
            words=words,
            paired=pair,
            p_holm=p_holm,
        )
        for (values, words), pair, p_holm in zip(numbers, paired, adjusted, strict=True)
    ]


def _numbers(
    metric: str, row: RowSpec, records: Mapping[str, Record]
) -> tuple[dict[int, float], tuple[str, ...]]:
    """The metric by seed over the completed trials, and what others have in its place."""
    found = [(seed, record) for seed, record in _found(row, records).items() if record.status == "completed"]
    for seed, record in found:
        if metric not in record.metrics and metric not in record.unmeasured:
            raise _lacks("report.columns", metric, row.label, seed, record)
    values = {seed: record.metrics[metric] for seed, record in found if metric in record.metrics}
    return values, tuple(record.unmeasured[metric] for _, record in found if metric in record.unmeasured)


def _selected(row: RowSpec, cells: Sequence[Cell]) -> bool:
    """Whether the row's values were chosen by themselves: the best of a search, or what pruning left."""
    return bool(row.chosen_from) or any(cell.status == "pruned" for cell in cells)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _std(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _compare(
    spec: TableSpec,
    order: Sequence[RowSpec],
    partners: Sequence[int],
    cells: Sequence[Sequence[Cell]],
    values: Sequence[Mapping[int, float]],
) -> list[Comparison | None]:
    """One family of tests over the whole table, whichever baseline a row has."""
    if spec.sequential is not None:
        return _compare_sequential(spec, spec.sequential, order, partners, cells, values)
    arms = [index for index, partner in enumerate(partners) if partner != index]
    paired = [statistics.compare(values[index], values[partners[index]]) for index in arms]
    tested = spec.test != "none"
    paired = paired if tested else [claims.without_test(pair) for pair in paired]
    ps = [None if _selected(order[i], cells[i]) else pair.p for i, pair in zip(arms, paired, strict=True)]
    family = sum(p is not None for p in ps)
    compared: list[Comparison | None] = [None] * len(order)
    for index, pair, p in zip(arms, paired, statistics.holm(ps), strict=True):
        row = order[index]
        reported = _reported(row.reported, order[partners[index]].reported).get(spec.metric)
        judged = statistics.judge(
            pair,
            mode=claims.claimed_mode(spec.mode, removes=row.removes),
            p_holm=p,
            family=family,
            expected=reported.delta if reported else None,
            diverged=(sum(cell.status == "diverged" for cell in cells[index]), len(cells[index])),
            pruned=(sum(cell.status == "pruned" for cell in cells[index]), len(cells[index])),
            planned=len(cells[index]),
            chosen_from=row.chosen_from,
        )
        compared[index] = claims.in_words(judged, spec.mode, removes=row.removes, tested=tested)
    return compared


def _compare_sequential(
    spec: TableSpec,
    plan: SequentialDesign,
    order: Sequence[RowSpec],
    partners: Sequence[int],
    cells: Sequence[Sequence[Cell]],
    values: Sequence[Mapping[int, float]],
) -> list[Comparison | None]:
    """The same of a study whose rows got their seeds one at a time, by the looks that were taken."""
    arms = {}
    for index, partner in enumerate(partners):
        if partner == index:
            continue
        row = order[index]
        reported = _reported(row.reported, order[partner].reported).get(spec.metric)
        arms[row.label] = sequential.Arm(
            values=values[index],
            baseline=values[partner],
            tried=len(cells[index]),
            expected=reported.delta if reported else None,
            diverged=sum(cell.status == "diverged" for cell in cells[index]),
            pruned=sum(cell.status == "pruned" for cell in cells[index]),
            mode=claims.claimed_mode(spec.mode, removes=row.removes),
        )
    decided = sequential.decide(arms, design=plan)
    return [
        claims.in_words(decided[row.label].comparison, spec.mode, removes=row.removes, tested=True)
        if row.label in decided
        else None
        for row in order
    ]


def _sequential_notes(spec: TableSpec) -> list[str]:
    if spec.sequential is None:
        return []
    plan = spec.sequential
    notes = [
        f"Sequential seeds: {plan.least} for every row, then one more at a time, up to {plan.most}, where "
        "the question was open. p is valid however often it was looked at (Wang–Tsiatis boundary for t "
        "statistics, Holm-adjusted: group-sequential Holm), and intervals are t intervals at "
        f"{100 * (1 - sequential.STOPPED_LEVEL):.0f} %, which hold 95 % where rows stop early."
    ]
    if spec.columns or spec.interactions:
        kinds = {"further metrics": spec.columns, "interactions": spec.interactions}
        also = " and ".join(kind for kind, there in kinds.items() if there)
        notes.append(
            f"The main metric decided how many seeds there are, so that {also} are described and not tested."
        )
    return notes


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


def _reported(row: Mapping[str, float | str], baseline: Mapping[str, float | str]) -> dict[str, Reported]:
    def difference(key: str, value: float) -> float | None:
        other = math.nan if row is baseline else baseline.get(key, math.nan)
        if isinstance(other, str):
            return None
        # Rounded, because 80.8 - 79.8 is 1.0 as printed and 0.9999999999999858 in binary.
        return round(value - other, 9) if math.isfinite(value - other) else None

    def item(key: str, value: float | str) -> Reported:
        if isinstance(value, str):
            return Reported(value=None, word=value)
        if not math.isfinite(value):
            return Reported(value=None, word="diverged")
        return Reported(value=value, delta=difference(key, value))

    return {key: item(key, value) for key, value in row.items()}


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
