"""The loop of one Ray Train worker: it takes one trial after the other from its slot's inbox.

Processes, imports, the CUDA context and the opened data sets are paid for once per slot. Nothing is
carried from one trial to the next: weights, optimiser and random state are made anew from the spec.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from ablator.contracts.events import Ticket
from ablator.contracts.protocols import Progress, World
from ablator.contracts.record import Record
from ablator.results.store import Store
from ablator.worker.execution import SlotSettings, on_cpu_anyway
from ablator.worker.history import Start
from ablator.worker.keeping import NotKeptError
from ablator.worker.notice import Notices
from ablator.worker.trial import StartAgainError, TrialRunner

# A slot may wait for its next trial for days; only the process's death ends the wait.
_PATIENCE = datetime.timedelta(days=365)


def serve(config: dict[str, Any]) -> None:
    """Take and run trials until the inbox is closed or the processes' life is over.

    `config`: `inbox`, the slot's actor handle, and `settings`, a SlotSettings. Runs on every worker of
    the slot.
    """
    settings: SlotSettings = config["settings"]
    inbox = config["inbox"]
    torch.set_num_threads(settings.threads)
    context = ray.train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    share = _sharer(world)
    device = _device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    worker = ray.get_runtime_context().get_actor_id()
    store = Store(settings.store)
    runner = TrialRunner(
        store,
        settings.execution,
        world=world,
        device=device,
        run=settings.run,
        slots_per_gpu=settings.slots_per_gpu,
    )
    for _ in range(settings.trials_per_life):
        taken = share(lambda: ray.get(inbox.take.remote(worker)))
        if taken is None:
            return
        ticket = Ticket(**taken["ticket"])
        # Asked once for all workers: between two looks another process may finish the trial.
        record = share(functools.partial(runner.answer, ticket))
        summary, leaving = _summary(record), False
        if record is None:
            start = share(functools.partial(runner.begin, ticket, taken["attempts"]))
            report = _reporter(inbox, ticket.identity, share, world)
            summary, leaving = _run(runner, ticket, taken["attempts"], start, inbox, report)
        if world.rank == 0:
            ray.get(inbox.finish.remote(ticket.identity, summary))
        if leaving:
            # What comes next is trained elsewhere.
            raise StartAgainError("the machine of this worker goes")
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _device() -> torch.device:
    """Raises RuntimeError for a GPU that Ray counts and torch does not see: training would go on without it,
    a hundred times slower."""
    device = torch.device("cpu") if on_cpu_anyway() else get_device()
    assert isinstance(device, torch.device), "a worker has one device"
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"Ray gives this worker a GPU, and torch {torch.__version__} sees none: its CUDA "
            f"{torch.version.cuda} may need a newer driver (`nvidia-smi` says which one is there)"
        )
    return device


def _run(
    runner: TrialRunner,
    ticket: Ticket,
    attempts: int,
    start: Start,
    inbox: Any,
    report: Callable[[Progress], bool],
) -> tuple[dict[str, Any], bool]:
    """Train the ticket's trial; how it ended, and whether this process must go."""
    with Notices() as notices:
        try:
            record = runner.run(
                ticket, attempts=attempts, on_progress=report, start=start, leaving=notices.given
            )
            summary = _summary(record)
        except NotKeptError as error:
            # The driver says so in the ledger, if it can, and the trial goes on from its checkpoint later.
            summary = {"status": "failed", "error": str(error)}
        except StartAgainError:
            if start.excusable:
                ray.get(inbox.excuse.remote(ticket.identity, attempts))
            raise
    return summary, notices.given()


def _summary(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {"status": "stopped"}
    return {"status": record.status, "metrics": record.metrics, "error": record.error}


def _reporter(
    inbox: Any, identity: str, share: Callable[[Callable[[], Any]], Any], world: World
) -> Callable[[Progress], bool]:
    def report(progress: Progress) -> bool:
        row = {"epoch": progress.epoch, "epochs": progress.epochs, **progress.metrics}
        return bool(share(lambda: ray.get(inbox.report.remote(identity, row))))

    return report


def _sharer(world: World) -> Callable[[Callable[[], Any]], Any]:
    """A function that asks on rank 0 and gives every rank the answer."""
    if world.size == 1:
        return lambda ask: ask()
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert isinstance(group, dist.ProcessGroup), "every worker of a slot is in its group"

    def share(ask: Callable[[], Any]) -> Any:
        answer = [ask() if world.rank == 0 else None]
        dist.broadcast_object_list(answer, src=0, group=group)
        return answer[0]

    return share
