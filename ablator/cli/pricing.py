"""A plan's sizes and costs, from models that are built without memory and from what was measured before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ablator import data
from ablator.contracts.record import Record
from ablator.errors import StoreError, UserError
from ablator.plan.cost import epochs_worth, estimate, measured_rate
from ablator.plan.planning import Plan
from ablator.report.planned import Priced
from ablator.results.store import Store

if TYPE_CHECKING:
    from ablator.assembly.check import Size

_SAMPLED_RECORDS = 200
"""Records of other studies in which a plan looks for a measured rate."""


def priced_plans(plans: Sequence[Plan], store: Store, sized: bool) -> list[list[Priced]]:
    """`priced_trials` of every plan; a model that several have is built once."""
    models: dict[str, Size] = {}
    found = []
    for planned in plans:
        try:
            found.append(priced_trials(planned, store, sized, models))
        except UserError as error:
            if len(plans) == 1:
                raise
            raise type(error)(f"{planned.study.file}: {error}") from error
    return found


def priced_trials(
    planned: Plan, store: Store, sized: bool, models: dict[str, Size] | None = None
) -> list[Priced]:
    """The plan's trials in order, with what each will cost; without sizes where `sized` is false; `models`
    as for `preflight`. Raises what `preflight` and the ledger raise."""
    trials = planned.unique()
    records = store.ledger.load(trials)
    if not sized:
        return [Priced(trial=trial, cached=trial.identity in records) for trial in planned.trials]
    # Loads torch, which a plan without sizes does not need.
    from ablator.assembly.preflight import preflight

    report = planned.study.report
    sizes = preflight(
        trials.values(),
        workers=1,
        metric=report.metric,
        columns=report.columns,
        weights=False,
        models=models,
    )
    trained = [trial for trial in planned.trials if trial.spec.trains]
    rate = measured_rate(_measured(store, records), trained[0].spec) if trained else None
    priced = []
    for trial in planned.trials:
        size = sizes[trial.identity]
        cost = None
        if trial.spec.trains:
            images = data.info(trial.spec.data).train_size
            cost = estimate(size.gmacs, images, epochs_worth(trial.spec), rate)
        priced.append(
            Priced(
                trial=trial,
                cached=trial.identity in records,
                parameters=size.parameters,
                gmacs=size.gmacs,
                cost=cost,
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
