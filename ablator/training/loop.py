"""One trial, from its first step to its outcome.

Shape legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ablator.contracts.depot import Depot
from ablator.contracts.protocols import Batches, OnProgress, OnStart, Outcome, Progress, Task, World
from ablator.contracts.train import TrainSettings
from ablator.errors import StoreError
from ablator.training import checkpoint as checkpoints
from ablator.training.batching import micro_batch_size, steps_per_epoch
from ablator.training.cost import CostMeter
from ablator.training.losses import NotFiniteError
from ablator.training.memory import Pieces
from ablator.training.step import Stepper, autocast

_ALONE = World()
_AVERAGED = "ema_"
"""Begins the names of what is measured with the weight average."""


def train(
    model: nn.Module,
    task: Task,
    batches: Batches,
    settings: TrainSettings,
    *,
    seed: int,
    num_classes: int,
    device: torch.device,
    world: World = _ALONE,
    checkpoint: Path | None = None,
    depot: Depot | None = None,
    tag: str = "",
    checkpoint_seconds: float = 60.0,
    compile: bool = False,
    resident_bytes: int = 0,
    on_start: OnStart | None = None,
    on_progress: OnProgress | None = None,
    leaving: Callable[[], bool] | None = None,
) -> Outcome:
    """Train `model` (a `contracts.TrainedModel`) in place and evaluate it.

    `batches` gives micro-batches of `batching.micro_batch_size(settings, world)` images. With `checkpoint`,
    the state is written there at the end of every epoch, and within it once `checkpoint_seconds` have passed
    since the last time; where the file exists, the trial goes on from it, bit for bit on CPU as if it had
    never stopped, or with another `accumulate` than it was written with. `depot` takes it to where other
    machines find it, and brings it from there; `tag` names the trial in the file. Where `world.size` > 1 the
    process group is initialised already.

    `resident_bytes` of `device` are taken by what outlives the trial, such as the data set's images, and are
    left out of its peak memory.

    `on_start` is told how many epochs the checkpoint had finished. `on_progress` is called after every epoch,
    and once more for the latest epoch when a trial resumes at its end. Its False stops the trial (on all
    workers, if any says so); after the last epoch it changes nothing.

    `leaving` is asked after a step (on a GPU every 20) whether this worker must go: the state is then written
    and LeavingError raised, on this worker alone.

    A loss, term or metric that is not finite ends the trial as diverged. Raises SettingError for settings
    that cannot be trained, and StoreError for a checkpoint that is damaged or another trial's. Where one
    cannot be written, the next one is the next try, and the outcome has a note.
    """
    micro_batch_size(settings, world)
    steps = steps_per_epoch(settings, batches.steps_per_epoch)
    stepper = Stepper(
        model,
        task,
        settings,
        steps,
        num_classes=num_classes,
        seed=seed,
        device=device,
        world=world,
        compile=compile,
    )
    saver = checkpoints.Saver(checkpoint, tag, checkpoint_seconds, world, device, depot)
    cost = CostMeter(device, world, resident_bytes)
    trial = _Trial(stepper, task, batches, settings, steps, device, world, saver, cost, on_progress)
    return trial.run(on_start, leaving or (lambda: False))


def evaluate(
    model: nn.Module,
    task: Task,
    batches: Batches,
    device: torch.device,
    precision: Literal["fp32", "bf16"] = "fp32",
    pieces: Pieces | None = None,
) -> dict[str, float]:
    """The task's metrics of `model` on the validation images (a collective call over workers); the metric
    called loss is `val_loss` here. Images that do not fit into memory go through it in `pieces`. The model's
    mode is left as it was."""
    mode = model.training
    model.eval()
    metrics = task.metrics(device)
    pieces = pieces or Pieces()

    def outputs(images_BCHW: Tensor) -> Tensor:
        with autocast(device, precision):
            output, _ = model(images_BCHW.to(device, non_blocking=True))
        return output.float()  # type: ignore[no-any-return]

    with torch.no_grad():
        for images_BCHW, target in batches.evaluate():
            metrics.update(pieces(outputs, images_BCHW), target.to(device, non_blocking=True))
    model.train(mode)
    return {_recorded(name): float(value) for name, value in metrics.compute().items()}


def metric_names(task: Task, settings: TrainSettings) -> tuple[str, ...]:
    """The metrics of a finished trial: the task's, and those of the weight average where there is one."""
    names = tuple(_recorded(name) for name in task.measures)
    return names if settings.ema_decay is None else (*names, *(_AVERAGED + name for name in names))


def _recorded(name: str) -> str:
    return "val_loss" if name == "loss" else name


class LeavingError(Exception):
    """The trial was left where it is, because its worker must go."""


