"""Inference time: milliseconds and memory of one pass of an operator, nothing trained (as Table 3 of arXiv
2212.11115).

Every image size is measured by itself: passes that do not count, then passes of which the median counts. A
size that does not fit into memory has the result OOM, and the others go on. The trial's seed draws the map
and the operator's weights, neither of which should matter; seeds are repetitions of the measurement.

Shape legend: B batch, C channels, H W height and width of the map (image side / stride, rounded up).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ablator.contracts.protocols import Measured
from ablator.errors import SettingError
from ablator.tasks.devices import busy, free_memory, processor
from ablator.tasks.live_memory import live_bytes
from ablator.tasks.settings import MeasureSettings

OOM = "OOM"
"""Out of memory: the word that stands in the place of a time."""
_GIB = 2**30
_MIB = 2**20


def build(settings: MeasureSettings | None = None) -> InferenceTime:
    """The measurement that `settings` describe. Raises SettingError for a size that is there twice."""
    return InferenceTime(settings or MeasureSettings())


class InferenceTime:
    """Metrics of every size S: `ms_S`, the median; `spread_ms_S`, the interquartile range; `memory_mb_S`, the
    most that a pass holds at once beside the parameters, in units of 2^20 bytes (on a GPU as its allocator
    says, on a processor as counted by `live_bytes`). `largest` is the largest size that fitted, 0 without."""

    def __init__(self, settings: MeasureSettings) -> None:
        self.settings = settings
        if len(set(settings.sizes)) < len(settings.sizes):
            raise SettingError(f"measure.sizes {list(settings.sizes)} has a size twice; each is there once")
        names = [name for size in settings.sizes for name in _names(size)]
        self.measures: tuple[str, ...] = (*names, "largest")

    def map_shape(self, size: int) -> tuple[int, int, int, int]:
        """(B, C, H, W) of the map of an image of `size`² pixels."""
        side = -(-size // self.settings.stride)
        return self.settings.batch, self.settings.channels, side, side

    def measure(self, operator: nn.Module, *, seed: int, device: torch.device) -> Measured:
        """Measure every size. Raises SettingError where `measure.device` is another one."""
        name = self._check_device(device)
        began = time.perf_counter()
        metrics: dict[str, float] = {}
        unmeasured: dict[str, str] = {}
        missed: list[str] = []
        module = operator.eval().to(device)
        with _threads(self.settings.threads), torch.inference_mode():
            for size in self.settings.sizes:
                needed = live_bytes(operator, self.map_shape(size))
                found = self._measure_size(module, size, needed, seed, device)
                if found is None:
                    unmeasured |= dict.fromkeys(_names(size), OOM)
                    missed.append(f"{needed / _GIB:.3g} GiB at {size}²")
                else:
                    metrics |= dict(zip(_names(size), found, strict=True))
        fitted = [size for size in self.settings.sizes if _names(size)[0] in metrics]
        metrics["largest"] = float(max(fitted, default=0))
        return Measured(
            metrics=metrics,
            unmeasured=unmeasured,
            notes=self._notes(name, device, missed),
            seconds=time.perf_counter() - began,
        )

    def _notes(self, name: str, device: torch.device, missed: list[str]) -> tuple[str, ...]:
        threads = self.settings.threads
        shared = "" if device.type == "cuda" else f", {threads} thread{'s' if threads > 1 else ''}"
        notes = [f"measured on {name}{shared}"]
        if device.type != "cuda" and busy():
            notes.append("the processor was busy with other programs, so that times are too long")
        if missed:
            limit = self.settings.memory_gb
            there = "more than is free" if limit is None else f"and measure.memory_gb is {limit:g}"
            notes.append(f"{OOM}: a pass holds {', '.join(missed)}, {there}")
        return tuple(notes)

    def _measure_size(
        self, module: nn.Module, size: int, needed: int, seed: int, device: torch.device
    ) -> tuple[float, float, float] | None:
        """(median ms, interquartile range in ms, MiB); None where it does not fit."""
        if needed > self._allowed(device):
            return None
        if device.type != "cuda":
            times_ms = self._times_ms(module, self._map(size, seed, device), _processor_ms)
            return *_median_and_spread(times_ms), needed / _MIB
        # Outside of `except`, whose traceback would hold the tensors of the pass.
        torch.cuda.empty_cache()
        try:
            # What libraries take at their first call and keep, such as cuBLAS its workspace, is no pass's.
            module(self._map(size, seed, device))
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            times_ms = self._times_ms(module, self._map(size, seed, device), _gpu_ms)
        except torch.OutOfMemoryError:
            return None
        return *_median_and_spread(times_ms), (torch.cuda.max_memory_allocated(device) - before) / _MIB

    def _times_ms(
        self, module: nn.Module, x_BCHW: Tensor, clock: Callable[[nn.Module, Tensor], float]
    ) -> list[float]:
        times = [clock(module, x_BCHW) for _ in range(self.settings.warmup + self.settings.repeats)]
        return times[self.settings.warmup :]

    def _map(self, size: int, seed: int, device: torch.device) -> Tensor:
        drawn = torch.Generator().manual_seed(seed)
        return torch.randn(self.map_shape(size), generator=drawn).to(device)

    def _allowed(self, device: torch.device) -> float:
        """Bytes that a pass may hold; a GPU refuses by itself what it has not got."""
        limit = float("inf") if self.settings.memory_gb is None else self.settings.memory_gb * _GIB
        return limit if device.type == "cuda" else min(limit, 0.9 * free_memory())

    def _check_device(self, device: torch.device) -> str:
        here = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        if self.settings.device not in (None, here):
            raise SettingError(
                f"measure.device is {self.settings.device!r}, but this trial runs on {here!r}; times belong "
                f"to one device: --set measure.device={here!r} measures here, and --gpus 0 or 1 chooses "
                "between processor and GPU"
            )
        return here


def _names(size: int) -> tuple[str, str, str]:
    return f"ms_{size}", f"spread_ms_{size}", f"memory_mb_{size}"


def _median_and_spread(times_ms: list[float]) -> tuple[float, float]:
    if len(times_ms) < 2:
        return times_ms[0], 0.0
    low, middle, high = statistics.quantiles(times_ms, n=4, method="inclusive")
    return middle, high - low


def _processor_ms(module: nn.Module, x_BCHW: Tensor) -> float:
    start = time.perf_counter()
    module(x_BCHW)
    return (time.perf_counter() - start) * 1e3


def _gpu_ms(module: nn.Module, x_BCHW: Tensor) -> float:
    begin: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    begin.record()
    module(x_BCHW)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads inside, as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
