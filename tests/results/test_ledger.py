from __future__ import annotations

import json
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.results.ledger import Ledger

MakeRecord = Callable[..., Record]

# Run by `python -c` in tests that kill or race: commits the records whose JSON it reads, and says so.
COMMITTER = """
import json, sys
from pathlib import Path
from ablator.contracts.record import Record
from ablator.results.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), hard_links=sys.argv[2] == "links")
print("ready", flush=True)
for line in sys.stdin:
    record = Record.from_json(json.loads(line))
    print(record.identity, ledger.commit(record), flush=True)
"""


def record_path(ledger: Ledger, record: Record) -> Path:
    return ledger.root / record.identity[:2] / f"{record.identity}.json"


def line(record: Record) -> bytes:
    return json.dumps(record.to_json()).encode() + b"\n"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger")


def test_a_record_comes_back_as_it_was_committed(ledger: Ledger, make_record: MakeRecord) -> None:
    record = make_record(1, notes=("features of efficientnet_lite0 stand in for VGG19",))
    assert ledger.commit(record) is True
    assert Ledger(ledger.root).get(record.identity) == record
    assert ledger.get(make_record(2).identity) is None


def test_curves_of_a_diverged_trial_keep_their_nan(ledger: Ledger, make_record: MakeRecord) -> None:
    curves = ({"epoch": 1.0, "train_loss": math.nan, "lr": math.inf},)
    record = make_record(1, status="diverged", metrics={}, error="loss is nan", curves=curves)
    ledger.commit(record)
    read = ledger.get(record.identity)
    assert read is not None
    assert math.isnan(read.curves[0]["train_loss"])
    assert read.curves[0]["lr"] == math.inf


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)
    ),
    metrics=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), min_size=1),
)
def test_every_json_record_survives(tmp_path: Path, spec: Any, metrics: Any) -> None:
    number = len(list((tmp_path / "ledger").glob("??/*"))) if (tmp_path / "ledger").exists() else 0
    record = Record(identity=f"{number:064x}", status="completed", spec=spec, metrics=metrics)
    ledger = Ledger(tmp_path / "ledger")
    ledger.commit(record)
    assert ledger.get(record.identity) == record


@pytest.mark.parametrize("hard_links", [True, False])
def test_the_first_commit_wins(tmp_path: Path, make_record: MakeRecord, hard_links: bool) -> None:
    ledger = Ledger(tmp_path / "ledger", hard_links=hard_links)
    first, second = make_record(1), make_record(1, metrics={"top1": 1.0})
    assert [ledger.commit(first), ledger.commit(second)] == [True, False]
    assert ledger.get(first.identity) == first
    assert [p.name for p in (ledger.root / first.identity[:2]).iterdir()] == [f"{first.identity}.json"]


@pytest.mark.parametrize("mode", ["links", "lock"])
def test_eight_processes_that_race_for_a_trial_keep_it_once(
    ledger: Ledger, make_record: MakeRecord, mode: str
) -> None:
    command = [sys.executable, "-c", COMMITTER, str(ledger.root), mode]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    numbers = range(30)
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer_number, racer in enumerate(racers):
        assert racer.stdin is not None
        versions = [make_record(n, metrics={"top1": float(racer_number)}) for n in numbers]
        racer.stdin.write("".join(line(v).decode() for v in versions))
        racer.stdin.flush()
    said = [racer.communicate(timeout=120)[0].splitlines() for racer in racers]
    for number in numbers:
        identity = make_record(number).identity
        winners = [i for i, lines in enumerate(said) if f"{identity} True" in lines]
        kept = ledger.get(identity)
        assert len(winners) == 1
        assert kept is not None
        assert kept.metrics == {"top1": float(winners[0])}


