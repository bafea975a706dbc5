"""What commands tell programs: one JSON object each. Of several studies the sums, with each of them under
`studies`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablator.cli.output import ACCOUNT

if TYPE_CHECKING:
    from ablator.plan.planning import Plan
    from ablator.report.filling import FillingRow, FillingSearch
    from ablator.report.planned import Priced
    from ablator.report.table import Account
    from ablator.results.standing import Standing
    from ablator.tables import Bound, Results, Summary
    from ablator.watching import State


def print_json(value: Mapping[str, Any]) -> None:
    """The command's result as the last line of standard output."""
    print(json.dumps(value, default=str, allow_nan=False), flush=True)


def plan_json(planned: Plan, priced: Sequence[Priced], starts: Sequence[Priced] = ()) -> dict[str, Any]:
    """The plan with a line for every trial, and for every trial that one starts from."""
    from ablator.plan.cost import total
    from ablator.plan.matrix import matrix

    one_each = {item.trial.identity: item for item in priced}
    costs = [item.cost for item in one_each.values() if not item.cached and item.cost is not None]
    cost = total(costs) if costs else None
    return {
        "study": planned.study.study,
        "profile": planned.profile,
        "planned": len(one_each),
        "cached": sum(item.cached for item in one_each.values()),
        "pflop": cost.pflop if cost else None,
        "seconds": cost.seconds if cost else None,
        "searches": [
            {
                "label": search.label,
                "samples": search.samples,
                "sampler": search.sampler,
                "seeds": list(search.seeds),
                "cells": search.space.cells(),
            }
            for search in planned.searches
        ],
        "design": dataclasses.asdict(matrix(planned)),
        "interactions": [dataclasses.asdict(one) for one in planned.interactions],
        "notes": list(planned.notes),
        "trials": [_trial_json(item) for item in priced],
        "starts": [{"study": item.study, **_trial_json(item)} for item in starts],
    }


def _trial_json(item: Priced) -> dict[str, Any]:
    return {
        "identity": item.trial.identity,
        "label": item.trial.label,
        "seed": item.trial.seed,
        "changes": item.trial.changes,
        "cached": item.cached,
        "parameters": item.parameters,
        "gmacs": item.gmacs,
        "pflop": item.cost.pflop if item.cost else None,
        "seconds": item.cost.seconds if item.cost else None,
    }


def plans_json(
    plans: Sequence[Plan], priced: Sequence[Sequence[Priced]], starts: Sequence[Sequence[Priced]]
) -> dict[str, Any]:
    """One plan as `plan_json`; of several the sums over their different trials, with each under `studies`."""
    each = [plan_json(*one) for one in zip(plans, priced, starts, strict=True)]
    if len(each) == 1:
        return each[0]
    found = {item.trial.identity: item for items in priced for item in items}
    whole = plan_json(plans[0], list(found.values()))
    asked = sum(one["planned"] for one in each)
    return {
        "planned": asked,
        "shared": asked - len(found),
        **{key: whole[key] for key in ("cached", "pflop", "seconds")},
        "studies": each,
    }


def run_json(found: Bound) -> dict[str, Any]:
    """A run as numbers; of several studies the sums, with each of them under `studies`."""
    each = [{**_summary_json(results), **where_json(results)} for results in found.results]
    if len(each) == 1:
        return each[0]
    left = sum(results.mirror_left for results in found.results)
    return {**_counts_json(found.summary), "mlflow_left": left, **_bound_json(found), "studies": each}


def report_json(found: Bound) -> dict[str, Any]:
    """Accounts without what a run tells; of several studies the sums, with each of them under `studies`."""
    each = [
        {**where_json(results), **_account_json(results.table.account), "complete": whole(results)}
        for results in found.results
    ]
    if len(each) == 1:
        return each[0]
    return {**_bound_json(found), **_sums(each), "complete": all(map(whole, found.results)), "studies": each}


def _account_json(account: Account) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(account).items() if key != "cached"}


def _sums(each: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts = ("planned", "completed", "failed", "diverged", "pruned", "missing")
    return {key: sum(one[key] for one in each) for key in counts}


def _bound_json(found: Bound) -> dict[str, Any]:
    return {"table": str(found.files["tables.md"]), "page": str(found.files["page.html"])}


def whole(results: Results) -> bool:
    """Whether the table has no hole, and every sample of every search its result."""
    asked = sum(search.samples for search in results.plan.searches)
    there = sum(table.samples for table in results.table.searches)
    failed = any(point.status == "failed" for table in results.table.searches for point in table.points)
    return results.table.complete and there == asked and not failed


def states_json(states: Mapping[str, State]) -> dict[str, Any]:
    """One state as numbers; of several the sums, with each of them under `studies`."""
    each = [
        {
            **_account_json(state.account),
            "running": [{"label": label, "seed": seed} for label, seed in state.running],
            "samples": {label: list(counts) for label, counts in state.samples.items()},
            "waiting": state.waiting,
            "live": _live_json(state.live),
            "rows": [_line_json(row) for row in state.filling.rows()],
            "searches": [_line_json(search) for search in state.filling.searches()],
        }
        for state in states.values()
    ]
    if len(each) == 1:
        return each[0]
    named = [{"study": name, **one} for name, one in zip(states, each, strict=True)]
    return {**_sums(each), "waiting": sum(one["waiting"] for one in each), "studies": named}


def _live_json(said: Standing | None) -> dict[str, Any] | None:
    if said is None:
        return None
    return {**dataclasses.asdict(said), "age": round(said.age(), 3), "stale": said.stale()}


def _line_json(line: FillingRow | FillingSearch) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(line).items() if key != "latest"}


def where_json(results: Results) -> dict[str, Any]:
    """Which study it is, and where its files are."""
    return {
        "study": results.plan.study.study,
        "profile": results.plan.profile,
        "table": str(results.files["table.md"]),
        "page": str(results.files["page.html"]),
    }


def _summary_json(results: Results) -> dict[str, Any]:
    return {**_counts_json(results.summary), "mlflow_left": results.mirror_left}


def _counts_json(summary: Summary) -> dict[str, Any]:
    return {**{key: getattr(summary, key) for key in ACCOUNT}, "seconds": round(summary.seconds, 3)}
