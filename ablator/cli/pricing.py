"""A plan's sizes and costs, from models that are built without memory and from what was measured before."""

from __future__ import annotations

from collections.abc import Mapping

from ablator import data
from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.plan.cost import estimate, measured_rate
from ablator.plan.planning import Plan
from ablator.report.planned import Priced
from ablator.results.store import Store

_SAMPLED_RECORDS = 200
"""Records of other studies in which a plan looks for a measured rate."""


def priced_trials(planned: Plan, store: Store, sized: bool) -> list[Priced]:
    """The plan's trials in order, with what each will cost; without sizes where `sized` is false. Raises
    what `preflight` and the ledger raise."""
    trials = planned.unique()
    records = store.ledger.load(trials)
    if not sized:
        return [Priced(trial=trial, cached=trial.identity in records) for trial in planned.trials]
    # Loads torch, which a plan without sizes does not need.
    from ablator.assembly.preflight import preflight

    sizes = preflight(trials.values(), workers=1, metric=planned.study.report.metric, weights=False)
    rate = measured_rate(_measured(store, records), planned.trials[0].spec) if planned.trials else None
    priced = []
    for trial in planned.trials:
        size = sizes[trial.identity]
        images = data.info(trial.spec.data).train_size
        priced.append(
            Priced(
                trial=trial,
                cached=trial.identity in records,
                parameters=size.parameters,
                gmacs=size.gmacs,
                cost=estimate(size.gmacs, images, trial.spec.train.epochs, rate),
            )
        )
    return priced


def _measured(store: Store, own: Mapping[str, Record]) -> list[Record]:
    """Records that may tell how fast this study trains: its own, or else some of other studies."""
    if own:
        return list(own.values())
    found = []
    for identity in sorted(store.ledger.identities())[:_SAMPLED_RECORDS]:
        try:
            record = store.ledger.get(identity)
        except StoreError:
            continue  # Another study's damage; that study's own commands name it.
        found += [record] if record is not None else []
    return found
