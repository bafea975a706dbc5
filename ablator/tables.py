"""From a plan and the store to the study's table: what every command about results shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablator.contracts.record import Record
from ablator.plan.planning import Plan
from ablator.plan.searching import SearchPlan
from ablator.plan.selecting import BEST, part_name
from ablator.plan.trial import Trial
from ablator.report.building import build_table
from ablator.report.design import dotted
from ablator.report.figures import FOLDER
from ablator.report.inline import render_inline
from ablator.report.interactions import InteractionSpec
from ablator.report.reproducing import Reproduction
from ablator.report.search import SearchPoint, SearchTable, build_search
from ablator.report.table import RowSpec, Table, TableSpec
from ablator.report.writing import write_bound, write_page, write_report
from ablator.results.journal import Journal, Sample
from ablator.results.links import run_links
from ablator.results.read_once import ReadOnce
from ablator.results.store import Store
from ablator.rounds import asked, design_of, mode_of
from ablator.study.folder import name_together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to, in trials. planned = completed + failed + diverged + pruned + cached + missing."""

    planned: int
    """Different trials of the arms (with sequential seeds those that rows were asked for), and every sample
    (times seeds) of the searches."""
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
    """Wall time of the run; of several studies that ran together, of all of them."""
    shared: int = 0
    """Planned trials that an earlier study of the same run has too, so that they need no training of their
    own."""
    needed: int = 0
    """Trials that this run trained beside the planned ones, for the weights that planned ones start from:
    those of studies that it was not asked for, and recorded ones whose weights were not kept."""

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
    """With sequential seeds the trials alone that rows were asked for."""
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

    def _repr_html_(self) -> str:
        """The table, in a notebook."""
        return render_inline(self.table)


def journals_of(store: Store, planned: Plan) -> dict[int, Journal]:
    """The journals of a plan's searches, by index of the search's arm."""
    return {s.arm: store.journal(f"{planned.study.study}-{s.id}") for s in planned.searches}


def drawn(planned: Plan, journals: Mapping[int, Journal]) -> list[Trial]:
    """The different trials that the searches have drawn; `journals` by index of the search's arm."""
    found: dict[str, Trial] = {}
    for search in planned.searches:
        for sample in journals[search.arm].read()[: search.samples]:
            for seed, identity in zip(search.seeds, sample.identities, strict=True):
                if identity not in found:
                    found[identity] = search.trial(sample.point, seed)
    return list(found.values())


def found_records(
    store: Store, identities: Collection[str], known: ReadOnce | None = None
) -> dict[str, Record]:
    """Final records, and the failures of trials that have none; of `known` what was read already."""
    records = (known or store.ledger).load(identities)
    return records | store.ledger.failures(i for i in identities if i not in records)


def collect(
    planned: Plan,
    store: Store,
    journals: Mapping[int, Journal],
    profile: str | None,
    overrides: Sequence[str],
    known: ReadOnce | None = None,
) -> Results:
    """The table of all that the store has of a plan, and its written files. The summary is empty: what a
    run came to, only the run knows; `known`: records that were read already. Raises StoreError."""
    whole = planned
    samples = {search.arm: journals[search.arm].read()[: search.samples] for search in planned.searches}
    drawn = {i for arm in samples.values() for sample in arm for i in sample.identities}
    records = found_records(store, {*whole.unique(), *drawn}, known)
    planned = asked(whole, records)
    records = {i: records[i] for i in (*planned.unique(), *drawn) if i in records}
    metric, mode = planned.study.report.metric, mode_of(planned)
    tables: list[SearchTable] = []
    best: list[RowSpec] = []
    for search in planned.searches:
        points = [_point(sample, records, metric) for sample in samples[search.arm]]
        found = build_search(search.label, metric, mode, [p for p in points if p is not None])
        tables.append(dataclasses.replace(found, dimensions=search.space.dimensions))
        reported = planned.reported.get(search.label, {})
        best += _best_row(search, tables[-1], samples[search.arm], reported)
    table = build_table(table_spec(planned, profile, overrides, best, whole), records, tables)
    table = dataclasses.replace(table, links=run_links(store, planned.study.study, records))
    folder = _part(store.reports(planned.study.study) / planned.profile, planned.chosen)
    files = write_report(table, store.bring_folder(folder, below=FOLDER))
    store.publish(folder)
    nothing = Summary(
        planned=0, trained=0, completed=0, cached=0, failed=0, diverged=0, pruned=0, missing=0, seconds=0.0
    )
    return Results(plan=planned, table=table, records=records, summary=nothing, files=files)


def linked(results: Results, store: Store) -> Results:
    """The same with links to the runs that MLflow has got since, on the page as well."""
    links = run_links(store, results.plan.study.study, results.records)
    if links == results.table.links:
        return results
    table = dataclasses.replace(results.table, links=links)
    page = results.files["page.html"]
    write_page(table, page.parent)
    store.publish(page)
    return dataclasses.replace(results, table=table)


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
    search: SearchPlan, table: SearchTable, samples: Sequence[Sample], reported: Mapping[str, float | str]
) -> list[RowSpec]:
    if table.best is None:
        return []
    sample = next(s for s in samples if s.identities[0] == table.best.identity)
    return [
        RowSpec(
            label=f"{search.label}{BEST}",
            changes=sample.point,
            identities=tuple(zip(search.seeds, sample.identities, strict=True)),
            reported=reported,
            chosen_from=len(table.points),
        )
    ]


