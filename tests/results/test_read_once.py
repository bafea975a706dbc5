"""Records that are read once are the ledger's, also after one was forgotten or came later."""

import dataclasses
from pathlib import Path

import pytest

from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.results.ledger import Ledger
from ablator.results.read_once import ReadOnce


def record(name: str, status: str = "completed") -> Record:
    return Record(identity=name * 64, status=status, spec={"seed": 1}, metrics={"top1": 1.0})  # type: ignore[arg-type]


def test_what_was_read_is_not_read_again_and_what_comes_later_is_found(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.commit(record("a"))
    known = ReadOnce(ledger)
    assert known.load(["a" * 64, "b" * 64]) == {"a" * 64: record("a")}
    (tmp_path / "aa" / f"{'a' * 64}.json").write_text("damaged since")
    ledger.commit(record("b"))
    assert known.load(["b" * 64, "a" * 64]) == {"b" * 64: record("b"), "a" * 64: record("a")}
    assert list(known.load(["b" * 64, "a" * 64])) == ["b" * 64, "a" * 64], "in the order asked for"


def test_damage_is_told_each_time(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.commit(record("a"))
    (tmp_path / "aa" / f"{'a' * 64}.json").write_text("damaged")
    known = ReadOnce(ledger)
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged record"):
            known.get("a" * 64)


def test_a_pruned_record_that_is_dropped_is_gone(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.commit(record("a"))
    ledger.commit(record("b", "pruned"))
    known = ReadOnce(ledger)
    known.load(["a" * 64, "b" * 64])
    assert known.drop_pruned(["a" * 64, "b" * 64]) == ["b" * 64]
    assert known.get("b" * 64) is None
    assert known.get("a" * 64) == dataclasses.replace(record("a"))
    ledger.commit(record("b"))
    assert known.get("b" * 64) == record("b"), "trained again"
