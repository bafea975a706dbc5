"""A planned trial, and the trials of other studies that it starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ablator.contracts.events import Ticket
from ablator.data.settings import DataSettings
from ablator.plan.spec import TrialSpec

Fingerprint = Callable[[DataSettings], str]
"""What lies at the data's place, as a hash."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One arm with one seed, and in a search one point."""

    identity: str
    """Content hash of spec and data: trials with the same one are trained once."""
    arm: int
    """Index of the row that it belongs to."""
    label: str
    """The row's label."""
    seed: int
    spec: TrialSpec
    changes: dict[str, Any]
    """What it changes in the baseline: dotted key to value, as trained."""
    start: Start | None = None
    """The trial whose weights it starts from, where `model.weights` names a study."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """A trial that others start from."""

    trial: Trial
    study: str
    """Name of its study."""
    file: str
    """Its study's file."""

    def text(self) -> str:
        """Which trial it is, in words."""
        return start_text(self.study, self.trial.label, self.trial.seed)


def start_text(study: str, label: str, seed: int) -> str:
    """A trial of a study in words."""
    return f"{label} · seed {seed} of {study}"


def ticket_of(trial: Trial, *, keep_weights: bool = False) -> Ticket:
    """What a slot needs of a planned trial."""
    start = trial.start
    return Ticket(
        identity=trial.identity,
        spec=trial.spec.to_json(),
        label=trial.label,
        seed=trial.seed,
        keep_weights=keep_weights,
        start_study="" if start is None else start.study,
        start_label="" if start is None else start.trial.label,
    )
