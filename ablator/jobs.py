"""The studies of one run: what each has, what it misses, and who is told of it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from ablator.contracts.events import Event, OnEvent
from ablator.contracts.record import Record
from ablator.errors import SettingError, StoreError
from ablator.needs import Need, needs_of, starts_of
from ablator.plan.planning import Plan
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import Start, Trial
from ablator.results.journal import Journal
from ablator.results.mirror import Mirror
from ablator.results.outbox import MirrorTrial
from ablator.results.read_once import ReadOnce
from ablator.results.store import Store
from ablator.results.versions import code_state
from ablator.rounds import Rounds, asked
from ablator.tables import Results, drawn, journals_of

if TYPE_CHECKING:
    from ablator.scheduling.search import OptunaSource


@dataclasses.dataclass(frozen=True)
class _Sampled:
    """A trial of a search, resolved when it is asked for."""

    search: SearchPlan
    point: Mapping[str, Any]
    seed: int

    @functools.cached_property
    def trial(self) -> Trial:
        return self.search.trial(self.point, self.seed)


@dataclasses.dataclass(kw_only=True)
class Job:
    """One study of a run."""

    planned: Plan
    asked: Plan
    """With sequential seeds the trials alone that rows were asked for when the run began; else `planned`."""
    journals: Mapping[int, Journal]
    """By index of the search's arm."""
    trials: Mapping[str, Trial]
    """Of the arms, by identity; with sequential seeds all that there may be."""
    before: Mapping[str, Record]
    """What the ledger had when the run began."""
    searches: Sequence[SearchPlan]
    """Those that are not settled."""
    mirror: Mirror
    sources: Sequence[OptunaSource] = ()
    rounds: Rounds | None = None
    """Of a study with sequential seeds, what gives out its trials."""
    _sampled: dict[str, _Sampled] = dataclasses.field(default_factory=dict, init=False)
    """Trials of the searches, by identity, as far as their journals were read."""
    _read: dict[int, int] = dataclasses.field(default_factory=dict, init=False)
    """Size of every journal when it was read, by index of the search's arm."""

    @property
    def name(self) -> str:
        return self.planned.study.study

    @property
    def missing(self) -> list[Trial]:
        """Trials without a record; of sequential seeds those of the round that comes first."""
        return [trial for identity, trial in self.asked.unique().items() if identity not in self.before]

    @property
    def todo(self) -> list[Trial]:
        """What is missing, and trials in which every value of the searches' dimensions occurs."""
        samples = [s.trial(point, s.seeds[0]) for s in self.searches for point in s.covering()]
        return [*self.missing, *samples]

    @property
    def starts(self) -> Mapping[str, Start]:
        """What its missing trials start from, by identity."""
        return starts_of(self.missing, self.searches)

    @property
    def trains(self) -> bool:
        return any(trial.spec.trains for trial in self.todo)

    def trial(self, identity: str) -> Trial | None:
        """The study's own trial of this identity."""
        if identity in self.trials:
            return self.trials[identity]
        if identity not in self._sampled:
            self._read_journals()
        sampled = self._sampled.get(identity)
        return None if sampled is None else sampled.trial

    def _read_journals(self) -> None:
        """Take up what the searches have drawn; a journal that has not grown is not read again."""
        for search in self.searches:
            journal = self.journals[search.arm]
            size = journal.size()
            if size == self._read.get(search.arm):
                continue
            self._read[search.arm] = size
            for sample in journal.read()[: search.samples]:
                for seed, identity in zip(search.seeds, sample.identities, strict=True):
                    self._sampled.setdefault(identity, _Sampled(search, sample.point, seed))


