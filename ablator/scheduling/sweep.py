"""Run tickets through Ray Tune over slots."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Collection, Sequence
from typing import Any, Literal

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from ablator.contracts.events import Event, OnEvent, Ticket
from ablator.contracts.record import Record
from ablator.errors import ClusterError
from ablator.plan.packing import Measured
from ablator.results.leases import Leases
from ablator.results.store import Store
from ablator.scheduling.cluster import Resources, cluster, packed, shape_on, sharing, slots_for, slots_in
from ablator.scheduling.forgetting import Forgetting, Silent
from ablator.scheduling.proxy import TrialProxy
from ablator.scheduling.queue import Source, TrialQueue
from ablator.scheduling.reservations import given_back
from ablator.scheduling.scratch import Scratch, scratch
from ablator.scheduling.slot import start_slots
from ablator.worker.execution import Execution, SlotSettings
from ablator.worker.history import History
from ablator.worker.records import failed_record, pruned_record
from ablator.worker.watchdog import stalled_text, stalls

_MAX_ATTEMPTS = 4
"""Starts of one trial, deaths of its worker included, before it counts as failed."""
_PROXY_RETRIES = 3
_HEAD = "node:__internal_head__"
"""A resource of 1.0 that the head node of every Ray cluster has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """Early stopping of the sweep's trials by Ray Tune."""

    kind: Literal["asha", "median"]
    grace_epochs: int = 1
    """Epochs before a trial may be stopped."""
    reduction: float = 3.0
    """asha: one in this many survives each rung."""
    max_epochs: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """How a sweep runs on this cluster."""

    resources: Resources = dataclasses.field(default_factory=Resources)
    execution: Execution = dataclasses.field(default_factory=Execution)
    measured: Sequence[Sequence[Measured]] = ()
    """What records say of the memory and speed of what is ahead, by footprint, for `resources.pack`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """Trials that one Tune run trains. Early stopping compares the trials of its phase with each other."""

    tickets: Sequence[Ticket] = ()
    sources: Sequence[Source] = ()
    samples: int = 0
    """Trials that the sources may ask for."""
    metric: str = "top1"
    mode: Literal["max", "min"] = "max"
    stop: EarlyStop | None = None
    spared: frozenset[str] = frozenset()
    """Identities that early stopping leaves alone."""
    alone: bool = False
    """One trial after the other: those that measure time would measure each other."""

    @property
    def width(self) -> int:
        """Trials that may run at once."""
        return 1 if self.alone else len(self.tickets) + self.samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """What ended in this run."""

    statuses: dict[str, str]
    """Identity to status, of trials that were started."""
    asked: dict[str, Source]
    """Of these the ones that were started for a source, and which."""
    answers: list[tuple[Source, str]]
    """Search samples that the ledger (or a twin) answered: whose, and the status of the answer."""
    elsewhere: dict[str, str]
    """Identity to status, of trials that another run finished meanwhile."""


def sweep(
    phases: Sequence[Phase], *, store: Store, settings: SweepSettings, on_event: OnEvent
) -> SweepOutcome:
    """Train every ticket, and what the sources ask for, one phase after the other over the same slots. What
    a phase has trained (or has failed in it), a later one does not train again.

    Every outcome is in the ledger (or, for failures, beside it) when this returns. Raises ClusterError
    where Ray cannot be started or joined.
    """
    with Leases(store) as leases:
        _take_searches(phases, leases)
        return _run(phases, leases, store, settings, on_event)


def _take_searches(phases: Sequence[Phase], leases: Leases) -> None:
    """Two runs that drew points into one journal would make two searches of one."""
    for name in (source.alone for phase in phases for source in phase.sources if source.alone):
        if not leases.take(name):
            raise ClusterError(
                f"another run of the study draws the points of its search ({leases.holder(name)}); wait for "
                "it and run again, which then has nothing to train, or end it and run again, which goes on"
            )


def _run(
    phases: Sequence[Phase], leases: Leases, store: Store, settings: SweepSettings, on_event: OnEvent
) -> SweepOutcome:
    with cluster(settings.resources) as there, scratch(store, joined=there.joined) as place:
        resources = packed(settings.resources, there, settings.measured)
        count = slots_for(resources, there, max(phase.width for phase in phases))
        shape = shape_on(resources, there)
        run = os.path.basename(place.path)
        slots = start_slots(
            count,
            shape,
            SlotSettings(
                store=store.uri,
                execution=settings.execution,
                threads=max(1, int(shape.cpus)),
                run=run,
                slots_per_gpu=sharing(shape),
            ),
            lockstep=any(phase.stop is not None for phase in phases),
            max_attempts=_MAX_ATTEMPTS,
            scratch=place,
            api=there.api,
        )
        on_event(Event(kind="slots", slot=count, text="joined" if there.joined else "started"))
        if (now := slots_in(there, shape)) < count:
            others = f"the other {count - now} when machines join the cluster"
            on_event(Event(kind="note", text=f"room for {now} of the {count} slots; {others}"))
        outcomes = _Outcomes(store, slots, settings.execution.stall_seconds, run)
        done = SweepOutcome(statuses={}, asked={}, answers=[], elsewhere={})
        try:
            with given_back():
                for number, phase in enumerate(phases):
                    queue = _queue(phase, done.statuses, store, count, on_event, outcomes, leases)
                    if queue.exhausted:
                        continue
                    _tune(queue, slots, phase, store=store, on_event=on_event, place=place.below(str(number)))
                    if queue.error is not None:
                        raise queue.error
                    done.asked.update(queue.asked)
                    done.answers.extend(queue.answers)
                    done.elsewhere.update(queue.elsewhere)
        finally:
            _close(slots)
        return done


def _queue(
    phase: Phase,
    statuses: dict[str, str],
    store: Store,
    slots: int,
    on_event: OnEvent,
    outcomes: _Outcomes,
    leases: Leases,
) -> TrialQueue:
    """The phase's queue, without what an earlier phase has trained; it adds to `statuses`."""
    return TrialQueue(
        [ticket for ticket in phase.tickets if ticket.identity not in statuses],
        phase.sources,
        store=store,
        limit=1 if phase.alone else 2 * (slots + 1),
        search_limit=1 if phase.alone else slots + 2,
        on_event=on_event,
        outcome=outcomes.read,
        leases=leases,
        stopping=phase.stop is not None,
        statuses=statuses,
    )


