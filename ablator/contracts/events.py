"""What a running sweep tells whoever watches it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

Kind = Literal["slots", "started", "epoch", "finished", "retried", "note", "round", "costs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened. `slots`, `note`, `round` and `costs` have no trial."""

    kind: Kind
    identity: str = ""
    label: str = ""
    """The arm's label."""
    seed: int = 0
    slot: int = -1
    """Which slot; -1 where none."""
    epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    status: str = ""
    """Of `finished`: completed, failed, diverged, pruned."""
    text: str = ""
    """What to say, for `note`, `round`, `retried` and failures."""
    trials: int = 0
    """Of `round`: how many trials are planned in addition."""
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Of `costs`: what trials that will be started are estimated to cost, in their order, in one unit."""


OnEvent = Callable[[Event], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a slot needs to run one trial. Plain JSON, so that it can be written down."""

    identity: str
    spec: dict[str, object]
    label: str
    seed: int
    keep_weights: bool = False
    """Whether its final weights are kept. A trial that has a record and no weights is then trained again for
    them; its record stays."""
    start_study: str = ""
    """Name of the study whose trial it starts from; empty where it starts from none."""
    start_label: str = ""
    """That trial's row; its seed is this one's."""
