"""How trials are executed; it loads nothing, so that whoever only passes these settings on starts fast."""

from __future__ import annotations

import dataclasses
import os

from ablator.errors import SettingError

_DEVICE = "ABLATOR_DEVICE"


def on_cpu_anyway() -> bool:
    """Whether the variable ABLATOR_DEVICE says `cpu`: workers then train there, whatever Ray gives them, so
    that a layout of GPUs can be tried where there are none. Raises SettingError for another word."""
    named = os.environ.get(_DEVICE)
    if named not in (None, "", "cpu"):
        raise SettingError(f"{_DEVICE}={named}: it is cpu or not set; Ray says which GPU a worker has")
    return bool(named)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """How trials are executed on this machine. Nothing here changes what a trial means."""

    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints within a trial."""
    loader_workers: int = 0
    """Processes that decode images, per training worker."""
    compile: bool = False
    """Compile models with torch.compile."""
    keep_weights: bool = False
    """Keep the final weights of every trial that is trained to its end, in the store's `weights/`."""
    stall_seconds: float = 1800.0
    """A trial without a batch for so long hangs: its worker is ended and the trial started again from its
    checkpoint. 0: never."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotSettings:
    """What a slot's workers must know once."""

    store: str
    """The store: a path under which every machine of the cluster sees it, or its address."""
    execution: Execution
    threads: int
    """Torch threads per worker."""
    slots_per_gpu: int = 1
    """Slots that share a GPU, for records."""
    run: str = ""
    """Names this run, so that a record can say that an earlier one had begun its trial."""
    trials_per_life: int = 500
    """Trials after which the processes are replaced, so that no leak of a library can fill a machine."""