def _tune(
    queue: TrialQueue,
    slots: list[Any],
    phase: Phase,
    *,
    store: Store,
    on_event: OnEvent,
    place: Scratch,
) -> None:
    worst = float("-inf") if phase.mode == "max" else float("inf")
    # One follower more than there are slots, so that a slot never waits for one. Tune keeps a finished
    # trial's actor for the next trial only while trials are staged that cannot start yet: their number is
    # bounded by a resource that every cluster has, and the queue stages more than fit. Without this bound
    # Tune would start a process for nearly every short trial.
    # Ray Train's own guards (0.001 a slot) need the rest of that resource.
    proxies = len(slots) + 1
    share = math.floor(1e4 * max(0.2, 0.95 - 0.0015 * len(slots)) / proxies) / 1e4
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(proxies)
    proxy = tune.with_parameters(
        TrialProxy,
        slots=slots,
        store=store.uri,
        metric=phase.metric,
        every_epoch=phase.stop is not None,
        worst=worst,
    )
    with warnings.catch_warnings():
        # Ray's own remarks on its own interfaces; a user can do nothing about them.
        warnings.simplefilter("ignore")
        tuner = tune.Tuner(
            tune.with_resources(proxy, {"cpu": 0.001, _HEAD: share}),
            tune_config=tune.TuneConfig(
                metric=phase.metric,
                mode=phase.mode,
                search_alg=queue,
                scheduler=_scheduler(phase.stop, phase.spared),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="sweep",
                **place.options,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_PROXY_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[_Relay(queue, on_event), Silent()],
            ),
        )
        try:
            tuner.fit()
        except Exception:
            # A Tune that never saw a trial stumbles over its own files; why it saw none is what counts.
            if queue.error is None:
                raise


def _scheduler(stop: EarlyStop | None, spared: Collection[str]) -> TrialScheduler:
    if stop is None:
        return _Fifo()
    if stop.kind == "asha":
        return _Asha(
            spared,
            time_attr="epoch",
            # ASHA ends a trial that reaches max_t; the last epoch's end is the worker's to tell.
            max_t=max(stop.max_epochs, stop.grace_epochs) + 1,
            grace_period=stop.grace_epochs,
            reduction_factor=stop.reduction,
        )
    return _Median(
        spared,
        time_attr="epoch",
        grace_period=stop.grace_epochs,
        # Where it has too few results to compare with it would pause trials, which a slot cannot.
        min_time_slice=math.inf,
    )