def _part(folder: Path, chosen: Sequence[str]) -> Path:
    """Where the files of chosen rows lie: a folder of their own, so that the whole study's stay."""
    return folder / part_name(chosen) if chosen else folder


def _resolved(trials: Sequence[Trial]) -> dict[str, Any]:
    """Every key of a row's spec but the seed, dotted."""
    spec = trials[0].spec.to_json() if trials else {}
    return {key: value for key, value in dotted(spec).items() if key != "seed"}


def table_spec(
    planned: Plan,
    profile: str | None,
    overrides: Sequence[str],
    best: Sequence[RowSpec] = (),
    whole: Plan | None = None,
) -> TableSpec:
    """How the plan's table reads: its arms, then the `best` rows of its searches. `whole` is the plan with
    all trials, where this one has only those that were asked for."""
    study = planned.study
    there = planned.unique()
    spared = [trial for identity, trial in (whole or planned).unique().items() if identity not in there]
    rows = [
        RowSpec(
            label=arm.label,
            changes=arm.changes,
            identities=tuple((trial.seed, trial.identity) for trial in planned.of(arm)),
            reported=planned.reported.get(arm.label, {}),
            baseline=arm.kind == "baseline" and arm is not planned.arms[0],
            against=arm.against,
            removes=arm.removes,
            resolved=_resolved(planned.of(arm)),
            spared=sum(trial.arm == arm.index for trial in spared),
        )
        for arm in planned.arms
        if arm.kind != "search"
    ]
    again = Reproduction(
        file=study.file,
        study=study.study,
        profile=profile,
        overrides=overrides,
        chosen=planned.chosen,
        sequential=planned.sequential is not None,
    )
    return TableSpec(
        study=study.study,
        question=study.question,
        source=study.source,
        profile=planned.profile,
        metric=study.report.metric,
        mode=mode_of(planned),
        columns=study.report.columns,
        interactions=tuple(InteractionSpec(label=i.label, terms=i.terms) for i in planned.interactions),
        test=study.report.test or "paired_t",
        sequential=design_of(planned),
        baseline=planned.arms[0].label,
        rows=again.rows(rows, best, mark=BEST),
        notes=(*planned.notes, *((study.report.note,) if study.report.note else ())),
        command=again.table(),
    )


def summarise(
    planned: Plan,
    *,
    before: Collection[str],
    own: Mapping[str, str],
    others: Mapping[str, str],
    answers: Sequence[str],
    searches: Sequence[SearchPlan],
    shared: int,
    needed: int,
) -> Summary:
    """A study's account of a run, from what was there `before`, the statuses of the trials that were started
    for it (`own`) and for other studies (`others`), by identity, those of the samples that were answered
    without training, and the `searches` that were not settled; `shared` and `needed` as in Summary."""
    settled = [s for s in planned.searches if s not in searches]
    trials = planned.unique()
    total = len(trials) + sum(s.samples * len(s.seeds) for s in planned.searches)
    # What failed for another study is no answer for this one.
    elsewhere = [others[i] for i in trials if i in others and i not in own and i not in before]
    answered = [*answers, *elsewhere]
    ends = list(own.values())
    failed = ends.count("failed") + answered.count("failed")
    completed, diverged, pruned = (ends.count(status) for status in ("completed", "diverged", "pruned"))
    cached = len(before) + len(answered) - answered.count("failed")
    cached += sum(s.samples * len(s.seeds) for s in settled)
    missing = total - completed - failed - diverged - pruned - cached
    assert missing >= 0, "every trial is counted once"
    return Summary(
        planned=total,
        trained=len(own),
        completed=completed,
        cached=cached,
        failed=failed,
        diverged=diverged,
        pruned=pruned,
        missing=missing,
        seconds=0.0,
        shared=shared,
        needed=needed,
    )


def add_up(summaries: Sequence[Summary]) -> Summary:
    """The account of studies that ran together."""
    counts = [field.name for field in dataclasses.fields(Summary) if field.name != "seconds"]
    sums = {name: sum(getattr(summary, name) for summary in summaries) for name in counts}
    return Summary(**sums, seconds=max((summary.seconds for summary in summaries), default=0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """Several studies as one plan."""

    results: tuple[Results, ...]
    """One a study, in order."""
    files: Mapping[str, Path]
    """All tables in one: page.html, tables.md. None for a single study, whose own files are all."""

    @property
    def summary(self) -> Summary:
        """The sums of the studies' accounts."""
        return add_up([results.summary for results in self.results])


def bind(found: Sequence[Results], store: Store) -> Bound:
    """Write the tables of several studies as one page and one Markdown file. Raises StoreError where it
    cannot."""
    if len(found) == 1:
        return Bound(results=tuple(found), files={})
    profiles = dict.fromkeys(results.plan.profile for results in found)
    name = name_together([results.plan.study for results in found])
    # No study's name has a hyphen.
    chosen = list(dict.fromkeys(label for results in found for label in results.plan.chosen))
    folder = _part(store.reports("all-studies") / name / "-".join(profiles), chosen)
    files = write_bound([results.table for results in found], folder)
    store.publish(folder)
    return Bound(results=tuple(found), files=files)
