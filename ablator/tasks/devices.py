"""What the processor and the GPU of this machine are called, without torch: plans ask for it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_PROCESSOR = Path("/proc/cpuinfo")
_MEMORY = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")
_CROWDED = 1.5
"""Load per core from which times are not the operator's alone; a measurement itself makes at most 1."""


def this_device() -> str:
    """The GPU that trials would run on, as CUDA calls it; without one the processor."""
    return _gpu() or processor()


def processor() -> str:
    """The processor's model, or its architecture where the system does not say more."""
    return _line(_PROCESSOR, "model name") or platform.processor() or platform.machine()


def free_memory() -> int:
    """Bytes that a process may still take, of the machine and of its container."""
    said = _line(_MEMORY, "MemAvailable")
    free = int(said.split()[0]) * 1024 if said else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = _CONTAINER / "memory.max", _CONTAINER / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return max(0, free)


def busy() -> bool:
    """Whether, in the last minute, more wanted to run on the processor than it has room for."""
    return os.getloadavg()[0] > _CROWDED * len(os.sched_getaffinity(0))


def _gpu() -> str | None:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    found = [_line(file, "Model") for file in sorted(_DRIVER.glob("*/information"))]
    return next((name for name in found if name), None)


def _line(file: Path, key: str) -> str | None:
    """The value of the first line `key: value` of a file; None without one."""
    if not file.exists():
        return None
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip() or None
    return None
