"""A planned trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

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
