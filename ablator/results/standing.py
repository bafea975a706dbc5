"""Where a run stands, as its driver last said: a small file in the store, which any machine that sees the
store can read while the run goes on.

It is no promise, and nothing depends on it: what is finished is in the ledger alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
from typing import Any

from ablator.contracts.secrets import scrubbed_plain
from ablator.results.durable import canonical_json
from ablator.results.files import Spot

FORMAT = 1
STALE_SECONDS = 120.0
"""A driver that has said nothing for so long may have died; a living one speaks every few seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A trial that is being trained."""

    identity: str
    label: str
    """The row's label."""
    seed: int
    slot: int
    """-1 where it is not known."""
    epoch: int
    """Epochs that are done."""
    epochs: int
    """Of how many; 0 where the trial has not said it yet."""
    value: float | None
    """The study's metric at the last evaluation; None before the first."""
    seconds: float
    """Since it was started."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run stands. Times are unix seconds, counts and time left those of the whole run, which may be
    of several studies; `running` has the trials of one of them, and what it waits for."""

    host: str
    pid: int
    started: float
    updated: float
    studies: int
    """How many studies the run is of."""
    metric: str
    slots: int
    """0 until Ray and its workers are there."""
    joined: bool
    """Whether the run joined a cluster."""
    elapsed: float
    """Seconds since the run began."""
    planned: int
    """Different trials, and samples of searches at most."""
    done: int
    """Of these the ones with an outcome, the cached ones included."""
    cached: int
    """Of these the ones that the ledger had when the run began."""
    failed: int
    diverged: int
    pruned: int
    eta: float | None
    """Estimated seconds to the end; None before anything is known."""
    running: tuple[RunningTrial, ...] = ()

    def age(self) -> float:
        """Seconds since the driver said this. Clocks of two machines may differ; it is never negative."""
        return max(0.0, time.time() - self.updated)

    def stale(self) -> bool:
        """Whether the driver has been silent for longer than a living one is."""
        return self.age() > STALE_SECONDS


def own_name() -> tuple[str, int]:
    """Host and process as a standing names them."""
    return socket.gethostname(), os.getpid()


def write_standing(spot: Spot, standing: Standing) -> None:
    """Say it there, whole or not at all. Nothing happens where it cannot be written: no run is lost
    because nobody can watch it."""
    with contextlib.suppress(OSError):
        said = scrubbed_plain({"format": FORMAT, **dataclasses.asdict(standing)})
        spot.files.write(spot.name, canonical_json(said), synced=False, patience=0.0)


def read_standing(spot: Spot) -> Standing | None:
    """What is said there; None where nothing is, or nothing that this version understands."""
    try:
        found: dict[str, Any] = json.loads(spot.files.read(spot.name))
        if found.pop("format") != FORMAT:
            return None
        running = tuple(RunningTrial(**trial) for trial in found.pop("running"))
        return Standing(**found, running=running)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def remove_standing(spot: Spot) -> None:
    """Take back what this process said there; what another one says stays."""
    said = read_standing(spot)
    if said is not None and (said.host, said.pid) == own_name():
        with contextlib.suppress(OSError):
            spot.files.remove(spot.name)
