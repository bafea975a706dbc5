"""Training a finished trial once more, for its weights alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from ablator.contracts.events import Ticket
from ablator.contracts.protocols import World
from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.plan.trial import Trial
from ablator.results.durable import explained, make_directory
from ablator.results.store import Store
from ablator.worker.trial import Execution, TrialRunner


def retrain(trial: Trial, record: Record, store: Store, metric: str, device: torch.device) -> str:
    """Train `trial` from its beginning in a store of its own and keep its weights in `store`, whose `record`
    stays as it is. Returns the metric of both trainings in words; on CPU, with the same versions and threads,
    they are equal. Raises StoreError where it fails this time."""
    scratch = store.root / "scratch"
    make_directory(scratch)
    with tempfile.TemporaryDirectory(prefix="retrain-", dir=scratch) as folder:
        apart = Store.open(Path(folder))
        runner = TrialRunner(apart, Execution(keep_weights=True), world=World(), device=device)
        ticket = Ticket(
            identity=trial.identity, spec=trial.spec.to_json(), label=trial.label, seed=trial.seed
        )
        again = runner.run(ticket, attempts=1, on_progress=lambda progress: True)
        assert again is not None, "nobody stopped it"
        if again.status != "completed":
            raise StoreError(
                f"{trial.label}, seed {trial.seed}, was {record.status} and is {again.status} when trained "
                f"again: {again.error}"
            )
        to = store.weights(trial.identity)
        with explained("write", to):
            make_directory(to.parent)
            shutil.move(apart.weights(trial.identity), to)
    return f"{metric} {again.metrics[metric]:.2f} (recorded: {record.metrics[metric]:.2f})"
