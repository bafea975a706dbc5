"""The nouns of the command line, in Python: `load`, `plan`, `run`, `report`, `status`, `sync`.

study = ablator.load("experiments/moto_n.yaml")
results = ablator.run(study, profile="laptop")
print(results.table.baseline.mean)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablator import data
from ablator.contracts.events import Event, OnEvent
from ablator.contracts.record import Record
from ablator.data.settings import DataSettings
from ablator.errors import SettingError, StoreError
from ablator.plan.planning import Plan
from ablator.plan.planning import plan as make_plan
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import Trial
from ablator.report.building import account
from ablator.report.table import Account
from ablator.results.journal import Journal
from ablator.results.mirror import Mirror
from ablator.results.outbox import MirrorTrial
from ablator.results.store import Store
from ablator.results.sync import SyncResult
from ablator.results.sync import sync as send_missed
from ablator.results.tracking import check_server
from ablator.results.versions import code_state
from ablator.study.loading import load
from ablator.study.schema import Stop, Study
from ablator.tables import Results, Summary, collect, drawn, found_records, mode_of, summarise, table_spec

if TYPE_CHECKING:
    from ablator.scheduling.cluster import Resources
    from ablator.worker.trial import Execution

__all__ = ["Results", "Study", "Summary", "load", "plan", "report", "run", "status", "sync"]

DEFAULT_STORE = ".ablator"
_MIRROR_SECONDS = 60.0
_INTERRUPTED_SECONDS = 2.0
_OBSERVED = 5000


def plan(study: Study | str | Path, *, profile: str | None = None, overrides: Sequence[str] = ()) -> Plan:
    """Every trial of a study, with identities, before any is paid for.

    `overrides` are "key=value" strings as of `--set`. Raises SettingError or DataError.
    """
    return make_plan(_study(study), profile=profile, overrides=overrides, fingerprint=_fingerprint)


def run(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
    resources: Resources | None = None,
    execution: Execution | None = None,
    mlflow: str | None = None,
    repair: bool = False,
    on_event: OnEvent | None = None,
) -> Results:
    """Train what is missing of a study, mirror it to MLflow, and write its report.

    `mlflow` is a tracking URI, "off", or None for the store's own database. Raises UserError before
    anything is spent where the study, its data, the store or the server are at fault.
    """
    started = time.monotonic()
    planned = plan(study, profile=profile, overrides=overrides)
    store = _open(store)
    if mlflow not in (None, "off"):
        check_server(mlflow)
    if repair:
        # Of all studies: a search learns from every record, and a damaged one would stop it.
        store.ledger.repair()
    if planned.stop is None:
        store.ledger.drop_pruned(planned.unique())
    journals = {search.arm: _journal(store, planned, search) for search in planned.searches}
    before = store.ledger.load(planned.unique())
    missing = [trial for identity, trial in planned.unique().items() if identity not in before]
    searches = [s for s in planned.searches if not _settled(s, journals[s.arm], store)]
    sampled = {i for s in searches for sample in journals[s.arm].read() for i in sample.identities}
    _check_checkpoints(store, {*(trial.identity for trial in missing), *sampled}, repair=repair)
    mirror = Mirror(store, mlflow, planned.study.study, code=code_state())
    try:
        statuses, answered = _sweep(
            planned, missing, searches, journals, store, mirror, resources, execution, on_event
        )
        results = collect(planned, store, journals, profile, overrides)
        summary = summarise(planned, before, statuses, answered, searches)
        _mirror_all(mirror, planned, results, journals)
    except BaseException:
        # What MLflow has not got is in the outbox; whoever interrupts does not want to wait for it.
        mirror.close(_INTERRUPTED_SECONDS)
        raise
    left = mirror.close(_MIRROR_SECONDS)
    return dataclasses.replace(
        results,
        summary=dataclasses.replace(summary, seconds=time.monotonic() - started),
        mirror_left=left,
        mirror_problem=mirror.problem if left else None,
    )


def report(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
) -> Results:
    """The table from the ledger alone; what is not trained is a hole in it."""
    planned = plan(study, profile=profile, overrides=overrides)
    store = _open(store)
    journals = {search.arm: _journal(store, planned, search) for search in planned.searches}
    return collect(planned, store, journals, profile, overrides)


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Where a study stands, read from the store."""

    account: Account
    """Of the arms' trials; samples of searches are counted in `samples`."""
    running: tuple[tuple[str, int], ...]
    """(label, seed) of the trials whose tickets are out."""
    samples: Mapping[str, tuple[int, int]]
    """Search label to (samples drawn, samples asked for)."""
    waiting: int
    """Entries that MLflow has not got yet."""


