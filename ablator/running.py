"""A run of any number of studies as one plan: what they share is trained once, over one cluster.

A trial that several studies have belongs to the first of them; in the accounts of the others it is cached.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ablator import data
from ablator.contracts.events import Event, OnEvent, Ticket
from ablator.contracts.record import Record
from ablator.errors import SettingError, UserError
from ablator.jobs import Job, Upstream, close, jobs_of, mirror_all, mirror_upstream, upstream_of, watch
from ablator.plan.cost import epochs_worth, longest_first, training_pflop
from ablator.plan.packing import Measured, measured
from ablator.plan.planning import Plan
from ablator.plan.plugins import sources
from ablator.plan.trial import ticket_of
from ablator.results.read_once import ReadOnce
from ablator.results.store import Store
from ablator.rounds import Rounds, mode_of
from ablator.tables import Results, Summary, collect, linked, summarise

if TYPE_CHECKING:
    from ablator.assembly.check import Size
    from ablator.scheduling.cluster import Resources
    from ablator.scheduling.queue import Source
    from ablator.scheduling.sweep import Phase
    from ablator.worker.execution import Execution

_MIRROR_SECONDS = 60.0
_INTERRUPTED_SECONDS = 2.0
_OBSERVED = 5000


def run_plans(
    plans: Sequence[Plan],
    *,
    profile: str | None,
    overrides: Sequence[str],
    store: Store,
    resources: Resources | None,
    execution: Execution | None,
    mlflow: str | None,
    repair: bool,
    on_event: OnEvent | None,
    known: ReadOnce,
) -> list[Results]:
    """Train what is missing of the studies, mirror it to MLflow, and write their reports; `known` has the
    records that were read already. Raises UserError before anything is spent where a study, its data or the
    store are at fault."""
    started = time.monotonic()
    jobs = jobs_of(plans, store, known, mlflow, repair)
    upstream = upstream_of(jobs, store, known, mlflow, repair)
    try:
        outcome = _sweep(jobs, upstream, store, known, resources, execution, on_event)
        found = [collect(job.planned, store, job.journals, profile, overrides, known) for job in jobs]
        for job, results in zip(jobs, found, strict=True):
            mirror_all(job, results)
        plans = [results.plan for results in found]
        found = [
            dataclasses.replace(results, summary=outcome.summary(jobs, plans, number))
            for number, results in enumerate(found)
        ]
        mirror_upstream(jobs, upstream)
    except BaseException:
        # What MLflow has not got is in the outbox; whoever interrupts does not want to wait for it.
        close(jobs, upstream, _INTERRUPTED_SECONDS)
        raise
    left = close(jobs, upstream, _MIRROR_SECONDS)
    seconds = time.monotonic() - started
    return [
        dataclasses.replace(
            linked(results, store),
            summary=dataclasses.replace(results.summary, seconds=seconds),
            mirror_left=waiting,
            mirror_problem=job.mirror.problem if waiting else None,
        )
        for job, results, waiting in zip(jobs, found, left, strict=True)
    ]


# ---- the sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What a sweep came to."""

    statuses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Identity to status, of trials that were started."""
    elsewhere: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The same of trials that another run finished meanwhile."""
    asked: Mapping[str, Source] = dataclasses.field(default_factory=dict)
    """Of these the ones that a search drew."""
    answers: Sequence[tuple[Source, str]] = ()
    counted: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the started ones those that were trained beside what is planned, and for which study."""

    def summary(self, jobs: Sequence[Job], plans: Sequence[Plan], number: int) -> Summary:
        """The account of one study; `plans` are those of the jobs as they ended, with the trials that were
        asked for."""
        trials = [planned.unique().keys() for planned in plans]
        own: dict[str, str] = {}
        others: dict[str, str] = dict(self.elsewhere)
        for identity, status in self.statuses.items():
            if identity in self.counted:
                continue
            source = self.asked.get(identity)
            searched = [i for i, job in enumerate(jobs) if source is not None and source in job.sources]
            owner = searched[0] if searched else next(i for i, ids in enumerate(trials) if identity in ids)
            (own if owner == number else others)[identity] = status
        job = jobs[number]
        return summarise(
            plans[number],
            before=job.before.keys() & trials[number],
            own=own,
            others=others,
            answers=[status for source, status in self.answers if source in job.sources],
            searches=job.searches,
            shared=len(trials[number] & set().union(*trials[:number])),
            needed=sum(self.counted.get(identity) == job.name for identity in self.statuses),
        )


def _sweep(
    jobs: Sequence[Job],
    upstream: Upstream,
    store: Store,
    known: ReadOnce,
    resources: Resources | None,
    execution: Execution | None,
    on_event: OnEvent | None,
) -> _Outcome:
    """Train what is missing of all jobs."""
    busy = [job for job in jobs if job.todo]
    if not busy:
        return _Outcome()
    from ablator.scheduling.cluster import Resources
    from ablator.scheduling.search import OptunaSource
    from ablator.scheduling.sweep import SweepSettings, sweep
    from ablator.worker.execution import Execution

    resources = resources or Resources()
    costs = _preflight(busy, upstream, resources.shape.workers, named=len(jobs) > 1)
    for code in sources(plugin for job in busy for plugin in job.planned.plugins):
        store.keep_plugin(code)
    finished = _finished(store) if any(job.searches for job in busy) else {}
    for job in busy:
        metric, mode = job.planned.study.report.metric, mode_of(job.planned)
        job.sources = [OptunaSource(s, job.journals[s.arm], metric=metric, mode=mode) for s in job.searches]
        for source in job.sources:
            source.observe(finished)
    on_event = watch(jobs, upstream, store, on_event)
    for job in busy:
        if job.planned.sequential is not None:
            job.rounds = Rounds(job.planned, store, on_event, known, costs)
    on_event(Event(kind="costs", costs=costs))
    outcome = sweep(
        [
            *_upstream_phases(busy, upstream),
            *_phases(busy, upstream, costs, measured_alone=resources.slots is None),
        ],
        store=store,
        settings=SweepSettings(
            resources=resources,
            execution=execution or Execution(),
            measured=_measured(busy, store) if resources.pack else (),
        ),
        on_event=on_event,
    )
    return _Outcome(
        statuses=outcome.statuses,
        elsewhere=outcome.elsewhere,
        asked=outcome.asked,
        answers=outcome.answers,
        counted=upstream.counted,
    )


def _preflight(jobs: Sequence[Job], upstream: Upstream, workers: int, *, named: bool) -> dict[str, float]:
    """Check every different trial, and build every different model once over all studies. Returns what the
    trials of the arms will cost, in PFLOP by identity, those of later rounds as well; what trains nothing is
    not in it."""
    from ablator.assembly.preflight import preflight

    models: dict[str, Size] = {}
    costs: dict[str, float] = {}
    for need in upstream.needs.values():
        try:
            preflight([need.start.trial], workers=workers, models=models)
        except UserError as error:
            raise type(error)(f"{need.start.file}: {error}") from error
    for job in jobs:
        report = job.planned.study.report
        try:
            sizes = preflight(
                job.todo, workers=workers, metric=report.metric, columns=report.columns, models=models
            )
            costs |= _costs(job, sizes)
            _check_stop(job)
        except UserError as error:
            if not named:
                raise
            raise type(error)(f"{job.planned.study.file or job.name}: {error}") from error
    return dict(longest_first(costs.items(), lambda item: item[1]))


def _costs(job: Job, sizes: Mapping[str, Size]) -> dict[str, float]:
    """Seeds of a row cost the same, so that what is missing of it tells the cost of all."""
    rows: dict[int, float] = {}
    for trial in job.missing:
        if trial.arm not in rows and trial.spec.trains:
            images = data.info(trial.spec.data).train_size
            epochs = epochs_worth(trial.spec)
            rows[trial.arm] = training_pflop(sizes[trial.identity].gmacs, images, epochs)
    return {i: rows[t.arm] for i, t in job.trials.items() if t.arm in rows and i not in job.before}


def _check_stop(job: Job) -> None:
    """Early stopping compares evaluations: there must be one before the first trial may be stopped."""
    stop = job.planned.stop
    rarest = max(trial.spec.train.eval_every for trial in job.todo)
    if stop is not None and stop.grace_epochs < rarest:
        raise SettingError(
            f"stop.grace_epochs {stop.grace_epochs} is before the first evaluation (train.eval_every "
            f"{rarest}); use stop.grace_epochs {rarest} or more, or train.eval_every 1"
        )


def _upstream_phases(jobs: Sequence[Job], upstream: Upstream) -> list[Phase]:
    """What others start from is trained before anything else, whole and with its weights kept; one phase
    after the other where it starts from others itself."""
    from ablator.scheduling.sweep import Phase

    waves: dict[int, list[Ticket]] = {}
    for need in upstream.needs.values():
        waves.setdefault(need.depth, []).append(ticket_of(need.start.trial, keep_weights=True))
    metric = jobs[0].planned.study.report.metric
    return [Phase(tickets=waves[depth], metric=metric) for depth in sorted(waves)]


def _phases(
    jobs: Sequence[Job], upstream: Upstream, costs: Mapping[str, float], *, measured_alone: bool
) -> list[Phase]:
    """What is trained whole first, so that a study with early stopping finds shared trials finished and
    never ends one that another study needs; then each study with early stopping by itself, because its
    trials are compared with each other; measurements when no training disturbs them."""
    training = [job for job in jobs if job.trains]
    whole = [job for job in training if job.planned.stop is None]
    stopping = [[job] for job in training if job.planned.stop is not None]
    measuring = [job for job in jobs if not job.trains]
    baselines = {trial.identity for [job] in stopping for trial in job.planned.baselines()}
    phases: list[Phase] = []
    planned: set[str] = set(upstream.needs)
    for group in (whole, *stopping, measuring):
        if group:
            phases.append(
                _phase(group, planned, baselines, costs, alone=group is measuring and measured_alone)
            )
            planned |= {ticket.identity for ticket in phases[-1].tickets}
    return phases


def _phase(
    jobs: Sequence[Job],
    planned: Collection[str],
    baselines: Collection[str],
    costs: Mapping[str, float],
    *,
    alone: bool,
) -> Phase:
    """Trials of one Tune run, the longest first. With early stopping they stay in the plan's order: whoever
    comes first to a rung is compared with few, so that an order by cost would favour costly models."""
    from ablator.scheduling.sweep import EarlyStop, Phase

    fixed = [job for job in jobs if job.rounds is None]
    rounds = [job.rounds for job in jobs if job.rounds is not None]
    first = jobs[0].planned
    stop = first.stop
    trials = {trial.identity: trial for job in fixed for trial in job.missing}
    order = list(trials) if stop else longest_first(trials, lambda identity: costs.get(identity, 0.0))
    epochs = max(trial.spec.train.all_epochs for job in jobs for trial in job.todo)
    return Phase(
        tickets=[ticket_of(trials[identity]) for identity in order if identity not in planned],
        sources=[*rounds, *(source for job in jobs for source in job.sources)],
        samples=sum(one.width for one in rounds)
        + sum(search.samples * len(search.seeds) for job in jobs for search in job.searches),
        metric=first.study.report.metric,
        mode=mode_of(first),
        stop=EarlyStop(
            kind=stop.kind, grace_epochs=stop.grace_epochs, reduction=stop.reduction, max_epochs=epochs
        )
        if stop
        else None,
        spared=frozenset(baselines),
        alone=alone,
    )


def _measured(jobs: Sequence[Job], store: Store) -> list[list[Measured]]:
    """What finished trials say of the memory and speed of those that are ahead."""
    specs = [trial.spec for job in jobs for trial in job.todo if trial.spec.trains]
    return measured(_finished(store).values(), specs)


def _finished(store: Store) -> dict[str, Record]:
    """Finished trials of all studies that a sampler may learn from, at most _OBSERVED of them."""
    return store.ledger.load(sorted(store.ledger.identities())[:_OBSERVED])
