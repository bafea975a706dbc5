"""Records, journals, the outbox, reports of others, checkpoints and weights."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablator.backbones.starting import read as read_weights
from ablator.contracts.record import Record
from ablator.errors import StoreError, UserError, WeightsError
from ablator.report.comparing import sides
from ablator.results.durable import canonical_json
from ablator.results.outbox import REPORT, Outbox
from ablator.results.standing import read_standing
from ablator.results.store import Store
from ablator.results.tracking import target
from ablator.training import checkpoint as checkpoints

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("little_memory")]

ID, OTHER = "3f" * 32, "4e" * 32
WHOLE: dict[str, Any] = {
    "identity": ID,
    "status": "completed",
    "spec": {"seed": 0},
    "metrics": {"top1": 1.0},
    "curves": [{"epoch": 1.0, "train_loss": float("nan")}],
}
DEEP = b"[" * 200_000 + b"]" * 200_000


def packed(body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest().encode()
    return b'{"format": 1, "sha256": "' + digest + b'", "record": ' + body + b"}\n"


def changed(**fields: Any) -> bytes:
    return packed(json.dumps({**WHOLE, **fields}).encode())


RECORDS = {
    "another checksum": (packed(json.dumps(WHOLE).encode())[:30] + b"0" * 80, "begin like a record"),
    "another trial's": (changed(identity=OTHER), "another trial"),
    "identity that leaves the ledger": (changed(identity="../../../../tmp/x"), "another trial"),
    "nested without an end": (packed(b'{"spec": ' + DEEP + b"}"), "nested without an end"),
    "no object": (packed(b"[1, 2]"), "no JSON object"),
    "no JSON": (packed(b"{"), "Expecting"),
    "metrics that are infinite": (changed(metrics={"top1": float("inf")}), "not finite: top1"),
    "metrics that are no number": (changed(metrics={"top1": float("nan")}), "not finite: top1"),
    "metrics in words": (changed(metrics={"top1": "ninety"}), "wrong type in metrics"),
    "metrics that no float holds": (
        packed(json.dumps(WHOLE).replace("1.0}", "1" + "0" * 400 + "}", 1).encode()),
        "metrics",
    ),
    "a list for a spec": (changed(spec=[1]), "wrong type in spec"),
    "curves in words": (changed(curves=["up"]), "wrong type in curves"),
    "a time that is infinite": (changed(finished=float("inf")), "wrong type in finished"),
    "notes that are numbers": (changed(notes=[1]), "wrong type in notes"),
    "a field too many": (changed(__class__="os.system"), "unknown fields"),
    "no such status": (changed(status="<script>"), "status is one of"),
    "bytes": (os.urandom(4096), "begin like a record"),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def place(store: Store) -> Path:
    path = store.root / "ledger" / ID[:2] / f"{ID}.json"
    path.parent.mkdir()
    return path


@pytest.mark.parametrize(("content", "said"), RECORDS.values(), ids=RECORDS)
def test_a_hostile_record_is_named_as_damaged(content: bytes, said: str, store: Store, place: Path) -> None:
    place.write_bytes(content)
    with pytest.raises(StoreError, match="damaged record") as caught:
        store.ledger.load([ID])
    assert said in str(caught.value)
    assert [Path(place).name for place in store.ledger.repair()] == [f"{ID}.1.json"]
    assert store.ledger.get(ID) is None


def test_a_record_of_any_size_or_kind_is_not_read(store: Store, place: Path) -> None:
    with open(place, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(StoreError, match="larger than 256 MiB"):
        store.ledger.get(ID)
    place.unlink()
    for target_ in ("/dev/zero", place):
        place.symlink_to(target_)
        with pytest.raises(StoreError, match="damaged record"):
            store.ledger.get(ID)
        place.unlink()
    os.mkfifo(place)
    with pytest.raises(StoreError, match="no regular file"):
        store.ledger.get(ID)


@pytest.mark.parametrize("identity", ["../" * 20 + "x", "/etc/passwd", "a" * 64 + "/..", "", ID.upper()])
def test_an_identity_is_no_path(identity: str, store: Store) -> None:
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        store.ledger.commit(Record.from_json({**WHOLE, "identity": identity}))


SAMPLES = {
    "nested": DEEP,
    "number": b"7",
    "no point": canonical_json({"sample": 0, "identities": [], "crc32": 0}),
    "sample in words": {"sample": "x", "point": {}, "identities": []},
    "point that is a list": {"sample": 0, "point": [], "identities": []},
    "identities that are numbers": {"sample": 0, "point": {}, "identities": [1]},
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("line", SAMPLES.values(), ids=SAMPLES)
def test_a_hostile_journal_is_named_as_damaged(line: bytes | dict[str, Any], store: Store) -> None:
    if isinstance(line, dict):
        line = canonical_json({**line, "crc32": zlib.crc32(canonical_json(line))})
    journal = store.journal("tiny-0")
    journal.path.parent.mkdir()
    journal.path.write_bytes(line + b"\n")
    with pytest.raises(StoreError, match="damaged search journal"):
        journal.read()


@pytest.mark.parametrize(
    "content", [DEEP, b"7", b"{}", b'{"version": 1, "digest": 2}', b"\xff", b'{"version']
)
@pytest.mark.parametrize("name", [ID, REPORT])
def test_a_hostile_outbox_entry_is_named(name: str, content: bytes, store: Store) -> None:
    outbox = Outbox(store, target(store, "off"), "tiny")
    outbox.folder.mkdir(parents=True)
    (outbox.folder / f"{name}.json").write_bytes(content)
    with pytest.raises(StoreError, match="outbox entry"):
        outbox.read(name)


@pytest.mark.parametrize("content", [DEEP, b"7", b'{"format": 1, "running": [{"x": 1}]}', b"\xff"])
def test_a_hostile_standing_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "live.json").write_bytes(content)
    assert read_standing(tmp_path / "live.json") is None


REPORTS = {
    "nested": DEEP,
    "bytes": b"\xff\xfe",
    "list": b"[]",
    "rows in words": b'{"format": 1, "study": {"study": "x", "profile": "p", "metric": "m"}, "rows": "many"}',
    "rows of numbers": b'{"format": 1, "study": {"study": "x", "profile": "p", "metric": "m"}, "rows": [1]}',
    "study in words": b'{"format": 1, "study": "x", "rows": []}',
    "number in words": b'{"format": 1, "study": {"study": "x", "profile": "p", "metric": "m"}, "rows": '
    b'[{"label": "a", "mean": "x", "n": "y", "std": 1}]}',
}


@pytest.mark.parametrize("content", REPORTS.values(), ids=REPORTS)
def test_a_hostile_report_is_no_side_of_a_comparison(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"results\.json"):
        sides(path, path)


def test_a_report_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    row = {"label": "\x1b]0;owned\x07", "mean": 1.0, "n": 1, "std": None}
    study = {"study": "x", "profile": "p", "metric": "m"}
    path.write_text(json.dumps({"format": 1, "study": study, "rows": [row]}))
    done = subprocess.run(
        [sys.executable, "-m", "ablator", "diff", path, path], capture_output=True, text=True, check=True
    )
    assert "\\x1b]0;" in done.stdout
    assert "\x1b" not in done.stdout


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        with archive.open("archive/data/0", "w", force_zip64=True) as part:
            for _ in range(300):
                part.write(bytes(2**20))


def _malicious(path: Path) -> None:
    torch.save({"format": 1, "tag": ID, "state": Malicious(path.with_name("ran"))}, path)


def _cut_short(path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:700])


MAKERS: dict[str, Callable[[Path], object]] = {
    "malicious": _malicious,
    "malicious without an archive": lambda path: path.write_bytes(
        pickle.dumps({"state": Malicious(path.with_name("ran"))}, protocol=2)
    ),
    "cut short": _cut_short,
    "zip bomb": _bomb,
    "empty archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "no archive": lambda path: path.write_bytes(os.urandom(5000)),
    "a number": lambda path: torch.save(7, path),
    "a list for a state": lambda path: torch.save({"format": 1, "tag": ID, "state": [1]}, path),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_hostile_weights_are_refused_and_run_nothing(make: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        read_weights(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_hostile_checkpoints_are_refused_and_run_nothing(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    make(path)
    with pytest.raises(StoreError, match="damaged"):
        checkpoints.load(path, ID)
    # A checksum keeps chance away, and no one who means harm.
    path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).digest())
    with pytest.raises(StoreError, match="damaged"):
        checkpoints.load(path, ID)
    assert not (tmp_path / "ran").exists()
