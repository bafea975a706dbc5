"""A Ray cluster of many nodes on one machine, whose slots train nothing, and what its processes take."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from ablator.contracts.events import Ticket
from ablator.contracts.record import Record
from ablator.results.store import Store
from ablator.scheduling.inbox import Inbox

_QUIET = {
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
    "RAY_event_stats": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_metrics_report_interval_ms": "600000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
}
"""What a node measures of its own machine, and tells, more seldom: a hundred on two cores do nothing else."""
_KINDS = ("TrialProxy", "SimulatedSlot", "gcs_server", "raylet")
_OTHERS = "agents and others"


class SimulatedSlot(Inbox):
    """A slot whose training takes a given time and nothing else."""

    def __init__(
        self, number: int, store: str, seconds: float, epochs: int, starting: float, options: dict[str, Any]
    ) -> None:
        super().__init__(number, lockstep=options["lockstep"], max_attempts=options["max_attempts"])
        self._ledger = Store(store).ledger
        self._seconds, self._epochs, self._starting = seconds, epochs, starting
        import ray

        self._handle = ray.get_runtime_context().current_actor
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        """What `worker.serve` does, through the same calls."""
        import ray

        time.sleep(self._starting)
        while (taken := ray.get(self._handle.take.remote("simulated"))) is not None:
            ticket = Ticket(**taken["ticket"])
            record = self._ledger.get(ticket.identity)
            if record is None:
                started = time.time()
                for epoch in range(1, self._epochs + 1):
                    time.sleep(self._seconds / self._epochs)
                    row = {"epoch": epoch, "epochs": self._epochs, "top1": 10.0, "val_loss": 2.0}
                    ray.get(self._handle.report.remote(ticket.identity, row))
                record = record_of(ticket, started, self._epochs)
                self._ledger.commit(record)
            summary = {"status": record.status, "metrics": record.metrics, "error": record.error}
            ray.get(self._handle.finish.remote(ticket.identity, summary))


def record_of(ticket: Ticket, started: float, epochs: int) -> Record:
    """An outcome as a trained trial leaves it."""
    value = 10.0 + int(ticket.identity[:4], 16) / 6553.6
    curves = tuple(
        {"epoch": float(epoch), "lr": 1e-3, "train_loss": 2.0 / epoch, "top1": value * epoch / epochs}
        for epoch in range(1, epochs + 1)
    )
    return Record(
        identity=ticket.identity,
        status="completed",
        spec=ticket.spec,
        metrics={"top1": value, "val_loss": 1.0},
        curves=curves,
        cost={"step_ms": 40.0, "images_per_second": 900.0, "train_seconds": 30.0, "memory_mb": 900.0},
        size={"parameters": 5e6, "training_parameters": 5e6, "gmacs": 1.3},
        versions={"python": "3.11", "torch": "2.15.0"},
        started=started,
        finished=time.time(),
    )


def simulated_slots(seconds: float, epochs: int, starting: float) -> Callable[..., list[Any]]:
    """What stands in the place of `scheduling.slot.start_slots`: one actor a slot, over all nodes."""

    def start(count: int, shape: Any, settings: Any, **options: Any) -> list[Any]:
        import ray

        actor = ray.remote(num_cpus=0.9)(SimulatedSlot).options(scheduling_strategy="SPREAD")
        kept = {name: options[name] for name in ("lockstep", "max_attempts")}
        # Not the settings themselves, whose class would load torch.
        said = (settings.store, seconds, epochs, starting, kept)
        return [actor.remote(number, *said) for number in range(count)]

    return start


@contextmanager
def simulated_nodes(nodes: int, slots: int) -> Iterator[str]:
    """A cluster of so many nodes on this machine, with room for the slots; its address."""
    from ray.cluster_utils import Cluster

    os.environ.update(_QUIET)
    each = -(-slots // nodes)
    head = {"num_cpus": each + 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=each, object_store_memory=80 * 2**20, wait=False)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def rss_kb() -> float:
    """Resident memory of this process, garbage aside."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1024


def cluster_cpu() -> dict[int, tuple[str, float]]:
    """Kind and processor seconds so far of the processes that this one started, and that these did."""
    found: dict[int, tuple[str, float]] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command, times = " ".join(process.cmdline()).split("--")[0], process.cpu_times()
            kind = next((kind for kind in _KINDS if kind in command), _OTHERS)
            found[process.pid] = kind, times.user + times.system
    return found


def spent_between(
    before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]
) -> dict[str, float]:
    """Processor seconds by kind, of the processes that lived to the end."""
    found = dict.fromkeys((*_KINDS, _OTHERS), 0.0)
    for pid, (kind, seconds) in after.items():
        found[kind] += seconds - before.get(pid, (kind, 0.0))[1]
    return found
