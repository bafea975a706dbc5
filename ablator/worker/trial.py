"""One trial spec to one committed record."""

from __future__ import annotations

import dataclasses
import gc
import os
import platform
import time
import traceback
from contextlib import suppress

import torch

from ablator.assembly.build import Assembly, assemble
from ablator.assembly.check import Size, check, check_operator
from ablator.assembly.operator import build_measurement, build_operator
from ablator.assembly.preflight import model_key
from ablator.contracts.events import Ticket
from ablator.contracts.protocols import Batches, DataInfo, OnProgress, World
from ablator.contracts.record import Record
from ablator.contracts.secrets import scrubbed
from ablator.data.loading import Loader, load
from ablator.errors import StoreError, UserError
from ablator.objectives.features import forget_networks
from ablator.plan.plugins import bring
from ablator.plan.spec import TrialSpec
from ablator.results.store import Store
from ablator.results.versions import environment
from ablator.tasks.settings import kept_views
from ablator.training.batching import micro_batch_size
from ablator.training.features import FeatureBatches, pass_size_of
from ablator.training.kept import keep_weights
from ablator.training.loop import train
from ablator.worker.depot import CheckpointDepot
from ablator.worker.execution import Execution
from ablator.worker.starting import trial_weights
from ablator.worker.watchdog import Watchdog, stalled_text, stalls

_ERROR_LINES = 12


