"""Sequential seeds of a study: which trials a store's records ask for, round by round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator import api
from ablator.contracts.events import Event
from ablator.contracts.record import Record
from ablator.plan.planning import Plan
from ablator.plan.trial import Trial
from ablator.results.read_once import ReadOnce
from ablator.results.store import Store
from ablator.rounds import Rounds, asked, asked_in

NOISE = (0.3, -0.2, 0.1, 0.4, -0.3, 0.2)
"""Of the seeds, added to every row."""
WOBBLE = (0.0, 0.9, -0.7, 0.9, -0.2, 0.3)
"""Of the seeds, added to the row that is never decided."""


@pytest.fixture
def planned(tmp_path: Path, write_study: Callable[..., Path]) -> Plan:
    study = write_study(
        tmp_path,
        "rounds",
        [{"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}}],
        seeds={"min": 3, "max": 6, "until": "resolved"},
    )
    return api.plan(study)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def outcome(trial: Trial, status: str = "completed") -> Record:
    """n = 2 is better beyond doubt, and n = 4 perhaps."""
    value = 80.0 + NOISE[trial.seed]
    value += {"DeiT": 0.0, "n = 2": 4.0 + 0.01 * trial.seed, "n = 4": 0.6 + WOBBLE[trial.seed]}[trial.label]
    metrics = {"top1": value} if status == "completed" else {}
    error = None if status == "completed" else "on purpose"
    return Record(identity=trial.identity, spec={}, status=status, metrics=metrics, error=error)  # type: ignore[arg-type]


def run(planned: Plan, store: Store, failing: frozenset[tuple[str, int]] = frozenset()) -> list[list[str]]:
    """Train everything that the rounds ask for; what each round was."""
    events: list[Event] = []
    rounds = Rounds(planned, store, events.append)
    trials = planned.unique()
    found: list[list[str]] = []
    while not rounds.exhausted:
        batch = []
        while (ticket := rounds.ask()) is not None:
            batch.append(ticket)
        if not batch:
            break
        found.append([f"{ticket.label} {ticket.seed}" for ticket in batch])
        for ticket in batch:
            trial = trials[ticket.identity]
            record = outcome(trial, "failed" if (trial.label, trial.seed) in failing else "completed")
            store.ledger.commit(record)
            rounds.tell(record)
    assert rounds.exhausted
    assert [event.trials for event in events] == [len(batch) for batch in found[1:]]
    return found


def test_rounds_go_on_for_open_rows_and_their_baseline(planned: Plan, store: Store) -> None:
    rounds = run(planned, store)
    assert rounds[0] == [f"{label} {seed}" for label in ("DeiT", "n = 2", "n = 4") for seed in range(3)]
    assert rounds[1:] == [[f"DeiT {seed}", f"n = 4 {seed}"] for seed in range(3, 6)]
    assert run(planned, store) == [], "a second run has nothing to do"


def test_the_table_is_of_what_was_asked_for(planned: Plan, store: Store) -> None:
    run(planned, store)
    results = api.report(planned.study, store=store)
    assert [row.n for row in results.table.rows] == [6, 3, 6]
    assert results.table.complete
    assert results.table.account.planned == 15 == len(results.plan.trials)
    assert results.table.spending.decided_trials == 3
    commands = {row.label: row.command for row in results.table.spec.rows}
    assert commands["n = 2"].endswith("--set seeds=3 --row 'n = 2'"), (
        "that row alone, with the seeds that it has"
    )
    assert "seeds=" not in results.table.spec.command
    assert api.status(planned.study, store=store).account.missing == 0


def test_trials_that_lie_there_change_neither_rounds_nor_table(
    planned: Plan, store: Store, tmp_path: Path
) -> None:
    full = Store.open(tmp_path / "full")
    for trial in planned.trials:
        full.ledger.commit(outcome(trial))
    assert run(planned, full) == []
    run(planned, store)
    tables = [api.report(planned.study, store=one).table for one in (store, full)]
    assert tables[0].rows == tables[1].rows


def test_a_store_that_was_left_in_the_middle_goes_on_with_the_missing_trials(
    planned: Plan, store: Store
) -> None:
    for trial in planned.trials:
        if trial.seed < 3 and (trial.label, trial.seed) != ("n = 2", 1):
            store.ledger.commit(outcome(trial))
    assert [t.seed for t in asked_in(planned, ReadOnce(store.ledger)).trials] == [0, 1, 2] * 3
    holes = api.report(planned.study, store=store).table
    assert not holes.complete, "an unfinished round shows its hole"
    rounds = run(planned, store)
    assert rounds[0] == ["n = 2 1"]
    assert rounds[1] == ["DeiT 3", "n = 4 3"]


def test_a_failed_trial_is_not_asked_for_twice_in_a_run_but_in_the_next(planned: Plan, store: Store) -> None:
    failing = frozenset({("n = 2", 1)})
    rounds = run(planned, store, failing)
    asked_for = [one for batch in rounds for one in batch]
    assert asked_for.count("n = 2 1") == 1
    assert "n = 2 3" in asked_for, "a row with a failed seed goes on to its next one"
    again = run(planned, store)
    assert again[0] == ["n = 2 1"]


def test_a_row_that_diverged_gets_no_more_seeds(planned: Plan, store: Store) -> None:
    diverged = {
        trial.identity: outcome(trial, "diverged" if trial.label == "n = 4" else "completed")
        for trial in planned.trials
    }
    found = asked(planned, diverged)
    assert {trial.seed for trial in found.trials} == {0, 1, 2}


@pytest.mark.slow
def test_a_run_through_ray_trains_the_rounds_and_nothing_twice(
    tmp_path: Path, cli: Callable[..., Any], write_study: Callable[..., Path]
) -> None:
    # A profile's fixed seeds are a larger study of the same rows.
    study = write_study(
        tmp_path,
        "sequential",
        [
            {"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}},
            {"label": "too fast", "set": {"train.lr": 1e30}},
        ],
        seeds={"min": 2, "max": 4, "until": "resolved"},
        profiles={"fixed": {"seeds": 4}},
    )
    store = tmp_path / "store"
    first = cli("run", study, "--store", store, "--json")
    assert first.code == 0
    account = first.json
    table = api.report(study, store=store).table
    seeds = {row.label: len(row.cells) for row in table.rows}
    assert seeds["too fast"] == 2, "a diverged row is closed"
    assert account["planned"] == sum(seeds.values()) == account["trained"]
    assert account["completed"] + account["diverged"] == account["planned"]
    again = cli("run", study, "--store", store, "--json").json
    assert (again["trained"], again["cached"]) == (0, account["planned"])
    fixed = cli("run", study, "--store", store, "--json", "--profile", "fixed").json
    assert fixed["cached"] == account["planned"]
    assert fixed["planned"] == 16
    after = cli("report", study, "--store", store, "--json").json
    assert after["planned"] == account["planned"], "more seeds in the ledger are not looked at"
    rows = api.report(study, store=store).table.rows
    assert [row.comparison for row in rows] == [row.comparison for row in table.rows]