def status(
    study: Study | str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    store: Store | str | Path = DEFAULT_STORE,
) -> State:
    """Where a study stands, also while another process runs it."""
    from ablator.results.outbox import waiting

    planned = plan(study, profile=profile, overrides=overrides)
    store = _open(store)
    records = found_records(store, planned.unique())
    out = {path.stem for path in store.tickets.glob("*.json")}
    running = [t for i, t in planned.unique().items() if i in out and i not in records]
    samples = {s.label: (len(_journal(store, planned, s).read()), s.samples) for s in planned.searches}
    entries = [1 for target, name in waiting(store) if name == planned.study.study for _ in (target,)]
    return State(
        account=account(table_spec(planned, profile, overrides, ()), records),
        running=tuple((trial.label, trial.seed) for trial in running),
        samples=samples,
        waiting=len(entries),
    )


def sync(store: Store | str | Path = DEFAULT_STORE, *, mlflow: str | None = None) -> SyncResult:
    """Send MLflow what it missed. Raises TrackingError where its server does not answer."""
    if mlflow is not None:
        check_server(mlflow)
    return send_missed(_open(store), mlflow)


# ---- the parts of a run


def _study(study: Study | str | Path) -> Study:
    return study if isinstance(study, Study) else load(study)


def _open(store: Store | str | Path) -> Store:
    return store if isinstance(store, Store) else Store.open(store)


def _fingerprint(settings: DataSettings) -> str:
    return data.info(settings).fingerprint


def _journal(store: Store, planned: Plan, search: SearchPlan) -> Journal:
    return store.journal(f"{planned.study.study}-{search.id}")


def _settled(search: SearchPlan, journal: Journal, store: Store) -> bool:
    from ablator.scheduling.search import settled

    return settled(search, journal, store.ledger)


def _check_checkpoints(store: Store, identities: Collection[str], *, repair: bool) -> None:
    """Read what trials would go on from. A damaged one is moved aside with `repair`, else StoreError."""
    there = [identity for identity in sorted(identities) if store.checkpoint(identity).exists()]
    if not there:
        return
    # Loads torch, which a run that goes on from nothing does not need yet.
    from ablator.training.checkpoint import verify

    for identity in there:
        try:
            verify(store.checkpoint(identity))
        except StoreError:
            if not repair:
                raise
            store.set_aside(identity)


def _sweep(
    planned: Plan,
    missing: list[Trial],
    searches: list[SearchPlan],
    journals: Mapping[int, Journal],
    store: Store,
    mirror: Mirror,
    resources: Resources | None,
    execution: Execution | None,
    on_event: OnEvent | None,
) -> tuple[dict[str, str], int]:
    """Train what is missing: status by identity, and how many samples were answered without training."""
    if not missing and not searches:
        return {}, 0
    from ablator.assembly.preflight import preflight
    from ablator.scheduling.cluster import Resources
    from ablator.scheduling.search import OptunaSource, ticket_of
    from ablator.scheduling.sweep import EarlyStop, SweepSettings, sweep
    from ablator.worker.trial import Execution

    resources = resources or Resources()
    metric, mode = planned.study.report.metric, mode_of(planned)
    trials = [*missing, *_samples_of(searches)]
    preflight(trials, workers=resources.shape.workers, metric=metric)
    stop = planned.stop
    _check_stop(stop, trials)
    epochs = max(trial.spec.train.epochs for trial in trials)
    settings = SweepSettings(
        resources=resources,
        execution=execution or Execution(),
        metric=metric,
        mode=mode,
        stop=EarlyStop(
            kind=stop.kind, grace_epochs=stop.grace_epochs, reduction=stop.reduction, max_epochs=epochs
        )
        if stop
        else None,
        spared=frozenset(trial.identity for trial in planned.of(planned.arms[0])),
    )
    sources = [OptunaSource(search, journals[search.arm], metric=metric, mode=mode) for search in searches]
    known = _finished(store) if sources else {}
    for source in sources:
        source.observe(known)
    watch = _mirroring(planned, store, journals, mirror, on_event)
    outcome = sweep(
        [ticket_of(trial) for trial in missing],
        sources,
        expected=len(missing) + sum(s.samples * len(s.seeds) for s in searches),
        store=store,
        settings=settings,
        on_event=watch,
    )
    return outcome.statuses, outcome.answered


