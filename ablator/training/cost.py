"""What a trial costs: seconds, milliseconds a step, images a second, and peak memory."""

from __future__ import annotations

import resource
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import torch.distributed as dist

from ablator.contracts.protocols import World

_COLD = 3
"""Steps after each start that the median leaves out: allocators, autotuning and compilation warm up there."""
_KEPT = 1000
"""Latest step times that the median is over."""


class StepClock:
    """Times the device's work of each step, from the first micro-batch being there to the optimiser being
    done; time spent waiting for data is not in it. On a GPU it records events and never waits for them."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0
        self._closed_ms: list[float] = []
        self._closed_spans: list[list[tuple[torch.cuda.Event, torch.cuda.Event]]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside towards the current step."""
        if self._cuda:
            begin: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            begin.record()
            yield
            end.record()
            self._spans.append((begin, end))
        else:
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start

    def close_step(self) -> None:
        """End the current step."""
        if self._cuda:
            self._closed_spans.append(self._spans)
            self._spans = []
        else:
            self._closed_ms.append(self._seconds * 1e3)
            self._seconds = 0.0

    def drop_step(self) -> None:
        """Forget micro-steps that no optimiser step followed."""
        self._spans, self._seconds = [], 0.0

    def read_ms(self) -> list[float]:
        """Milliseconds of each step closed since the last call; the device must have finished them."""
        spans = [sum(begin.elapsed_time(end) for begin, end in step) for step in self._closed_spans]
        times, self._closed_ms, self._closed_spans = self._closed_ms + spans, [], []
        return times


class CostMeter:
    """Adds up a trial's cost; it goes on across kill and resume (work that was lost is not in it)."""

    def __init__(self, device: torch.device, world: World, resident_bytes: int = 0) -> None:
        self.clock = StepClock(device)
        self._device, self._world, self._resident_bytes = device, world, resident_bytes
        self._seconds = {"train": 0.0, "eval": 0.0}
        self._images = 0
        self._to_skip = _COLD
        self._steps_ms: deque[float] = deque(maxlen=_KEPT)
        self._cold_ms: deque[float] = deque(maxlen=_COLD)
        self._peak_mb = 0.0
        self._mark = time.perf_counter()
        _reset_peak_memory(device)

    def lap(self, bucket: str | None) -> None:
        """Put the seconds since the last lap into `bucket` (train, eval), or nowhere."""
        now = time.perf_counter()
        if bucket is not None:
            self._seconds[bucket] += now - self._mark
        self._mark = now

    def count_images(self, images: int) -> None:
        """`images` more went through this worker; every worker takes as many."""
        self._images += images * self._world.size

    def collect_steps(self) -> None:
        """Take over the clock's finished steps."""
        for duration_ms in self.clock.read_ms():
            if self._to_skip > 0:
                self._to_skip -= 1
                self._cold_ms.append(duration_ms)
            else:
                self._steps_ms.append(duration_ms)

    def result(self, updates: int) -> dict[str, float]:
        """The `cost` of a record (a collective call).

        train_seconds: everything between evaluations but checkpoints, waiting for data included.
        images_per_second: over train_seconds and all workers. step_ms: median over the last 1,000 steps,
        without the first three after a start where there are others. peak_memory_mb (2^20 bytes), the
        largest over workers: CUDA's allocated bytes less `resident_bytes`, or on CPU the process's
        high-water mark during the trial, interpreter and libraries included.
        """
        train = self._seconds["train"]
        steps_ms = self._steps_ms or self._cold_ms
        return {
            "train_seconds": train,
            "eval_seconds": self._seconds["eval"],
            "images_per_second": self._images / train if train > 0 else 0.0,
            "step_ms": statistics.median(steps_ms) if steps_ms else 0.0,
            "peak_memory_mb": self._largest(self._current_peak_mb()),
            "steps": updates,
        }

    def state(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {
            "seconds": dict(self._seconds),
            "images": self._images,
            "steps_ms": list(self._steps_ms),
            "cold_ms": list(self._cold_ms),
            "peak_mb": self._current_peak_mb(),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """The inverse of `state`."""
        seconds, images, peak_mb = state["seconds"], state["images"], state["peak_mb"]
        steps_ms, cold_ms = state["steps_ms"], state["cold_ms"]
        assert isinstance(seconds, dict)
        assert isinstance(images, int)
        assert isinstance(peak_mb, float)
        assert isinstance(steps_ms, list)
        assert isinstance(cold_ms, list)
        self._seconds, self._images, self._peak_mb = dict(seconds), images, peak_mb
        self._steps_ms.extend(steps_ms)
        self._cold_ms.extend(cold_ms)

    def _current_peak_mb(self) -> float:
        own = _peak_memory_bytes(self._device) - self._resident_bytes
        return max(self._peak_mb, own / 2**20)

    def _largest(self, value: float) -> float:
        if self._world.size == 1:
            return value
        held = torch.tensor(value, dtype=torch.float32, device=self._device)
        dist.all_reduce(held, op=dist.ReduceOp.MAX)
        return float(held)


def _reset_peak_memory(device: torch.device) -> None:
    """Start a new high-water mark, so that a long-lived process measures this trial only. Linux resets
    VmHWM on writing 5 to clear_refs; where that is not allowed the mark stays the process's own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