def test_kill_9_while_committing_leaves_whole_records_only(ledger: Ledger, make_record: MakeRecord) -> None:
    acknowledged: set[str] = set()
    for attempt in range(3):
        records = [make_record(attempt * 5000 + n) for n in range(5000)]
        command = [sys.executable, "-c", COMMITTER, str(ledger.root), "links"]
        feed = ledger.root.parent / "feed"
        feed.write_bytes(b"".join(map(line, records)))
        with feed.open("rb") as file:
            worker = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE)
        assert worker.stdout is not None
        for _ in range(2):  # it is committing by now
            worker.stdout.readline()
        time.sleep(0.1 + 0.07 * attempt)
        worker.send_signal(signal.SIGKILL)
        acknowledged |= {text.split()[0].decode() for text in worker.communicate()[0].splitlines(True)[:-1]}
    there = ledger.load(ledger.identities())  # raises if one is damaged
    assert acknowledged
    assert acknowledged <= there.keys()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) * 3 // 4
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def flip_hash(content: bytes) -> bytes:
    at = content.index(b'"sha256": "') + len('"sha256": "')
    return content[:at] + (b"0" if content[at : at + 1] != b"0" else b"1") + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut, flip, flip_hash, lambda c: b"", lambda c: b"not json", lambda c: c[:-1], lambda c: b"\0" * len(c)],
    ids=["truncated", "bit flip", "checksum", "empty", "not JSON", "last byte", "zeros"],
)
def test_damage_is_named_and_repaired(
    ledger: Ledger, make_record: MakeRecord, damage: Callable[[bytes], bytes]
) -> None:
    good, bad = make_record(1), make_record(2)
    ledger.commit(good)
    ledger.commit(bad)
    path = record_path(ledger, bad)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match="--repair") as error:
        ledger.load([good.identity, bad.identity])
    assert str(path) in str(error.value)
    with pytest.raises(StoreError, match="damaged record"):
        ledger.get(bad.identity)

    (aside,) = ledger.repair()
    assert Path(aside).parent == ledger.root / "quarantine"
    assert ledger.load([good.identity, bad.identity]) == {good.identity: good}
    assert ledger.commit(bad) is True
    assert ledger.repair() == []


def test_a_record_under_another_trials_name_is_damage(ledger: Ledger, make_record: MakeRecord) -> None:
    one, other = make_record(1), make_record(2)
    ledger.commit(one)
    ledger.commit(other)
    record_path(ledger, one).write_bytes(record_path(ledger, other).read_bytes())
    with pytest.raises(StoreError, match=f"another trial, {other.identity[:12]}"):
        ledger.get(one.identity)
    assert len(ledger.repair([other.identity])) == 0
    assert len(ledger.repair([one.identity])) == 1


def test_a_failure_is_kept_until_the_trial_succeeds(ledger: Ledger, make_record: MakeRecord) -> None:
    def failed(why: str) -> Record:
        return make_record(1, status="failed", metrics={}, error=why)

    assert ledger.commit(failed("out of memory"))
    assert ledger.commit(failed("disk full"))
    identity = make_record(1).identity
    failure = ledger.failure(identity)
    assert failure is not None
    assert failure.error == "disk full"
    assert ledger.get(identity) is None
    assert ledger.identities() == set()

    assert ledger.commit(make_record(1))
    assert ledger.failure(identity) is None
    assert ledger.commit(failed("late worker")) is False
    assert ledger.failure(identity) is None


def test_a_record_that_cannot_be_read_is_not_moved_aside(ledger: Ledger, make_record: MakeRecord) -> None:
    record_path(ledger, make_record(1)).mkdir(parents=True)
    for attempt in (ledger.repair, lambda: ledger.load([make_record(1).identity])):
        with pytest.raises(StoreError, match="cannot read the record"):
            attempt()


@pytest.mark.parametrize("root", ["file", "file/below", "/proc/ablator"])
def test_a_root_that_cannot_be_written_is_refused_at_once(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="--store DIR"):
        Ledger.open(tmp_path / root)


def commit_with_little_space(root: str, record: dict[str, Any], answers: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        Ledger(Path(root)).commit(Record.from_json(record))
    except StoreError as error:
        answers.put(str(error))


def test_a_full_disk_is_an_error_and_leaves_nothing(ledger: Ledger, make_record: MakeRecord) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    record = make_record(1)
    process = context.Process(
        target=commit_with_little_space, args=(str(ledger.root), record.to_json(), answers)
    )
    process.start()
    process.join(30)
    assert "File too large" in answers.get()
    assert list(record_path(ledger, record).parent.iterdir()) == []


def test_what_killed_writers_left_is_swept_away(ledger: Ledger, make_record: MakeRecord) -> None:
    ledger.commit(make_record(1))
    folder = record_path(ledger, make_record(1)).parent
    old, young = folder / ".writing-old", folder / ".writing-young"
    old.write_text("half a rec")
    young.write_text("half a rec")
    os.utime(old, (0, 0))
    assert Ledger.open(ledger.root).identities() == {make_record(1).identity}
    assert young.exists()
    assert not old.exists()


@pytest.mark.parametrize("identity", ["../../etc/passwd", "", "A" * 64, "0" * 63])
def test_only_identities_are_looked_up(ledger: Ledger, identity: str) -> None:
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        ledger.get(identity)