class _Trial:
    """Where a trial stands, and the moves between steps and epochs."""

    def __init__(
        self,
        stepper: Stepper,
        task: Task,
        batches: Batches,
        settings: TrainSettings,
        steps: int,
        device: torch.device,
        world: World,
        saver: checkpoints.Saver,
        cost: CostMeter,
        on_progress: OnProgress | None,
    ) -> None:
        self._stepper, self._task, self._batches, self._settings = stepper, task, batches, settings
        self._device, self._world, self._saver, self._on_progress = device, world, saver, on_progress
        self._steps, self._cost = steps, cost
        self._epoch = 0
        self._step = 0
        self._updates = 0
        self._rows: list[dict[str, float]] = []
        self._metrics: dict[str, float] = {}
        self._pieces = Pieces()

    def run(self, on_start: OnStart | None, leaving: Callable[[], bool]) -> Outcome:
        self._leaving = leaving
        self._resume()
        if on_start is not None:
            on_start(self._epoch)
        try:
            finished = self._run_epochs()
            if not self._metrics:  # stopped before the first evaluation: a pruned trial has a value too
                self._metrics = self._evaluate()
        except NotFiniteError as error:
            return self._outcome("diverged", {}, str(error))
        return self._outcome("completed" if finished else "stopped", self._metrics, None)

    def _run_epochs(self) -> bool:
        resumed_at_end = self._epoch > 0 and self._step == 0
        if resumed_at_end and not self._go_on():
            return False
        while self._epoch < self._settings.all_epochs:
            if self._step < self._steps:
                self._train_epoch()
            self._close_epoch()
            if not self._go_on():
                return False
        return True

    def _train_epoch(self) -> None:
        self._stepper.model.train()
        per_step = self._settings.accumulate
        first = self._step * per_step
        stream = self._batches.train(self._epoch, first)
        self._cost.lap(None)
        for micro, (images_BCHW, target) in enumerate(islice(stream, self._steps * per_step - first), first):
            closes = (micro + 1) % per_step == 0
            with self._cost.clock.running():
                self._stepper.micro_step(images_BCHW, target, self._epoch, micro, closes=closes)
                if closes:
                    self._stepper.update(self._epoch * self._steps + self._step, self._updates + 1)
            self._cost.count_images(len(images_BCHW))
            if closes:
                self._close_step()
        # Batches may end early, such as where unreadable images were skipped.
        self._stepper.drop_step()
        self._cost.clock.drop_step()
        self._read_device()
        self._cost.lap("train")

    def _close_step(self) -> None:
        self._step += 1
        self._updates += 1
        self._cost.clock.close_step()
        if self._stepper.losses.close_step(self._settings.accumulate):
            self._read_device()
            leaving = self._leaving()
            if self._saver.due() or leaving:
                self._cost.lap("train")
                self._save()
                self._cost.lap(None)
            if leaving:
                raise LeavingError(f"left in epoch {self._epoch + 1}, after step {self._updates}")

    def _read_device(self) -> None:
        self._stepper.losses.flush(self._epoch + 1, self._updates)
        self._cost.collect_steps()

    def _close_epoch(self) -> None:
        self._epoch += 1
        row = {"epoch": self._epoch, "lr": self._stepper.lr, **self._stepper.losses.means()}
        if self._epoch % self._settings.eval_every == 0 or self._epoch == self._settings.all_epochs:
            self._metrics = self._evaluate()
            row |= self._metrics
        self._rows.append(row)
        self._step = 0
        self._stepper.losses.start_epoch()
        self._save()

    def _evaluate(self) -> dict[str, float]:
        self._cost.lap(None)
        found: dict[str, float] = {}
        average = self._stepper.average
        for prefix, model in (("", self._stepper.model), (_AVERAGED, average.module if average else None)):
            if model is not None:
                _share_buffers(model, self._world)
                metrics = evaluate(
                    model, self._task, self._batches, self._device, self._settings.precision, self._pieces
                )
                found |= {f"{prefix}{name}": value for name, value in metrics.items()}
        self._cost.lap("eval")
        for name, value in found.items():
            if not math.isfinite(value):
                place = f"the evaluation after epoch {self._epoch}, step {self._updates}"
                raise NotFiniteError(f"{name} is {value} in {place}")
        return found

    def _go_on(self) -> bool:
        """Report the latest epoch; whether to go on. All workers do the same."""
        if self._on_progress is None:
            return True
        wanted = self._on_progress(
            Progress(
                epoch=self._epoch,
                epochs=self._settings.all_epochs,
                metrics=self._rows[-1],
                step=self._updates,
            )
        )
        if self._world.size > 1:
            vote = torch.tensor(int(wanted), device=self._device)
            dist.all_reduce(vote, op=dist.ReduceOp.MIN)
            wanted = bool(vote)
        return wanted or self._epoch == self._settings.all_epochs

    def _save(self) -> None:
        if not self._saver.writes:
            return
        self._saver.save(
            {
                "epoch": self._epoch,
                "step": self._step,
                "updates": self._updates,
                "rows": self._rows,
                "metrics": self._metrics,
                "cost": self._cost.state(),
                **self._stepper.state(),
            }
        )

    def _resume(self) -> None:
        state = self._saver.load()
        if state is None:
            return
        try:
            self._stepper.restore(state)
            self._epoch, self._step, self._updates = state["epoch"], state["step"], state["updates"]
            self._rows, self._metrics = state["rows"], state["metrics"]
            self._cost.restore(state["cost"])
        except (RuntimeError, ValueError, KeyError) as error:
            why = textwrap.shorten(str(error), 300)
            raise StoreError(
                f"checkpoint {self._saver.path} does not fit this model ({why}); {checkpoints.REMEDY}"
            ) from error

    def _outcome(
        self,
        status: Literal["completed", "diverged", "stopped"],
        metrics: dict[str, float],
        error: str | None,
    ) -> Outcome:
        return Outcome(
            status=status,
            metrics=dict(metrics),
            curves=tuple(self._rows),
            cost=self._cost.result(self._updates),
            error=error,
            notes=self._pieces.notes("evaluated"),
            incidents=self._saver.notes(),
        )


def _share_buffers(model: nn.Module, world: World) -> None:
    """Give every worker rank 0's running statistics, so that all evaluate the same model."""
    if world.size > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, src=0)
