"""Rows beside what they are compared with: the main metric with its verdicts, and further metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ablator.contracts.record import Record
from ablator.errors import SettingError, nearest
from ablator.report import claims, sequential, statistics
from ablator.report.looks import STOPPED_LEVEL
from ablator.report.sequential import SequentialDesign
from ablator.report.statistics import Comparison, Paired
from ablator.report.table import Cell, Further, Reported, RowSpec, TableSpec


def compare_rows(
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
        reported = reported_values(row.reported, order[partners[index]].reported).get(spec.metric)
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
        reported = reported_values(row.reported, order[partner].reported).get(spec.metric)
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


def sequential_notes(spec: TableSpec) -> list[str]:
    """What a reader must know of a table whose rows got their seeds one at a time."""
    if spec.sequential is None:
        return []
    plan = spec.sequential
    notes = [
        f"Sequential seeds: {plan.least} for every row, then one more at a time, up to {plan.most}, where "
        "the question was open. p is valid however often it was looked at (Wang–Tsiatis boundary for t "
        "statistics, Holm-adjusted: group-sequential Holm), and intervals are t intervals at "
        f"{100 * (1 - STOPPED_LEVEL):.0f} %, which hold 95 % where rows stop early."
    ]
    if spec.columns or spec.interactions:
        kinds = {"further metrics": spec.columns, "interactions": spec.interactions}
        also = " and ".join(kind for kind, there in kinds.items() if there)
        notes.append(
            f"The main metric decided how many seeds there are, so that {also} are described and not tested."
        )
    return notes


def further_metric(
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
            mean=mean_of(list(values.values())),
            std=deviation_of(list(values.values())),
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
    found = [
        (seed, record) for seed, record in found_records(row, records).items() if record.status == "completed"
    ]
    for seed, record in found:
        if metric not in record.metrics and metric not in record.unmeasured:
            raise lacks("report.columns", metric, row.label, seed, record)
    values = {seed: record.metrics[metric] for seed, record in found if metric in record.metrics}
    return values, tuple(record.unmeasured[metric] for _, record in found if metric in record.unmeasured)


def _selected(row: RowSpec, cells: Sequence[Cell]) -> bool:
    """Whether the row's values were chosen by themselves: the best of a search, or what pruning left."""
    return bool(row.chosen_from) or any(cell.status == "pruned" for cell in cells)


def reported_values(
    row: Mapping[str, float | str], baseline: Mapping[str, float | str]
) -> dict[str, Reported]:
    """What the source prints for a row by metric, and the difference from what it prints for the baseline."""

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


def found_records(row: RowSpec, records: Mapping[str, Record]) -> dict[int, Record]:
    """The row's records by seed."""
    return {seed: records[identity] for seed, identity in row.identities if identity in records}


def lacks(key: str, metric: str, label: str, seed: int, record: Record) -> SettingError:
    """That a completed trial has not the metric that the study's `key` asks for."""
    return SettingError(
        f"{key} is {metric!r}, which the trial of {label!r} with seed {seed} did not measure"
        f"{nearest(metric, record.metrics)}; it has: {', '.join(sorted(record.metrics))}"
    )


def mean_of(values: Sequence[float]) -> float | None:
    """None without values."""
    return math.fsum(values) / len(values) if values else None


def deviation_of(values: Sequence[float]) -> float | None:
    """Standard deviation, ddof 1; None with fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
