"""Optuna as a source of trials, over a real journal and ledger, without Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.contracts.record import Record
from ablator.errors import ClusterError
from ablator.plan.planning import Plan
from ablator.plan.planning import plan as make_plan
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import ticket_of
from ablator.results.leases import Leases
from ablator.results.store import Store
from ablator.scheduling.queue import TrialQueue
from ablator.scheduling.search import OptunaSource, settled
from ablator.scheduling.sweep import Phase, SweepSettings, sweep
from ablator.study.loading import load

SPACE = {
    "dimensions": {
        "moto.n": {"kind": "categorical", "choices": [2, 4, 8]},
        "moto.partition": {"kind": "categorical", "choices": ["soft", "hard"]},
    }
}


@pytest.fixture
def planned(tmp_path: Path, write_study: Callable[..., Path]) -> Callable[..., Plan]:
    """`planned(sampler=..., samples=...)`: a study whose one arm is a search."""

    def make(**arm: Any) -> Plan:
        seeds = arm.pop("seeds", 1)
        path = write_study(
            tmp_path,
            "searching",
            [{"label": "best", "design": "search", "space": SPACE, "samples": 24, **arm}],
            seeds=seeds,
        )
        return make_plan(load(path), fingerprint=lambda _: "data")

    return make


def value_of(identity: str) -> float:
    return int(identity[:4], 16) / 655.36


def record(identity: str, spec: dict[str, Any], status: str = "completed") -> Record:
    if status == "completed":
        return Record(identity=identity, status="completed", spec=spec, metrics={"top1": value_of(identity)})
    return Record(identity=identity, status="diverged", spec=spec, error="loss is nan")


def source_of(search: SearchPlan, store: Store) -> OptunaSource:
    return OptunaSource(search, store.journal("s"), metric="top1", mode="max")


def drain(queue: TrialQueue, store: Store, limit: int = 10**6, status: str = "completed") -> int:
    """Play Tune: take up to `limit` trials and finish each at once. Returns how many were trained."""
    trained = 0
    while trained < limit:
        config = queue.suggest(f"t{trained}")
        if config == "FINISHED":
            break
        assert isinstance(config, dict), "nothing is running, so nothing is waited for"
        ticket = queue.ticket_of(f"t{trained}")
        assert ticket is not None
        store.ledger.commit(record(ticket.identity, dict(ticket.spec), status))
        queue.on_trial_complete(f"t{trained}", {"status": status})
        trained += 1
    return trained


def queue_of(
    store: Store, sources: list[Any], tickets: list[Any] | None = None, limit: int = 4
) -> TrialQueue:

    def outcome(ticket: Any, result: Any) -> Record:
        found = store.ledger.get(ticket.identity)
        assert found is not None
        return found

    return TrialQueue(
        tickets or [],
        sources,
        store=store,
        limit=limit,
        on_event=lambda e: None,
        outcome=outcome,
        leases=Leases(store),
    )


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2", "gp"])
def test_every_sampler_trains_a_cell_once(planned: Callable[..., Plan], tmp_path: Path, sampler: str) -> None:
    (search,) = planned(sampler=sampler).searches
    store = Store.open(tmp_path / "store")
    queue = queue_of(store, [source_of(search, store)])
    trained = drain(queue, store)
    assert trained <= 6, "there are six cells"
    assert trained + queue.answered == 24
    assert len(store.journal("s").read()) == 24
    assert settled(search, store.journal("s"), store.ledger)


def test_tpe_finds_the_best_cell(planned: Callable[..., Plan], tmp_path: Path) -> None:
    (search,) = planned(sampler="tpe").searches
    store = Store.open(tmp_path / "store")
    drain(queue_of(store, [source_of(search, store)]), store)
    tried = {sample.identities[0] for sample in store.journal("s").read()}
    every = {
        search.trial({"moto.n": n, "moto.partition": p}, 0).identity
        for n in (2, 4, 8)
        for p in ("soft", "hard")
    }
    assert max(map(value_of, tried)) == max(map(value_of, every))


def test_an_interrupted_search_draws_only_what_is_missing(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    (search,) = planned(sampler="random").searches
    store = Store.open(tmp_path / "store")
    first = drain(queue_of(store, [source_of(search, store)]), store, limit=3)
    drawn = store.journal("s").read()
    assert not settled(search, store.journal("s"), store.ledger)
    queue = queue_of(store, [source_of(search, store)])
    second = drain(queue, store)
    assert first + second <= 6
    after = store.journal("s").read()
    assert after[: len(drawn)] == drawn
    assert len(after) == 24
    assert second + queue.answered == 24, "the journal's points are told again, from the ledger"


def test_a_duplicate_of_a_running_trial_waits_for_it(planned: Callable[..., Plan], tmp_path: Path) -> None:
    (search,) = planned(sampler="random", samples=60).searches
    store = Store.open(tmp_path / "store")
    queue = queue_of(store, [source_of(search, store)], limit=100)
    running = {}
    while isinstance(config := queue.suggest(f"t{len(running)}"), dict):
        running[f"t{len(running)}"] = config["trial"]
    assert len(set(running.values())) == len(running) <= 6, "no cell runs twice at once"
    for trial_id in list(running):
        ticket = queue.ticket_of(trial_id)
        assert ticket is not None
        store.ledger.commit(record(ticket.identity, dict(ticket.spec)))
        queue.on_trial_complete(trial_id, {"status": "completed"})
    assert queue.suggest("last") == "FINISHED"
    assert queue.answered == 60 - len(running)


def test_every_seed_of_a_point_is_trained(planned: Callable[..., Plan], tmp_path: Path) -> None:
    (search,) = planned(samples=2, seeds=3, sampler="qmc").searches
    store = Store.open(tmp_path / "store")
    trained = drain(queue_of(store, [source_of(search, store)]), store)
    samples = store.journal("s").read()
    assert all(len(sample.identities) == 3 for sample in samples)
    assert trained == len({i for sample in samples for i in sample.identities})


def test_a_search_goes_on_past_divergences(planned: Callable[..., Plan], tmp_path: Path) -> None:
    (search,) = planned(sampler="tpe").searches
    store = Store.open(tmp_path / "store")
    trained = drain(queue_of(store, [source_of(search, store)]), store, status="diverged")
    assert 1 <= trained <= 6
    assert len(store.journal("s").read()) == 24


def test_the_plan_comes_before_the_search_and_shares_with_it(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(sampler="random")
    (search,) = plan.searches
    store = Store.open(tmp_path / "store")
    twin = ticket_of(search.trial({"moto.n": 2, "moto.partition": "soft"}, 0))
    queue = queue_of(store, [source_of(search, store)], [*map(ticket_of, plan.trials), twin])
    trained = drain(queue, store)
    assert trained <= 1 + 6, "the baseline and six cells, one of which the plan had"
    assert trained + queue.answered == 2 + 24


def test_a_store_that_breaks_ends_the_sweep_with_its_error(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    plan = planned()

    def outcome(ticket: Any, result: Any) -> Record:
        raise OSError("disk full")

    queue = TrialQueue(
        map(ticket_of, plan.trials),
        [],
        store=store,
        limit=9,
        on_event=lambda e: None,
        outcome=outcome,
        leases=Leases(store),
    )
    assert isinstance(queue.suggest("t0"), dict)
    queue.on_trial_complete("t0", {"status": "completed"})
    assert isinstance(queue.error, OSError)
    assert queue.suggest("t1") == "FINISHED"


def test_no_more_trials_are_live_than_allowed(planned: Callable[..., Plan], tmp_path: Path) -> None:
    (search,) = planned(sampler="qmc").searches
    store = Store.open(tmp_path / "store")
    queue = queue_of(store, [source_of(search, store)], limit=2)
    assert isinstance(queue.suggest("a"), dict)
    assert isinstance(queue.suggest("b"), dict)
    assert queue.suggest("c") is None
    assert len(store.ticketed()) == 2


def test_the_sampler_learns_from_trials_that_are_there_for_free(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(sampler="tpe")
    (search,) = plan.searches
    store = Store.open(tmp_path / "store")
    elsewhere = [search.trial({"moto.n": n, "moto.partition": "soft"}, 0) for n in (2, 4)]
    for trial in (*elsewhere, *plan.trials):
        store.ledger.commit(record(trial.identity, trial.spec.to_json()))
    source = source_of(search, store)
    known = store.ledger.load(store.ledger.identities())
    assert source.observe(known) == 2, "the baseline has no MoTo and is no point of this space"
    assert store.journal("s").read() == [], "what was not asked for is no sample"
    trained = drain(queue_of(store, [source]), store)
    assert trained <= 4
    assert len(store.journal("s").read()) == 24
    assert source_of(search, store).observe(known) == 0, "the journal's points are told once"


def test_pruned_trials_are_results_only_where_trials_are_stopped_early(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    (search,) = planned(sampler="random").searches
    store = Store.open(tmp_path / "store")
    cell = search.trial({"moto.n": 2, "moto.partition": "soft"}, 0)
    store.ledger.commit(
        Record(identity=cell.identity, status="pruned", spec=cell.spec.to_json(), metrics={"top1": 1.0})
    )
    queue = queue_of(store, [source_of(search, store)])
    drain(queue, store)
    after = store.ledger.get(cell.identity)
    assert after is not None
    assert after.status == "completed"


# ---- two runs at once


def test_two_queues_over_one_store_train_every_trial_once(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    tickets = [ticket_of(trial) for trial in planned(seeds=6).trials]
    queues = [queue_of(store, [], list(tickets), limit=1) for _ in range(2)]
    running: dict[int, str] = {}
    trained: list[str] = []
    for turn in range(40 * len(tickets)):
        number = turn % 2
        queue = queues[number]
        if number in running:
            ticket = queue.ticket_of(running[number])
            assert ticket is not None
            store.ledger.commit(record(ticket.identity, dict(ticket.spec)))
            trained.append(ticket.identity)
            queue.on_trial_complete(running.pop(number), {"status": "completed"})
        elif isinstance(queue.suggest(f"t{turn}"), dict):
            running[number] = f"t{turn}"
        if all(queue.exhausted for queue in queues) and not running:
            break
    assert sorted(trained) == sorted(ticket.identity for ticket in tickets)
    for queue in queues:
        assert queue.statuses.keys() | queue.elsewhere.keys() == {ticket.identity for ticket in tickets}
        assert not queue.statuses.keys() & queue.elsewhere.keys(), "counted once in each run's account"


def test_a_twin_of_a_trial_that_another_run_had_is_trained_once(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    (search,) = planned(sampler="random").searches
    store = Store.open(tmp_path / "store")
    other = Leases(store)
    six = [
        search.trial({"moto.n": n, "moto.partition": p}, seed).identity
        for n in (2, 4, 8)
        for p in ("soft", "hard")
        for seed in search.seeds
    ]
    assert all(other.take(identity) for identity in six)
    queue = queue_of(store, [source_of(search, store)])
    assert queue.suggest("t") is None, "every cell is another run's"
    for identity in six:
        other.give_back(identity)
    time.sleep(1.1)
    trained = 0
    while (config := queue.suggest(f"t{trained}")) != "FINISHED":
        if isinstance(config, dict):
            store.ledger.commit(record(config["trial"], {}))
            queue.on_trial_complete(f"t{trained}", {"status": "completed"})
            trained += 1
    assert trained <= 6
    assert trained + queue.answered == 24


def test_one_run_at_a_time_draws_the_points_of_a_search(planned: Callable[..., Plan], tmp_path: Path) -> None:
    (search,) = planned(sampler="random").searches
    store = Store.open(tmp_path / "store")
    other = Leases(store)
    source = source_of(search, store)
    assert other.take(source.alone)
    with pytest.raises(ClusterError, match=rf"draws the points of its search \(process {os.getpid()} on "):
        sweep([Phase(sources=[source])], store=store, settings=SweepSettings(), on_event=lambda event: None)
