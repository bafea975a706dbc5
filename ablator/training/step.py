"""The step: mix, forward, loss, backward, and every `accumulate` times the optimiser.

Shape legend: B batch, C channels, H W height and width, K classes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ablator.contracts.protocols import Task, World
from ablator.contracts.train import TrainSettings
from ablator.training.losses import LossMeter
from ablator.training.mixing import build_mixing
from ablator.training.optim import build_optimizer, clip
from ablator.training.randomness import derive, reseed
from ablator.training.schedule import build_schedule


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of `train.precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


class Stepper:
    """Everything that a step changes: weights, optimiser, weight average and running losses."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        settings: TrainSettings,
        steps_per_epoch: int,
        *,
        num_classes: int,
        seed: int,
        device: torch.device,
        world: World,
        compile: bool,
    ) -> None:
        self.model = model.to(device)
        self._parallel = _parallel(model, device, world) if world.size > 1 else None
        called: Any = self._parallel or model
        self._call = torch.compile(called) if compile else called
        self._task, self._settings, self._seed = task, settings, seed
        self._device, self._world = device, world
        self._mixing = build_mixing(settings, num_classes)
        self.losses = LossMeter(device, world)
        self.optimizer = build_optimizer(model, settings)
        self._schedule = build_schedule(self.optimizer, settings, steps_per_epoch)
        self.average = ModelEmaV3(model, decay=settings.ema_decay) if settings.ema_decay is not None else None

    @property
    def lr(self) -> float:
        """Learning rate of the latest step, where nothing scales it."""
        group = self.optimizer.param_groups[0]
        return float(group["lr"]) / float(group.get("lr_scale", 1.0))

    def micro_step(
        self, images_BCHW: Tensor, target: Tensor, epoch: int, micro: int, *, closes: bool
    ) -> None:
        """Forward and backward on micro-batch `micro` of `epoch` (both from 0); `closes` where the optimiser
        steps next, which is when workers exchange gradients. Every random draw follows from (seed, epoch,
        micro, rank): equal in every arm, and after a resume."""
        images_BCHW = images_BCHW.to(self._device, non_blocking=True)
        target = target.to(self._device, non_blocking=True)
        reseed(derive(self._seed, "step", epoch, micro, self._world.rank))
        if self._mixing is not None:
            images_BCHW, target = self._mixing(images_BCHW, target)
        with self._exchange(closes):
            with autocast(self._device, self._settings.precision):
                output, terms = self._call(images_BCHW)
                losses = self._task.loss(output.float(), target)
            assert not set(losses) & set(terms), f"losses and terms share names: {set(losses) & set(terms)}"
            named = {**losses, **terms}
            total = torch.stack([value.float() for value in named.values()]).sum()
            torch.autograd.backward(total / self._settings.accumulate)
        self.losses.add(total, named)

    def update(self, step: int, updates: int) -> None:
        """The optimiser's step at place `step` of the schedule (from 0); it is number `updates` (from 1)."""
        self._schedule.step_update(step)
        clip(self.model, self._settings.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.model, step=updates)

    def drop_step(self) -> None:
        """Forget micro-steps that no `update` followed."""
        self.optimizer.zero_grad()
        self.losses.drop_step()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps. Random states are not in it, because no draw depends on one."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.module.state_dict() if self.average is not None else None,
            "losses": self.losses.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; raises RuntimeError, ValueError or KeyError where it does not fit."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.losses.restore(state["losses"])

    def _exchange(self, closes: bool) -> AbstractContextManager[None]:
        return nullcontext() if self._parallel is None or closes else self._parallel.no_sync()


def _parallel(model: nn.Module, device: torch.device, world: World) -> DistributedDataParallel:
    # Buffers come from rank 0 before each step, so that its checkpoint holds all that a resume needs.
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=True,
        # Looking for weights without a gradient costs a walk through the graph at every step.
        find_unused_parameters=bool(getattr(model, "partly_unreached", False)),
        gradient_as_bucket_view=True,
    )