class _Fifo(Forgetting, FIFOScheduler):  # type: ignore[misc]
    """Trials in the queue's order."""


class _Sparing(Forgetting):
    """Before a scheduler of Tune: one that leaves the baseline's trials alone. They count for the others, and
    without them no other row can be compared with anything."""

    def __init__(self, spared: Collection[str], **options: Any) -> None:
        super().__init__(**options)
        self._spared = frozenset(spared)

    def _spares(self, trial: Any) -> bool:
        return trial.config["trial"] in self._spared


class _Asha(_Sparing, ASHAScheduler):  # type: ignore[misc]
    """Successive halving."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Tune asks whether to go on."""
        decision = super().on_trial_result(controller, trial, result)
        return str(TrialScheduler.CONTINUE if self._spares(trial) else decision)


class _Median(_Sparing, MedianStoppingRule):  # type: ignore[misc]
    """Median stopping."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Tune asks whether to go on."""
        if self._spares(trial):
            # The rule itself would remember the trial as stopped.
            self._results[trial].append(result)
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(controller, trial, result))


class _Relay(tune.Callback):  # type: ignore[misc]
    """Tells the watcher what Tune hears."""

    def __init__(self, queue: TrialQueue, on_event: OnEvent) -> None:
        self._queue = queue
        self._on_event = on_event

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks at the start, for a restore that never happens here.
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        ticket = self._queue.ticket_of(trial.trial_id)
        news = result.get("news")
        if ticket is None or news is None or news == "finished":
            return
        curve = result["curve"]
        self._on_event(
            Event(
                kind=news,
                identity=ticket.identity,
                label=ticket.label,
                seed=ticket.seed,
                slot=int(result["slot"]),
                epoch=int(result["epoch"]),
                epochs=int(curve.get("epochs", 0)),
                metrics={k: v for k, v in curve.items() if isinstance(v, float)},
                text=f"attempt {result['attempts']}" if news == "retried" else "",
            )
        )


class _Outcomes:
    """Reads how a trial ended, from the ledger first: what is committed there is what counts."""

    def __init__(self, store: Store, slots: list[Any], stall_seconds: float, run: str) -> None:
        self._store, self._run = store, run
        self._stall_seconds = stall_seconds
        self._slots = slots
        self._began = time.time()

    def read(self, ticket: Ticket, result: dict[str, Any] | None) -> Record:
        """The record of a trial that Tune says is over; commits it where the worker could not."""
        known = self._store.ledger.get(ticket.identity)
        if known is not None:
            return known
        status = result.get("status") if result is not None else None
        if status in ("failed", "lost"):
            # Of several workers one may have said why before all were ended.
            failure = self._store.ledger.failure(ticket.identity)
            if failure is not None and failure.finished >= self._began:
                return failure
        if result is not None and status is None:
            return self._prune(ticket, result)
        why = (result or {}).get("error") or "the actor that followed it died too often"
        if count := stalls(self._store.checkpoints(ticket.identity)):
            why = f"{why}; {stalled_text(count, self._stall_seconds)}"
        history = History(self._store, ticket.identity, self._run)
        attempts, retries = history.lost(int((result or {}).get("attempts", _PROXY_RETRIES + 1)))
        record = failed_record(ticket, str(why), attempts=attempts, retries=retries, started=time.time())
        self._store.ledger.commit(record)
        return record

    def _prune(self, ticket: Ticket, result: dict[str, Any]) -> Record:
        for slot in self._slots:
            slot.abandon.remote(ticket.identity)
        # Tune hands its searchers flattened results.
        flat = {k.removeprefix("curve/"): v for k, v in result.items() if k.startswith("curve/")}
        curve = {k: float(v) for k, v in flat.items() if k != "epochs"}
        attempts, retries = History(self._store, ticket.identity, self._run).so_far()
        started = time.time() - float(result.get("time_total_s", 0))
        record = pruned_record(ticket, curve, started=started, attempts=attempts, retries=retries)
        self._store.ledger.commit(record)
        self._store.remove(self._store.checkpoints(ticket.identity))
        return self._store.ledger.get(ticket.identity) or record


def _close(slots: list[Any]) -> None:
    """Let the slots' workers end by themselves for a moment, so that Ray removes what they hold."""
    asked = [slot.close.remote() for slot in slots]
    ray.wait(asked, num_returns=len(asked), timeout=2.0)