def jobs_of(
    plans: Sequence[Plan], store: Store, known: ReadOnce, mlflow: str | None, repair: bool
) -> list[Job]:
    _check_names(plans)
    if repair:
        # Of all studies: a search learns from every record, and a damaged one would stop it.
        store.ledger.repair()
    for planned in plans:
        # Without early stopping a study needs all its trials whole, and with it its baselines.
        whole = planned.trials if planned.stop is None else planned.baselines()
        known.drop_pruned({trial.identity for trial in whole})
    journals = [journals_of(store, planned) for planned in plans]
    before = [known.load(planned.unique()) for planned in plans]
    searches = [
        [search for search in planned.searches if not _settled(search, own[search.arm], store)]
        for planned, own in zip(plans, journals, strict=True)
    ]
    _check_checkpoints(store, _open_trials(plans, journals, before, searches), repair=repair)
    code = code_state()
    return [
        Job(
            planned=planned,
            asked=asked(planned, before[index]),
            journals=journals[index],
            trials=planned.unique(),
            before=before[index],
            searches=searches[index],
            mirror=Mirror(store, mlflow, planned.study.study, code=code),
        )
        for index, planned in enumerate(plans)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upstream:
    """What the missing trials of a run start from and what must be trained for it, whichever study has it."""

    needs: Mapping[str, Need]
    """By identity; what must come first stands first."""
    counted: Mapping[str, str]
    """Of the needs those that are trained beside the planned trials: identity to the name of the first study
    of the run that needs it, in whose account it is."""
    mirrors: Mapping[str, Mirror]
    """By name, of the studies that the needs belong to."""


def upstream_of(
    jobs: Sequence[Job], store: Store, known: ReadOnce, mlflow: str | None, repair: bool
) -> Upstream:
    """Look for the weights that the jobs' trials start from. Raises StoreError where some are damaged; with
    `repair` they are moved aside instead, and their trials are trained again for them."""
    for job in jobs:
        _check_weights(store, job.starts, repair=repair)
    needs: dict[str, Need] = {}
    counted: dict[str, str] = {}
    for job in jobs:
        own = needs_of(job.starts.values(), store)
        needs |= own
        for identity, need in own.items():
            if need.recorded or not any(identity in other.trials for other in jobs):
                counted.setdefault(identity, job.name)
    for identity in known.drop_pruned(needs):
        # Ended early in a study of its own, it has no final weights.
        for job in jobs:
            job.before = {one: record for one, record in job.before.items() if one != identity}
    mirrors = {job.name: job.mirror for job in jobs}
    code = code_state() if needs else None
    for need in needs.values():
        if need.start.study not in mirrors:
            mirrors[need.start.study] = Mirror(store, mlflow, need.start.study, code=code)
    return Upstream(needs=needs, counted=counted, mirrors=mirrors)


def _check_weights(store: Store, identities: Iterable[str], *, repair: bool) -> None:
    """Read what others would start from, as far as it is there."""
    there = [identity for identity in identities if store.has(store.weights(identity))]
    if not there:
        return
    from ablator.training.checkpoint import verify

    for identity in there:
        try:
            verify(store.bring(store.weights(identity)))
        except StoreError:
            if not repair:
                raise
            store.set_weights_aside(identity)


def _open_trials(
    plans: Sequence[Plan],
    journals: Sequence[Mapping[int, Journal]],
    before: Sequence[Mapping[str, Record]],
    searches: Sequence[Sequence[SearchPlan]],
) -> set[str]:
    """Identities of the trials that may be trained, as far as they are known."""
    found = {i for planned, known in zip(plans, before, strict=True) for i in planned.unique().keys() - known}
    for own, open_ones in zip(journals, searches, strict=True):
        found |= {i for s in open_ones for sample in own[s.arm].read() for i in sample.identities}
    return found


def _check_names(plans: Sequence[Plan]) -> None:
    """A study's name is that of its report and of its experiment in MLflow."""
    seen: dict[str, str] = {}
    for planned in plans:
        name, file = planned.study.study, planned.study.file or "one built in Python"
        if name in seen:
            raise SettingError(
                f"two studies are called {name!r}: {seen[name]} and {file}; give one of them another name"
            )
        seen[name] = file


def _settled(search: SearchPlan, journal: Journal, store: Store) -> bool:
    from ablator.scheduling.search import settled

    return settled(search, journal, store.ledger)


def _check_checkpoints(store: Store, identities: Set[str], *, repair: bool) -> None:
    """Read what trials would go on from. A damaged one is moved aside with `repair`, else StoreError."""
    there = sorted(identities & store.checkpointed())
    if not there:
        return
    # Loads torch, which a run that goes on from nothing does not need yet.
    from ablator.training.checkpoint import verify

    for identity in there:
        try:
            verify(store.bring(store.checkpoint(identity)))
        except StoreError:
            if not repair:
                raise
            store.set_aside(identity)


# ---- what is told


def watch(jobs: Sequence[Job], upstream: Upstream, store: Store, on_event: OnEvent | None) -> OnEvent:
    """Hand every trial's epochs and outcome to the mirrors of all studies that have it, and every event on,
    with the study's name where there are several."""

    def having_it(identity: str) -> list[tuple[str, Mirror, Trial]]:
        found = [(job.name, job.mirror, trial) for job in jobs if (trial := job.trial(identity)) is not None]
        if not found and (need := upstream.needs.get(identity)) is not None:
            found = [(need.start.study, upstream.mirrors[need.start.study], need.start.trial)]
        return found

    def watch(event: Event) -> None:
        having = having_it(event.identity) if event.identity else []
        need = upstream.needs.get(event.identity)
        if event.kind == "epoch" and (need is None or not need.recorded):
            for _, mirror, trial in having:
                mirror.progress(
                    identity=event.identity,
                    label=_run_name(trial),
                    arm=trial.label,
                    seed=trial.seed,
                    metrics=event.metrics,
                    epoch=event.epoch,
                )
        elif event.kind == "finished":
            record = store.ledger.get(event.identity) or store.ledger.failure(event.identity)
            if record is not None:
                for _, mirror, trial in having:
                    mirror.trial(_mirror_trial(trial, record))
        if on_event is not None:
            if having and (len(jobs) > 1 or having[0][0] != jobs[0].name):
                name, _, trial = having[0]
                event = dataclasses.replace(event, label=f"{name} · {trial.label}")
            on_event(event)

    return watch


def _run_name(trial: Trial) -> str:
    return f"{trial.label} · seed {trial.seed}"


def _mirror_trial(trial: Trial, record: Record) -> MirrorTrial:
    return MirrorTrial(
        identity=trial.identity,
        label=_run_name(trial),
        arm=trial.label,
        seed=trial.seed,
        changes=trial.changes,
        record=record,
    )


def mirror_all(job: Job, results: Results) -> None:
    # A point that an arm declares too is the arm's, or its run would change its name each time.
    sampled = [trial for trial in drawn(job.planned, job.journals) if trial.identity not in job.trials]
    for trial in [*job.trials.values(), *sampled]:
        if trial.identity in results.records:
            job.mirror.trial(_mirror_trial(trial, results.records[trial.identity]))
    metrics = {k: float(v) for k, v in dataclasses.asdict(results.table.account).items() if v is not None}
    # The report that MLflow has of a study is the whole one.
    whole = not job.planned.chosen
    job.mirror.report(list(results.files.values()) if whole else [], metrics if whole else {})


def mirror_upstream(jobs: Sequence[Job], upstream: Upstream) -> None:
    """End the MLflow runs of studies that were only trained for others; they have no report of their own."""
    for name in upstream.mirrors.keys() - {job.name for job in jobs}:
        upstream.mirrors[name].report([], {})


def close(jobs: Sequence[Job], upstream: Upstream, seconds: float) -> list[int]:
    """Give all mirrors `seconds` together; how many entries each job's has left, those of other studies added
    to the first."""
    end = time.monotonic() + seconds
    left = {name: m.close(max(0.0, end - time.monotonic())) for name, m in upstream.mirrors.items()}
    own = [left.pop(job.name) for job in jobs]
    return [own[0] + sum(left.values()), *own[1:]]
