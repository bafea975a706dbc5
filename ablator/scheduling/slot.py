"""A slot: one long-lived Ray Train worker group that takes one trial after the other.

The slot's actor is both the group's owner (it runs `TorchTrainer.fit` in a thread) and its inbox.
Tune's light trial actors put a ticket in and wait for what the workers report. Workers that die are
restarted by Ray Train and take the unfinished ticket again; its checkpoint is in the store.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import threading
import time
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from ablator.scheduling.actors import is_dead
from ablator.scheduling.inbox import Inbox
from ablator.scheduling.scratch import Scratch
from ablator.worker.execution import SlotSettings, on_cpu_anyway

_LOOK_S = 1.0
"""Between two looks at whether the worker lives."""
_logger = logging.getLogger(__name__)
_DEATHS_PER_LIFE = 20
"""Restarts of one worker group; one that cannot even start is given up after as many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotShape:
    """What one slot occupies."""

    workers: int = 1
    """Training processes; more than one train one trial together (DDP)."""
    cpus: float = 1
    """Per worker."""
    gpus: float | None = None
    """Per worker; fractions share a device; None: one where the cluster has any."""


def _serve(config: dict[str, Any]) -> None:
    """What each worker runs. The slot and Ray's controller load this function as well, and neither trains:
    the seconds of importing models and data are the workers' alone."""
    from ablator.worker.serve import serve

    serve(config)


class Slot(Inbox):
    """The slot's actor."""

    def __init__(
        self, number: int, shape: SlotShape, settings: SlotSettings, options: dict[str, Any]
    ) -> None:
        super().__init__(number, lockstep=options["lockstep"], max_attempts=options["max_attempts"])
        self._shape, self._settings, self._scratch = shape, settings, options["scratch"]
        self._handle = ray.get_runtime_context().current_actor
        threading.Thread(target=self._keep_workers, daemon=True).start()
        threading.Thread(target=self._watch_worker, daemon=True).start()

    def _keep_workers(self) -> None:
        """Run one worker group after the other; each serves a bounded number of trials. A slot is broken
        when its workers died too often without any trial coming to an end."""
        for life in itertools.count():
            ended = self.ended
            try:
                self._trainer(f"slot-{self.number}-{os.getpid()}-{life}").fit()
            except Exception as error:  # noqa: BLE001 - told to whoever waits for this slot
                if self.ended == ended:
                    self._broken = f"slot {self.number} lost its workers: {error}"
                    return
            if self._closing:
                return

    def _watch_worker(self) -> None:
        """Say in the inbox when the worker has died. Ray Train will start another one, but only where there
        is room for it, which may be never; the trial need not wait for that."""
        while not self._closing:
            time.sleep(_LOOK_S)
            worker = self.worker
            try:
                if worker is not None and is_dead(worker):
                    ray.get(self._handle.mourn.remote(worker))
            except Exception as error:  # noqa: BLE001 - Ray is away for a moment, or ends
                _logger.debug("cannot look for the worker of slot %d: %s", self.number, error)

    def _trainer(self, name: str) -> TorchTrainer:
        shape = self._shape
        # A hundredth is left for Tune's light actors, which would wait for ever on a full machine.
        resources = {"CPU": 0.99 * shape.cpus} | ({"GPU": shape.gpus} if shape.gpus else {})
        return TorchTrainer(
            _serve,
            train_loop_config={"inbox": self._handle, "settings": self._settings},
            # Ray takes NCCL wherever GPUs are asked for.
            torch_config=TorchConfig(backend="gloo" if on_cpu_anyway() else None),
            scaling_config=ScalingConfig(
                num_workers=shape.workers, use_gpu=bool(shape.gpus), resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=name,
                **self._scratch.options,
                failure_config=FailureConfig(max_failures=_DEATHS_PER_LIFE),
            ),
        )


def start_slots(
    count: int,
    shape: SlotShape,
    settings: SlotSettings,
    *,
    lockstep: bool,
    max_attempts: int,
    scratch: Scratch,
    api: str = "",
) -> list[Any]:
    """Actor handles of `count` slots, starting. `scratch` is where Ray Train keeps its own files. `api` is
    the address of the cluster's API server, for a cluster that is not the only one on its machine: Ray
    Train's cleaner would else ask whichever it finds first, and remove a group that lives (ray#65447)."""
    options = {"lockstep": lockstep, "max_attempts": max_attempts, "scratch": scratch}
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(Slot)
    if api:
        # What a slot starts inherits it.
        actor = actor.options(runtime_env={"env_vars": {"RAY_API_SERVER_ADDRESS": api}})
    return [actor.remote(number, shape, settings, options) for number in range(count)]
