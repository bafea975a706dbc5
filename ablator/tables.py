"""From a plan and the store to the study's table: what every command about results shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ablator.contracts.record import Record
from ablator.plan.planning import Plan
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import Trial
from ablator.report.building import build_table
from ablator.report.search import SearchPoint, SearchTable, build_search
from ablator.report.table import RowSpec, Table, TableSpec
from ablator.report.writing import write_report
from ablator.results.journal import Journal, Sample
from ablator.results.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to, in trials. planned = completed + failed + diverged + pruned + cached + missing."""

    planned: int
    """Different trials of the arms, and every sample (times seeds) of the searches."""
    trained: int
    """Trials that this run started."""
    completed: int
    cached: int
    """Answered by the ledger: from earlier runs, other studies, or repeats within a search."""
    failed: int
    diverged: int
    pruned: int
    missing: int
    seconds: float
    """Wall time of the run."""

    @property
    def ok(self) -> bool:
        """Whether every planned trial has a result; a divergence is one, a failure is not."""
        return self.failed == 0 and self.missing == 0

    def line(self) -> str:
        """The account as an equation."""
        return (
            f"{self.planned} planned = {self.completed} completed + {self.failed} failed + {self.diverged} "
            f"diverged + {self.pruned} pruned + {self.cached} cached"
            + (f" + {self.missing} missing" if self.missing else "")
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """A study's table, and what is behind it."""

    plan: Plan
    table: Table
    records: Mapping[str, Record]
    """By identity; failures included."""
    summary: Summary
    files: Mapping[str, Path]
    """Written reports by name: table.md, table.tex, table.csv, page.html, results.json."""
    mirror_left: int = 0
    """Trials and reports that MLflow has not got yet; `sync` sends them."""
    mirror_problem: str | None = None
    """Why, in one line."""


def drawn(planned: Plan, journals: Mapping[int, Journal]) -> list[Trial]:
    """The different trials that the searches have drawn; `journals` by index of the search's arm."""
    found: dict[str, Trial] = {}
    for search in planned.searches:
        for sample in journals[search.arm].read()[: search.samples]:
            for seed, identity in zip(search.seeds, sample.identities, strict=True):
                if identity not in found:
                    found[identity] = search.trial(sample.point, seed)
    return list(found.values())


def found_records(store: Store, identities: Collection[str]) -> dict[str, Record]:
    """Final records, and the failures of trials that have none."""
    records = store.ledger.load(identities)
    for identity in identities:
        if identity not in records and (failure := store.ledger.failure(identity)) is not None:
            records[identity] = failure
    return records


def collect(
    planned: Plan,
    store: Store,
    journals: Mapping[int, Journal],
    profile: str | None,
    overrides: Sequence[str],
) -> Results:
    """The table of all that the store has of a plan, and its written files. The summary is empty: what a
    run came to, only the run knows. Raises StoreError."""
    samples = {search.arm: journals[search.arm].read()[: search.samples] for search in planned.searches}
    drawn = {i for arm in samples.values() for sample in arm for i in sample.identities}
    records = found_records(store, {*planned.unique(), *drawn})
    metric, mode = planned.study.report.metric, mode_of(planned)
    tables: list[SearchTable] = []
    best: list[RowSpec] = []
    for search in planned.searches:
        points = [_point(sample, records, metric) for sample in samples[search.arm]]
        tables.append(build_search(search.label, metric, mode, [p for p in points if p is not None]))
        reported = planned.reported.get(search.label, {})
        best += _best_row(search, tables[-1], samples[search.arm], reported)
    table = build_table(table_spec(planned, profile, overrides, best), records, tables)
    files = write_report(table, store.reports(planned.study.study) / planned.profile)
    nothing = Summary(
        planned=0, trained=0, completed=0, cached=0, failed=0, diverged=0, pruned=0, missing=0, seconds=0.0
    )
    return Results(plan=planned, table=table, records=records, summary=nothing, files=files)


def _point(sample: Sample, records: Mapping[str, Record], metric: str) -> SearchPoint | None:
    """A sample as a point; None while a trial of it has no record."""
    found = [records[i] for i in sample.identities if i in records]
    if len(found) < len(sample.identities):
        return None
    bad = next((r.status for r in found if r.status != "completed"), None)
    value = None if bad else sum(r.metrics[metric] for r in found) / len(found)
    return SearchPoint(
        params=sample.point, value=value, status=bad or "completed", identity=sample.identities[0]
    )


def _best_row(
    search: SearchPlan, table: SearchTable, samples: Sequence[Sample], reported: Mapping[str, float]
) -> list[RowSpec]:
    if table.best is None:
        return []
    sample = next(s for s in samples if s.identities[0] == table.best.identity)
    return [
        RowSpec(
            label=f"{search.label} (best)",
            changes=sample.point,
            identities=tuple(zip(search.seeds, sample.identities, strict=True)),
            reported=reported,
            chosen_from=len(table.points),
        )
    ]


def mode_of(planned: Plan) -> Literal["max", "min"]:
    """Whether more of the study's metric is better: not of losses."""
    return "min" if planned.study.report.metric.endswith("loss") else "max"


def table_spec(
    planned: Plan, profile: str | None, overrides: Sequence[str], best: Sequence[RowSpec]
) -> TableSpec:
    """How the plan's table reads: its arms, then the `best` rows of its searches."""
    study = planned.study
    rows = [
        RowSpec(
            label=arm.label,
            changes=arm.changes,
            identities=tuple((trial.seed, trial.identity) for trial in planned.of(arm)),
            reported=planned.reported.get(arm.label, {}),
        )
        for arm in planned.arms
        if arm.kind != "search"
    ]
    options = [f"--profile {profile}"] if profile else []
    options += [f"--set {override}" for override in overrides]
    return TableSpec(
        study=study.study,
        question=study.question,
        source=study.source,
        profile=planned.profile,
        metric=study.report.metric,
        mode=mode_of(planned),
        baseline=study.baseline.label,
        rows=(*rows, *best),
        notes=(*planned.notes, *((study.report.note,) if study.report.note else ())),
        command=" ".join(["ablator run", study.file or f"<{study.study}>", *options]),
    )


def summarise(
    planned: Plan,
    before: Mapping[str, Record],
    statuses: Mapping[str, str],
    answered: int,
    searches: Sequence[SearchPlan],
) -> Summary:
    """A run's account, from what was there `before`, how the started trials ended (`statuses`), and how many
    samples of the `searches` that were not settled were `answered` without training."""
    settled = [s for s in planned.searches if s not in searches]
    total = len(planned.unique()) + sum(s.samples * len(s.seeds) for s in planned.searches)
    counts = {state: list(statuses.values()).count(state) for state in ("completed", "failed", "diverged")}
    pruned = list(statuses.values()).count("pruned")
    cached = len(before) + answered + sum(s.samples * len(s.seeds) for s in settled)
    missing = total - sum(counts.values()) - pruned - cached
    assert missing >= 0, "every trial is counted once"
    return Summary(
        planned=total,
        trained=len(statuses),
        completed=counts["completed"],
        cached=cached,
        failed=counts["failed"],
        diverged=counts["diverged"],
        pruned=pruned,
        missing=missing,
        seconds=0.0,
    )
