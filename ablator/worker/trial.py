"""One trial spec to one committed record."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable

import torch
from torch import nn

from ablator.assembly.build import Assembly, assemble
from ablator.assembly.check import Size, check, check_operator
from ablator.assembly.operator import build_measurement, build_operator
from ablator.assembly.preflight import model_key
from ablator.contracts.events import Ticket
from ablator.contracts.protocols import Batches, DataInfo, OnProgress, OnStart, Outcome, World
from ablator.contracts.record import Record
from ablator.contracts.train import TrainSettings
from ablator.data.loading import Loader, load
from ablator.errors import UserError
from ablator.plan.plugins import bring
from ablator.plan.spec import TrialSpec
from ablator.results.store import Store
from ablator.results.versions import environment
from ablator.tasks.settings import kept_views
from ablator.training.batching import micro_batch_size
from ablator.training.features import FeatureBatches, pass_size_of
from ablator.training.loop import LeavingError, train
from ablator.training.memory import is_out_of_memory, memory_note, with_accumulate
from ablator.worker.depot import CheckpointDepot
from ablator.worker.execution import Execution
from ablator.worker.history import History, Start, aside_text
from ablator.worker.keeping import keep_record, set_damage_aside
from ablator.worker.machine import OutOfMemoryError, clear, machine, smaller_step
from ablator.worker.records import failed_record
from ablator.worker.starting import trial_weights
from ablator.worker.watchdog import Watchdog, stalled_text, stalls

_ERROR_LINES = 12


class StartAgainError(Exception):
    """The trial is not at fault: it goes on in a start that does not count against the allowed ones."""


@dataclasses.dataclass(frozen=True)
class _Call:
    """What one trial is trained with."""

    ticket: Ticket
    spec: TrialSpec
    started: float
    on_progress: OnProgress
    leaving: Callable[[], bool] | None


class TrialRunner:
    """Runs trials one after the other in one process and keeps what they share: the environment's
    description, sizes of models, and (inside the data room) opened data sets."""

    def __init__(
        self,
        store: Store,
        execution: Execution,
        *,
        world: World,
        device: torch.device,
        run: str = "",
        slots_per_gpu: int = 1,
    ) -> None:
        """`run` names the driver's run, to tell what an earlier one left; `slots_per_gpu`: slots that share
        this one's GPU."""
        self.store = store
        self._run = run
        self.execution = execution
        self.world = world
        self.device = device
        self._versions = {
            **environment(),
            **machine(device, slots_per_gpu=slots_per_gpu),
            "workers": str(world.size),
        }
        self._sizes: dict[str, Size] = {}
        self._compiled = ""

    def begin(self, ticket: Ticket, attempts: int) -> Start:
        """Note a start of the trial, number `attempts` of its slot; asked once for all workers."""
        return self._history(ticket).begin(attempts, aside=set_damage_aside(self.store, ticket.identity))

    def run(
        self,
        ticket: Ticket,
        *,
        attempts: int,
        on_progress: OnProgress,
        start: Start | None = None,
        leaving: Callable[[], bool] | None = None,
    ) -> Record | None:
        """Train the ticket's trial and commit its record; None where `on_progress` ended it. `start` is what
        `begin` gave, which several workers must share; `leaving` says whether this process must go.

        A trial that another process has finished meanwhile is answered from the ledger. An exception
        of the trial becomes a *failed* record. With one worker it does not leave this method; with several
        it does, because the others wait for this one in the middle of a step, and only Ray Train's end of
        the whole group frees them. Raises StartAgainError where the trial is to be started again, and
        NotKeptError where it was trained and the store takes no record; its checkpoint is then still there.
        """
        if self.world.size == 1 and (done := self.answer(ticket)) is not None:
            return done
        started = time.time()
        start = start or self.begin(ticket, attempts)
        clear(self.device)
        try:
            bring(ticket.spec, self.store.plugin)
            spec = TrialSpec.from_json(ticket.spec)
            if spec.trains:
                record = self._train(_Call(ticket, spec, started, on_progress, leaving), start)
            else:
                record = self._measure(ticket, spec, start=start, started=started)
        except StartAgainError:
            raise
        except Exception as error:
            record = self._failed(ticket, error, started=started)
            if self.world.size > 1:
                self.store.ledger.commit(record)
                raise
        if record is not None and self.world.rank == 0:
            keep = self.execution.keep_weights or ticket.keep_weights
            keep_record(self.store, record, weights=keep and record.status == "completed" and spec.trains)
        return record

    def answer(self, ticket: Ticket) -> Record | None:
        """The trial's record, where it is finished already and has left what the ticket asks for."""
        record = self.store.ledger.get(ticket.identity)
        if record is None or record.status != "completed" or not ticket.keep_weights:
            return record
        return record if self.store.has(self.store.weights(ticket.identity)) else None

    def _train(self, call: _Call, start: Start) -> Record | None:
        """Train in ever smaller micro-batches until one fits into the device's memory."""
        folder, history = self.store.checkpoints(call.ticket.identity), self._history(call.ticket)
        # One of several workers is enough: the others wait for it, and it for them.
        limit = self.execution.stall_seconds if self.world.rank == 0 else 0.0
        while True:
            try:
                with Watchdog(limit, folder, start.number) as watchdog:
                    record = self._train_watched(call, start, watchdog)
                break
            except LeavingError as error:
                history.end("notice")
                raise StartAgainError(str(error)) from None
            except OutOfMemoryError as error:
                used = with_accumulate(call.spec.train, start.accumulate)
                accumulate = smaller_step(used, self.world, error)
                history.end("out of memory", accumulate)
                if self.world.size > 1:
                    raise StartAgainError(str(error)) from None
            # Only here has the error let go of the model.
            clear(self.device)
            # Whatever the history could keep: this ends.
            start = dataclasses.replace(self.begin(call.ticket, start.number + 1), accumulate=accumulate)
        if record is not None and (count := stalls(folder)):
            stalled = stalled_text(count, self.execution.stall_seconds)
            record = dataclasses.replace(record, incidents=(*record.incidents, stalled))
        return record

    def _train_watched(self, call: _Call, start: Start, watchdog: Watchdog) -> Record | None:
        spec, settings = call.spec, with_accumulate(call.spec.train, start.accumulate)
        # First, because a trial that has nothing to start from needs no images.
        weights = trial_weights(spec, call.ticket, self.store)
        images = self._load(spec, micro_batch_size(settings, self.world))
        size = self._size(spec, images.info)
        self._forget_compiled(spec)
        assembly = assemble(spec, images.info, weights)
        batches = watchdog.batches(images)
        depot = CheckpointDepot(self.store)
        if assembly.heads is not None:
            batches = self._features(spec, settings, assembly, batches, watchdog)

        def on_start(epoch: int) -> None:
            nonlocal start
            if self.world.rank == 0:
                start = self._history(call.ticket).goes_on(start, epoch)

        outcome = self._fit(call, settings, assembly, images, batches, depot, watchdog, on_start)
        if outcome.status == "stopped":
            return None
        cost, notes = outcome.cost, [*assembly.notes, *batches.notes(), *outcome.notes]
        if settings != spec.train:
            cost = {**cost, "accumulate": settings.accumulate}
            notes.append(memory_note(_trained(assembly), spec.train, settings, self.world))
        aside = (aside_text(start.aside),) if start.aside else ()
        return Record(
            identity=call.ticket.identity,
            status=outcome.status,
            spec=call.ticket.spec,
            metrics=outcome.metrics,
            curves=outcome.curves,
            cost=cost,
            size=size.as_dict(),
            notes=tuple(notes),
            incidents=(*aside, *outcome.incidents, *depot.notes()),
            error=outcome.error,
            attempts=start.number,
            retries=start.retries,
            versions=self._versions,
            started=call.started,
            finished=time.time(),
        )

    def _fit(
        self,
        call: _Call,
        settings: TrainSettings,
        assembly: Assembly,
        images: Loader,
        batches: Batches,
        depot: CheckpointDepot,
        watchdog: Watchdog,
        on_start: OnStart,
    ) -> Outcome:
        """The loop. Raises OutOfMemoryError where a step does not fit into the device's memory."""
        resident_bytes = images.place()
        try:
            return train(
                _trained(assembly),
                assembly.task,
                batches,
                settings,
                seed=call.spec.seed,
                num_classes=len(batches.info.classes),
                device=self.device,
                world=self.world,
                checkpoint=self.store.checkpoint(call.ticket.identity),
                depot=depot,
                checkpoint_seconds=self.execution.checkpoint_seconds,
                tag=call.ticket.identity,
                compile=self.execution.compile,
                resident_bytes=resident_bytes,
                on_start=on_start,
                on_progress=watchdog.reporting(call.on_progress),
                leaving=call.leaving,
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError((str(error) or type(error).__name__).splitlines()[0]) from None

    def _measure(self, ticket: Ticket, spec: TrialSpec, *, start: Start, started: float) -> Record | None:
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
            attempts=start.number,
            retries=start.retries,
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
        self,
        spec: TrialSpec,
        settings: TrainSettings,
        assembly: Assembly,
        images: Batches,
        watchdog: Watchdog,
    ) -> FeatureBatches:
        """What the frozen backbone makes of the images, for the heads."""
        assert spec.probe is not None
        asked, micro = (micro_batch_size(each, self.world) for each in (spec.train, settings))
        pass_size = pass_size_of(images.info.train_size // self.world.size, asked)
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

    def _history(self, ticket: Ticket) -> History:
        return History(self.store, ticket.identity, self._run)

    def _failed(self, ticket: Ticket, error: Exception, *, started: float) -> Record:
        if isinstance(error, UserError):
            text = str(error)
        else:
            text = "".join(traceback.format_exception(error)[-_ERROR_LINES:]).strip()
        attempts, retries = self._history(ticket).so_far()
        return failed_record(
            ticket, text, attempts=attempts, retries=retries, started=started, versions=self._versions
        )


def _trained(assembly: Assembly) -> nn.Module:
    return assembly.model if assembly.heads is None else assembly.heads
