"""A plan's sizes and costs, from models that are built without memory and from what was measured before."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ablator import data
from ablator.contracts.record import Record
from ablator.errors import StoreError, UserError
from ablator.needs import needs_of, starts_of
from ablator.plan.cost import epochs_worth, estimate, measured_rate
from ablator.plan.planning import Plan
from ablator.report.planned import Priced
from ablator.results.store import Store

if TYPE_CHECKING:
    from ablator.assembly.check import Size

_SAMPLED_RECORDS = 200
"""Records of other studies in which a plan looks for a measured rate."""


def priced_plans(
    plans: Sequence[Plan], store: Store, sized: bool
) -> tuple[list[list[Priced]], list[list[Priced]]]:
    """`priced_trials` and `priced_starts` of every plan; a model that several have is built once."""
    models: dict[str, Size] = {}
    found: list[list[Priced]] = []
    starts: list[list[Priced]] = []
    for planned in plans:
        try:
            found.append(priced_trials(planned, store, sized, models))
            done = {item.trial.identity for item in found[-1] if item.cached}
            starts.append(priced_starts(planned, done, store, sized, models))
        except UserError as error:
            if len(plans) == 1:
                raise
            raise type(error)(f"{planned.study.file}: {error}") from error
    return found, starts


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
    return [
        _priced(Priced(trial=trial, cached=trial.identity in records), sizes[trial.identity], rate)
        for trial in planned.trials
    ]


def priced_starts(
    planned: Plan, done: Collection[str], store: Store, sized: bool, models: dict[str, Size]
) -> list[Priced]:
    """What the plan's trials that are not `done` start from, whether its weights are kept, and what training
    it will cost; `sized` and `models` as for `priced_trials`."""
    todo = [trial for trial in planned.trials if trial.identity not in done]
    direct = starts_of(todo, planned.searches)
    needs = needs_of(direct.values(), store)
    starts = {identity: need.start for identity, need in needs.items()} | direct
    records = store.ledger.load(starts)
    found = [
        Priced(trial=s.trial, cached=i not in needs, study=s.study, recorded=i in records)
        for i, s in starts.items()
    ]
    if not sized or not found:
        return found
    from ablator.assembly.preflight import preflight

    sizes = preflight([start.trial for start in starts.values()], workers=1, weights=False, models=models)
    rate = measured_rate(_measured(store, records), found[0].trial.spec)
    return [_priced(item, sizes[item.trial.identity], rate) for item in found]


def _priced(item: Priced, size: Size, rate: float | None) -> Priced:
    """With its size and cost."""
    spec, cost = item.trial.spec, None
    if spec.trains:
        cost = estimate(size.gmacs, data.info(spec.data).train_size, epochs_worth(spec), rate)
    return dataclasses.replace(item, parameters=size.parameters, gmacs=size.gmacs, cost=cost)


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
