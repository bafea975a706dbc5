"""Training a finished trial once more, for its weights alone."""

from __future__ import annotations

import torch

from ablator.contracts.protocols import World
from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.plan.trial import Trial, ticket_of
from ablator.results.store import Store
from ablator.worker.execution import Execution
from ablator.worker.trial import TrialRunner


def retrain(trial: Trial, record: Record, store: Store, metric: str, device: torch.device) -> str:
    """Train `trial` from its beginning and keep its weights in `store`, whose `record` stays as it is.
    Returns the metric of both trainings in words; on CPU, with the same versions and threads, they are equal.
    Raises StoreError where it fails this time."""
    runner = TrialRunner(store, Execution(), world=World(), device=device)
    again = runner.run(ticket_of(trial, keep_weights=True), attempts=1, on_progress=lambda progress: True)
    assert again is not None, "nobody stopped it"
    if again.status != "completed":
        raise StoreError(
            f"{trial.label}, seed {trial.seed}, was {record.status} and is {again.status} when trained "
            f"again: {again.error}"
        )
    return f"{metric} {again.metrics[metric]:.2f} (recorded: {record.metrics[metric]:.2f})"