def _check_stop(stop: Stop | None, trials: Sequence[Trial]) -> None:
    """Early stopping compares evaluations: there must be one before the first trial may be stopped."""
    rarest = max(trial.spec.train.eval_every for trial in trials)
    if stop is not None and stop.grace_epochs < rarest:
        raise SettingError(
            f"stop.grace_epochs {stop.grace_epochs} is before the first evaluation (train.eval_every "
            f"{rarest}); use stop.grace_epochs {rarest} or more, or train.eval_every 1"
        )


def _finished(store: Store) -> dict[str, Record]:
    """Finished trials of all studies that a sampler may learn from, at most _OBSERVED of them."""
    return store.ledger.load(sorted(store.ledger.identities())[:_OBSERVED])


def _samples_of(searches: Sequence[SearchPlan]) -> list[Trial]:
    """Trials in which every value of the searches' dimensions occurs, to check before any is drawn."""
    return [search.trial(point, search.seeds[0]) for search in searches for point in search.covering()]


def _mirroring(
    planned: Plan, store: Store, journals: Mapping[int, Journal], mirror: Mirror, on_event: OnEvent | None
) -> OnEvent:
    """Hand every trial's epochs and outcome to the mirror at once, and every event on."""
    trials = planned.unique()

    def watch(event: Event) -> None:
        if event.kind == "epoch":
            mirror.progress(
                identity=event.identity,
                label=_run_name(event.label, event.seed),
                arm=event.label,
                seed=event.seed,
                metrics=event.metrics,
                epoch=event.epoch,
            )
        elif event.kind == "finished":
            trial = trials.get(event.identity) or _sampled(planned, journals, event.identity)
            record = store.ledger.get(event.identity) or store.ledger.failure(event.identity)
            if trial is not None and record is not None:
                mirror.trial(_mirror_trial(trial, record))
        if on_event is not None:
            on_event(event)

    return watch


def _run_name(arm: str, seed: int) -> str:
    return f"{arm} · seed {seed}"


def _mirror_trial(trial: Trial, record: Record) -> MirrorTrial:
    return MirrorTrial(
        identity=trial.identity,
        label=_run_name(trial.label, trial.seed),
        arm=trial.label,
        seed=trial.seed,
        changes=trial.changes,
        record=record,
    )


def _mirror_all(mirror: Mirror, planned: Plan, results: Results, journals: Mapping[int, Journal]) -> None:
    for trial in [*planned.unique().values(), *drawn(planned, journals)]:
        if trial.identity in results.records:
            mirror.trial(_mirror_trial(trial, results.records[trial.identity]))
    metrics = {k: float(v) for k, v in dataclasses.asdict(results.table.account).items() if v is not None}
    mirror.report(list(results.files.values()), metrics)


def _sampled(planned: Plan, journals: Mapping[int, Journal], identity: str) -> Trial | None:
    """The trial of a search that has this identity."""
    for search in planned.searches:
        for sample in journals[search.arm].read()[: search.samples]:
            if identity in sample.identities:
                return search.trial(sample.point, search.seeds[sample.identities.index(identity)])
    return None
