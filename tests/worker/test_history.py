"""Every start of a trial and what ended it, in its record, whatever died in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.contracts.record import Record, Retry, retries_text
from ablator.results.store import Store
from ablator.worker.history import History

FILE = "starts.json"
ID = "3f" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_what_ended_each_start_is_told_apart(store: Store) -> None:
    run = History(store, ID, "first")
    assert run.begin(1).retries == ()
    run.begin(2)  # the slot gives it again to workers that came back
    (store.checkpoints(ID) / "stalled-2-77.txt").write_text("Timeout (0:30:00)!")
    run.begin(3)
    run.end("out of memory", accumulate=4)
    run.begin(4)
    run.begin(1)  # a slot that has it for the first time
    run.end("notice")
    start = History(store, ID, "second").begin(1)
    History(store, ID, "third").goes_on(History(store, ID, "third").begin(1), 7)
    assert start.number == 6
    assert start.accumulate == 4
    number, retries = History(store, ID, "third").so_far()
    assert number == 7
    assert [(retry.ended, retry.epoch) for retry in retries] == [
        ("worker died", 0),
        ("hung", 0),
        ("out of memory", 0),
        ("slot died", 0),
        ("notice", 0),
        ("another run", 7),
    ]
    assert retries_text(retries[-2:]) == "notice, went on in epoch 1; another run, went on in epoch 8"


def test_a_trial_that_is_given_up_says_what_ended_its_last_start(store: Store) -> None:
    assert History(store, ID, "run").lost(4) == (4, ())
    history = History(store, ID, "run")
    for attempt in (1, 2):
        history.begin(attempt)
    number, retries = history.lost(2)
    assert number == 2
    assert [retry.ended for retry in retries] == ["worker died"] * 2


def test_only_the_latest_are_kept_and_all_are_counted(store: Store) -> None:
    for attempt in range(1, 40):
        start = History(store, ID, "run").begin(attempt)
    assert start.number == 39
    assert len(start.retries) == 20


def test_a_place_that_takes_nothing_ends_no_trial(store: Store) -> None:
    (store.root / "checkpoints").touch()
    history = History(store, ID, "run")
    assert history.begin(3).number == 3
    history.end("out of memory", 2)
    assert history.so_far() == (1, ())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: b"[" * 100_000,
        lambda text: b"\xff\xfe",
        lambda text: text.replace(b'"number":2', b'"number":"2"'),
        lambda text: text.replace(b'"number":2', b'"number":-2'),
        lambda text: text.replace(b'"accumulate":4', b'"accumulate":0'),
        lambda text: text.replace(b'"accumulate":4', b'"accumulate":1e400'),
        lambda text: text.replace(b"worker died", b"worker dined"),
        lambda text: text.replace(b'"retries":[', b'"retries":[null,'),
    ],
)
def test_a_damaged_history_is_none(store: Store, damage: Callable[[bytes], bytes]) -> None:
    history = History(store, ID, "run")
    history.begin(1)
    history.begin(2)
    history.end("out of memory", 4)
    file = store.checkpoints(ID) / FILE
    content = file.read_bytes()
    assert json.loads(content)["number"] == 2
    assert damage(content) != content
    file.write_bytes(damage(content))
    start = history.begin(3)
    assert (start.number, start.retries, start.accumulate) == (3, (), None)


def test_records_have_it_and_older_ones_have_none() -> None:
    retries = (Retry(ended="hung", when=12.5, epoch=2), Retry(ended="slot died", when=13.0))
    record = Record(identity="a", status="completed", spec={}, metrics={"top1": 1.0}, retries=retries)
    plain = json.loads(json.dumps(record.to_json()))
    assert Record.from_json(plain) == record
    del plain["retries"]
    assert Record.from_json(plain).retries == ()
    for wrong in ({"ended": "bored", "when": 1.0, "epoch": 0}, {"ended": "hung"}, "hung", None):
        with pytest.raises(ValueError, match="wrong type in retries"):
            Record.from_json({**plain, "retries": [wrong]})


def test_only_so_many_ends_are_excused(store: Store) -> None:
    history = History(store, ID, "run")
    for attempt in range(1, 18):
        start = history.begin(attempt)
        assert start.excusable == (attempt <= 16)
        history.end("notice")
