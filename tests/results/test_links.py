"""Links to runs: only what MLflow really has, at an address without secrets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ablator.contracts.record import Record
from ablator.results.links import LOCAL, run_links
from ablator.results.outbox import MirrorTrial, Outbox
from ablator.results.store import Store
from ablator.results.tracking import target

IDENTITY = "ab" * 32
RECORD = Record(identity=IDENTITY, status="completed", spec={}, metrics={"top1": 1.0}, finished=5.0)


def sent(store: Store, uri: str | None, run: str, record: Record = RECORD) -> Outbox:
    """An outbox whose only trial was sent."""
    outbox = Outbox(store, target(store, uri), "demo")
    outbox.note_experiment("7")
    trial = MirrorTrial(identity=IDENTITY, label="arm", arm="arm", seed=0, changes={}, record=record)
    outbox.put_trial(trial)
    entry = outbox.read(IDENTITY)
    assert entry is not None
    outbox.mark_sent(IDENTITY, entry, run)
    return outbox


def test_the_stores_own_runs_are_where_the_ui_command_serves_them(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.database.touch()
    assert run_links(store, "demo", {IDENTITY: RECORD}) == {}
    sent(store, None, "abc")
    assert run_links(store, "demo", {IDENTITY: RECORD}) == {IDENTITY: f"{LOCAL}/#/experiments/7/runs/abc"}
    assert run_links(store, "demo", {}) == {}, "no record, no link"
    assert run_links(store, "other", {IDENTITY: RECORD}) == {}
    store.database.unlink()
    assert run_links(store, "demo", {IDENTITY: RECORD}) == {}


def test_an_outcome_that_was_not_sent_has_no_link(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.database.touch()
    sent(store, None, "abc")
    newer = dataclasses.replace(RECORD, finished=6.0)
    assert run_links(store, "demo", {IDENTITY: newer}) == {}


def test_a_servers_address_has_its_path_and_no_secrets(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    sent(store, "http://me:hunter2@tracking:8080/flow/?token=abc", "a b/c")
    (link,) = run_links(store, "demo", {IDENTITY: RECORD}).values()
    assert link == "http://tracking:8080/flow/#/experiments/7/runs/a%20b%2Fc"


def test_other_databases_have_no_pages(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    sent(store, "postgresql://me:hunter2@db/flow", "abc")
    assert run_links(store, "demo", {IDENTITY: RECORD}) == {}


def test_the_experiment_is_known_again_and_noted_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.database.touch()
    outbox = sent(store, None, "abc")
    outbox.note_experiment("7")
    again = Outbox(store, target(store, None), "demo")
    assert again.experiment == "7"
    assert list(again.sent) == [IDENTITY], "its line is none of a trial"
    lines = [path.read_text(encoding="utf-8") for path in store.sent.glob("*/demo.jsonl")]
    assert "".join(lines).count("experiment") == 1