class TrialRunner:
    """Runs trials one after the other in one process and keeps what they share: the environment's
    description, sizes of models, and (inside the data room) opened data sets."""

    def __init__(self, store: Store, execution: Execution, *, world: World, device: torch.device) -> None:
        self.store = store
        self.execution = execution
        self.world = world
        self.device = device
        self._versions = {**environment(), **_machine(device), "workers": str(world.size)}
        self._sizes: dict[str, Size] = {}
        self._compiled = ""

    def run(self, ticket: Ticket, *, attempts: int, on_progress: OnProgress) -> Record | None:
        """Train the ticket's trial and commit its record; None where `on_progress` ended it.

        A trial that another process has finished meanwhile is answered from the ledger. An exception
        of the trial becomes a *failed* record. With one worker it does not leave this method; with several
        it does, because the others wait for this one in the middle of a step, and only Ray Train's end of
        the whole group frees them.
        """
        if self.world.size == 1 and (done := self.answer(ticket)) is not None:
            return done
        started = time.time()
        _clear(self.device)
        try:
            bring(ticket.spec, self.store.plugin)
            spec = TrialSpec.from_json(ticket.spec)
            if spec.trains:
                record = self._train(ticket, attempts=attempts, started=started, on_progress=on_progress)
            else:
                record = self._measure(ticket, spec, attempts=attempts, started=started)
        except Exception as error:
            record = self._failed(ticket, error, attempts=attempts, started=started)
            if self.world.size > 1:
                self.store.ledger.commit(record)
                raise
        if record is not None and self.world.rank == 0:
            keep = self.execution.keep_weights or ticket.keep_weights
            if keep and record.status == "completed" and spec.trains:
                # Before the commit: a trial that has its record has its weights as well.
                weights = self.store.weights(ticket.identity)
                keep_weights(self.store.checkpoint(ticket.identity), weights, ticket.identity)
                self.store.publish(weights)
            self.store.ledger.commit(record)
            self._forget_checkpoints(ticket.identity)
        return record

    def answer(self, ticket: Ticket) -> Record | None:
        """The trial's record, where it is finished already and has left what the ticket asks for."""
        record = self.store.ledger.get(ticket.identity)
        if record is None or record.status != "completed" or not ticket.keep_weights:
            return record
        return record if self.store.has(self.store.weights(ticket.identity)) else None

    def _forget_checkpoints(self, identity: str) -> None:
        # The trial has its record: what is left of it here harms nobody.
        with suppress(StoreError):
            self.store.remove(self.store.checkpoints(identity))

    def _train(
        self, ticket: Ticket, *, attempts: int, started: float, on_progress: OnProgress
    ) -> Record | None:
        folder = self.store.checkpoints(ticket.identity)
        # One of several workers is enough: the others wait for it, and it for them.
        limit = self.execution.stall_seconds if self.world.rank == 0 else 0.0
        with Watchdog(limit, folder, attempts) as watchdog:
            record = self._train_watched(ticket, watchdog, attempts, started, on_progress)
        if record is not None and (count := stalls(folder)):
            stalled = stalled_text(count, self.execution.stall_seconds)
            record = dataclasses.replace(record, notes=(*record.notes, stalled))
        return record

    def _train_watched(
        self,
        ticket: Ticket,
        watchdog: Watchdog,
        attempts: int,
        started: float,
        on_progress: OnProgress,
    ) -> Record | None:
        spec = TrialSpec.from_json(ticket.spec)
        settings = spec.train
        # First, because a trial that has nothing to start from needs no images.
        start = trial_weights(spec, ticket, self.store)
        images = self._load(spec, micro_batch_size(settings, self.world))
        size = self._size(spec, images.info)
        self._forget_compiled(spec)
        assembly = assemble(spec, images.info, start)
        batches = watchdog.batches(images)
        depot = CheckpointDepot(self.store)
        if assembly.heads is not None:
            batches = self._features(spec, assembly, batches, watchdog)
        outcome = train(
            assembly.model if assembly.heads is None else assembly.heads,
            assembly.task,
            batches,
            settings,
            seed=spec.seed,
            num_classes=len(batches.info.classes),
            device=self.device,
            world=self.world,
            checkpoint=self.store.checkpoint(ticket.identity),
            depot=depot,
            checkpoint_seconds=self.execution.checkpoint_seconds,
            tag=ticket.identity,
            compile=self.execution.compile,
            resident_bytes=images.place(),
            on_progress=watchdog.reporting(on_progress),
        )
        if outcome.status == "stopped":
            return None
        return Record(
            identity=ticket.identity,
            status=outcome.status,
            spec=ticket.spec,
            metrics=outcome.metrics,
            curves=outcome.curves,
            cost=outcome.cost,
            size=size.as_dict(),
            notes=(*assembly.notes, *batches.notes(), *depot.notes()),
            error=outcome.error,
            attempts=attempts,
            versions=self._versions,
            started=started,
            finished=time.time(),
        )

    def _measure(self, ticket: Ticket, spec: TrialSpec, *, attempts: int, started: float) -> Record | None:
        """Only the first worker measures: others beside it would share its device."""
        if self.world.rank > 0:
            return None
        found = build_measurement(spec).measure(build_operator(spec), seed=spec.seed, device=self.device)
        size = check_operator(spec)
        return Record(
            identity=ticket.identity,
            status="completed",
            spec=ticket.spec,
            metrics=found.metrics,
            unmeasured=found.unmeasured,
            cost={"eval_seconds": found.seconds},
            size=size.as_dict(),
            notes=(*size.notes, *found.notes),
            attempts=attempts,
            versions=self._versions,
            started=started,
            finished=time.time(),
        )

    def _load(self, spec: TrialSpec, batch_size: int) -> Loader:
        return load(
            spec.data,
            spec.augment,
            seed=spec.seed,
            batch_size=batch_size,
            world=self.world,
            workers=self.execution.loader_workers,
            device=self.device,
        )

    def _features(
        self, spec: TrialSpec, assembly: Assembly, images: Batches, watchdog: Watchdog
    ) -> FeatureBatches:
        """What the frozen backbone makes of the images, for the heads."""
        assert spec.probe is not None
        micro = micro_batch_size(spec.train, self.world)
        pass_size = pass_size_of(images.info.train_size // self.world.size, micro)
        return FeatureBatches(
            assembly.model.backbone,
            images,
            watchdog.batches(self._load(spec, pass_size)),
            views=kept_views(spec.probe, spec.train.all_epochs, fixed=spec.augment.fixed),
            batch_size=micro,
            pass_size=pass_size,
            seed=spec.seed,
            device=self.device,
            precision=spec.train.precision,
            cache=spec.probe.cache,
        )

    def _forget_compiled(self, spec: TrialSpec) -> None:
        """Drop compiled code before a model of another shape: torch gives up compiling, in silence, after a
        few different ones in one process."""
        key = model_key(spec)
        if self.execution.compile and key != self._compiled:
            torch.compiler.reset()
        self._compiled = key

    def _size(self, spec: TrialSpec, info: DataInfo) -> Size:
        key = f"{len(info.classes)} {model_key(spec)}"
        if key not in self._sizes:
            self._sizes[key] = check(spec, info)
        return self._sizes[key]

    def _failed(self, ticket: Ticket, error: Exception, *, attempts: int, started: float) -> Record:
        if isinstance(error, UserError):
            text = str(error)
        else:
            text = "".join(traceback.format_exception(error)[-_ERROR_LINES:]).strip()
        return failed_record(ticket, text, attempts=attempts, started=started, versions=self._versions)


def failed_record(
    ticket: Ticket, error: str, *, attempts: int, started: float, versions: dict[str, str] | None = None
) -> Record:
    """The record of a trial that could not be finished."""
    return Record(
        identity=ticket.identity,
        status="failed",
        spec=ticket.spec,
        # Also told through Ray, whose files are not the ledger's.
        error=scrubbed(error),
        attempts=attempts,
        versions=versions or {},
        started=started,
        finished=time.time(),
    )


def pruned_record(ticket: Ticket, curve: dict[str, float], *, started: float) -> Record:
    """The record of a trial that early stopping ended after the epoch of `curve`."""
    return Record(
        identity=ticket.identity,
        status="pruned",
        spec=ticket.spec,
        metrics={k: v for k, v in curve.items() if k not in ("epoch", "lr")},
        curves=(curve,),
        started=started,
        finished=time.time(),
    )


def _clear(device: torch.device) -> None:
    """Take from a GPU what earlier trials of this process left there and would be counted as this one's peak
    memory: feature networks, and whatever waits for the garbage collection. Images stay."""
    if device.type == "cuda":
        forget_networks()
        gc.collect()
        torch.cuda.empty_cache()


def _machine(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "cores": str(len(os.sched_getaffinity(0))),
    }
