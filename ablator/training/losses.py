"""Running means of the losses, and the watch for values that are not finite.

Shape legend: S steps, V values (total, then every named loss).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from ablator.contracts.protocols import World

# Reading a value from a GPU waits for everything queued there; a CPU has nothing to wait for.
_WINDOW = {"cpu": 1}
_DEVICE_WINDOW = 20


class NotFiniteError(ArithmeticError):
    """A loss or metric is nan or infinite; the text says which, where and beside which values."""


class LossMeter:
    """Collects the losses of every optimiser step, on their device, and reads them in windows of steps
    (1 on CPU, 20 elsewhere). Over several workers the values are averaged first, so that all workers see a
    loss that is not finite in the same step, whoever of them had it."""

    def __init__(self, device: torch.device, world: World) -> None:
        self._world = world
        self._window = _WINDOW.get(device.type, _DEVICE_WINDOW)
        self._names: list[str] = []
        self._sums: list[float] = []
        self._count = 0
        self._current_V: Tensor | None = None
        self._pending_V: list[Tensor] = []

    def add(self, total: Tensor, named: Mapping[str, Tensor]) -> None:
        """Take one micro-step's scalars."""
        names = list(named)
        if not self._names:
            self._names, self._sums = names, [0.0] * (len(names) + 1)
        assert names == self._names, f"losses are {names} in this step and were {self._names} before"
        values_V = torch.stack([value.detach().float() for value in (total, *named.values())])
        self._current_V = values_V if self._current_V is None else self._current_V + values_V

    def close_step(self, micro_steps: int) -> bool:
        """End an optimiser step of `micro_steps`; True where the window is full and `flush` is due."""
        assert self._current_V is not None
        self._pending_V.append(self._current_V / micro_steps)
        self._current_V = None
        return len(self._pending_V) >= self._window

    def flush(self, epoch: int, updates: int) -> None:
        """Read what is pending (a collective call); `updates` steps were done, in epochs counted from 1.
        Raises NotFiniteError at the first step with a value that is not finite."""
        if not self._pending_V:
            return
        table_SV = torch.stack(self._pending_V)
        if self._world.size > 1:
            dist.all_reduce(table_SV)
            table_SV /= self._world.size
        first = updates - len(self._pending_V) + 1
        self._pending_V = []
        for step, row in enumerate(table_SV.tolist(), first):
            if not all(map(math.isfinite, row)):
                raise NotFiniteError(self._describe(row, epoch, step))
            self._sums = [held + value for held, value in zip(self._sums, row, strict=True)]
            self._count += 1

    def means(self) -> dict[str, float]:
        """`train_loss` and one `train_<name>` per loss: means over the epoch's steps; empty before any."""
        if self._count == 0:
            return {}
        keys = ("train_loss", *(f"train_{name}" for name in self._names))
        return {key: held / self._count for key, held in zip(keys, self._sums, strict=True)}

    def start_epoch(self) -> None:
        """Forget the last epoch, and a step that was begun and left unfinished."""
        self._sums = [0.0] * len(self._sums)
        self._count = 0
        self.drop_step()

    def drop_step(self) -> None:
        """Forget micro-steps that no optimiser step followed."""
        self._current_V = None

    def state(self) -> dict[str, object]:
        """What a checkpoint keeps; nothing may be pending."""
        assert not self._pending_V
        return {"names": self._names, "sums": self._sums, "count": self._count}

    def restore(self, state: Mapping[str, object]) -> None:
        """The inverse of `state`."""
        names, sums, count = state["names"], state["sums"], state["count"]
        assert isinstance(names, list)
        assert isinstance(sums, list)
        assert isinstance(count, int)
        self._names, self._sums, self._count = names, sums, count

    def _describe(self, row: list[float], epoch: int, step: int) -> str:
        terms = ", ".join(f"{name}={value:.4g}" for name, value in zip(self._names, row[1:], strict=True))
        return f"loss is {row[0]:.4g} at epoch {epoch}, step {step} (terms: {terms})"
