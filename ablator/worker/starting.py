"""What a trial starts from, out of the store: the weights that a trial of another study trained."""

from __future__ import annotations

from ablator.backbones.starting import TrialWeights
from ablator.backbones.weights import trial_identity
from ablator.contracts.events import Ticket
from ablator.errors import WeightsError
from ablator.plan.spec import TrialSpec
from ablator.plan.trial import start_text
from ablator.results.store import Store
from ablator.training.kept import kept_weights

_METRIC = "top1"
"""Plain weights are taken, not their average, as from checkpoint files."""


def trial_weights(spec: TrialSpec, ticket: Ticket, store: Store) -> TrialWeights | None:
    """The weights that the ticket's trial, of this spec, starts from; None where it starts from no trial.

    Raises WeightsError that says what became of that trial where it left no weights, and StoreError where
    they are damaged.
    """
    identity = trial_identity(spec.model.weights) if spec.trains else None
    if identity is None:
        return None
    study, label = ticket.start_study, ticket.start_label
    trial = start_text(study, label, spec.seed) if study else f"the trial {identity[:12]}"
    state = kept_weights(store.bring(store.weights(identity)), identity, _METRIC)
    if state is None:
        raise WeightsError(f"it starts from {trial}, which {_became(identity, store)}")
    if study:
        # One footnote for all seeds, and for all rows that start from their namesakes.
        row = "the same row and seed" if label == ticket.label else f"{label!r} with the same seed"
        trial = f"the trial of {row} of {study}"
    return TrialWeights(state=state, origin=trial)


def _became(identity: str, store: Store) -> str:
    record = store.ledger.get(identity) or store.ledger.failure(identity)
    if record is None:
        return "is not trained; run again"
    if record.status == "completed":
        place = store.at(store.weights(identity))
        return f"left no weights at {place}; run again to train it once more for them"
    if record.error is None:
        return f"was {record.status} before its end; run again"
    why = record.error.strip().splitlines()[-1]
    return f"{'failed' if record.status == 'failed' else 'diverged'}: {why}"
