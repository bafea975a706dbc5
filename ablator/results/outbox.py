"""What MLflow has not got yet, and what it has: small files beside the ledger.

outbox/<target>/<study>/<identity>.json     a trial to send; its record is in the ledger
outbox/<target>/<study>/report.json         the study's table and page to send
outbox/<target>/target.json                 the target's address, without secrets, for people
mlflow-runs/<target>/<study>.jsonl          what was sent: identity, version, run; and MLflow's experiment
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablator.contracts.reading import read_file
from ablator.contracts.record import FINAL, Record
from ablator.contracts.secrets import scrubbed_plain
from ablator.contracts.settings import as_plain
from ablator.errors import StoreError
from ablator.results.durable import TEMPORARY_PREFIX, canonical_json, sync_directory
from ablator.results.store import Store, checked_name
from ablator.results.tracking import Target

REPORT = "report"
"""Name of the study's own entry, beside the trials' 64 hexadecimal digits."""


_MOST_BYTES = 256 * 2**20
_ENTRY: dict[str, type] = {"version": str, "digest": str}
_CHECKSUM = "checksum"
_TRIAL_ENTRY: dict[str, type] = {**_ENTRY, "label": str, "arm": str, "seed": int, "changes": dict}
_REPORT_ENTRY: dict[str, type] = {**_ENTRY, "files": list, "metrics": dict, "diff": str}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MirrorTrial:
    """One trial of a study, finished or failed, as MLflow shows it."""

    identity: str
    label: str
    """Name of the run: the arm's label, with the seed."""
    arm: str
    """The arm's label."""
    seed: int
    changes: Mapping[str, Any]
    """What the arm declares: dotted key to value."""
    record: Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sent:
    """What MLflow has of one trial or report."""

    version: str
    """Which outcome: a trial that failed and was trained again has two."""
    digest: str
    """Of everything that was sent; another digest of the same version means new labels."""
    run: str
    """MLflow's id of the run."""


class Outbox:
    """The entries of one study for one target. Threads of this process may share it."""

    def __init__(self, store: Store, target: Target, study: str) -> None:
        self.store = store
        self.target = target
        self.folder = store.outbox / target.folder / checked_name(study, "study name")
        self._sent_path = store.sent / target.folder / f"{study}.jsonl"
        self._lock = threading.Lock()
        self.doubtful = False
        """Whether a line of what was sent cannot be read, so that MLflow may have more than is known."""
        self.experiment = ""
        """MLflow's id of the experiment that the runs are in; empty where nobody noted it."""
        self.sent = self._read_sent()

    def put_trial(self, trial: MirrorTrial) -> bool:
        """Keep a trial until it is sent; False where this version of it was sent before.
        Raises OSError, or StoreError for an identity that is no file name."""
        record = trial.record
        entry = {
            "label": trial.label,
            "arm": trial.arm,
            "seed": trial.seed,
            "changes": as_plain(dict(trial.changes)),
            "version": version_of(record),
        }
        digest = _digest(entry)
        if self._is_sent(trial.identity, entry["version"], digest):
            return False
        if record.status not in FINAL:
            # The ledger forgets a failure once the trial succeeds.
            entry["record"] = record.to_json()
        self._write(trial.identity, {**entry, "digest": digest})
        return True

    def put_report(self, files: Sequence[Path], metrics: Mapping[str, float], diff: str) -> bool:
        """Keep the study's report (paths that stay where they are) until it is sent; False where these
        very contents were sent before. One without files only ends the study's run, and takes the place of
        none that waits. Raises OSError."""
        if not files and self.waits(REPORT):
            return False
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        entry = {"files": [str(file.absolute()) for file in files], "metrics": dict(metrics), "diff": diff}
        digest = _digest({**entry, "contents": contents})
        if self._is_sent(REPORT, "report", digest):
            return False
        self._write(REPORT, {**entry, "version": "report", "digest": digest})
        return True

    def names(self) -> list[str]:
        """Entries that wait, the report last."""
        if not self.folder.is_dir():
            return []
        found = (entry.name for entry in os.scandir(self.folder))
        names = [n.removesuffix(".json") for n in found if n.endswith(".json") and n[0] != "."]
        return sorted(names, key=lambda name: (name == REPORT, name))

    def waits(self, name: str) -> bool:
        """Whether `name` waits to be sent."""
        return self._path(name).exists()

    def read(self, name: str) -> dict[str, Any] | None:
        """One entry, made durable first, so that after a crash of the machine it is known that its run may
        exist already; None where it does not wait (any more). Raises StoreError where it is damaged."""
        path = self._path(name)
        try:
            entry = json.loads(read_file(path, _MOST_BYTES))
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            sync_directory(self.folder)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"unreadable outbox entry {path} ({error}); remove it and run again") from error
        kinds = _REPORT_ENTRY if name == REPORT else _TRIAL_ENTRY
        if not isinstance(entry, dict) or not _is_whole(entry) or not _is_sound(entry, kinds):
            raise StoreError(f"damaged outbox entry {path}; remove it and run again")
        return entry

    def mark_sent(self, name: str, entry: Mapping[str, Any], run: str) -> None:
        """Note that `entry` is in MLflow, and let go of it unless a newer one took its place."""
        line = {"name": name, "version": entry["version"], "digest": entry["digest"], "run": run}
        with self._lock:
            self.sent[name] = Sent(version=entry["version"], digest=entry["digest"], run=run)
            self._append(line)
            path = self._path(name)
            if path.exists() and json.loads(path.read_bytes()).get("digest") == entry["digest"]:
                path.unlink()

    def note_experiment(self, experiment: str) -> None:
        """Keep the id of the runs' experiment, for links to them."""
        with self._lock:
            if experiment != self.experiment:
                self.experiment = experiment
                self._append({"experiment": experiment})

    def drop(self, name: str) -> None:
        """Let go of an entry that needs no sending."""
        self._path(name).unlink(missing_ok=True)

    def adopt(self, other: Outbox) -> None:
        """Take over what waits in another target's outbox of the same study; the newer entry wins."""
        for name in other.names():
            theirs, ours = other._path(name), self._path(name)
            if ours.exists() and ours.stat().st_mtime_ns >= theirs.stat().st_mtime_ns:
                theirs.unlink()
            else:
                self._make_folder()
                os.replace(theirs, ours)

    def reload(self) -> None:
        """Read again what was sent if another process sent more."""
        with self._lock:
            if self._sent_size != self._size_of_sent():
                self.sent = self._read_sent()

    def _path(self, name: str) -> Path:
        return self.folder / f"{checked_name(name)}.json"

    def _is_sent(self, name: str, version: str, digest: str) -> bool:
        with self._lock:
            sent = self.sent.get(name)
        return sent is not None and (sent.version, sent.digest) == (version, digest)

    def _write(self, name: str, entry: Mapping[str, Any]) -> None:
        path = self._path(name)
        self._make_folder()
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{name}-{os.getpid()}-{threading.get_ident()}")
        plain = scrubbed_plain(entry)
        temporary.write_bytes(canonical_json({**plain, _CHECKSUM: _digest(plain)}))
        with self._lock:
            os.replace(temporary, path)

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            about = {"uri": self.target.shown}
            (self.folder.parent / "target.json").write_bytes(canonical_json(about))

    def _append(self, line: Mapping[str, Any]) -> None:
        self._sent_path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._sent_path, "ab") as file:
            # A leading line break as well, so that a line cut short by a crash spoils no other.
            file.write(b"\n" + canonical_json({**line, _CHECKSUM: _digest(line)}) + b"\n")
        self._sent_size = self._size_of_sent()

    def _size_of_sent(self) -> int:
        return self._sent_path.stat().st_size if self._sent_path.exists() else 0

    def _read_sent(self) -> dict[str, Sent]:
        if self.target.folder == "store" and not self.store.database.exists():
            self._sent_path.unlink(missing_ok=True)  # The database was removed: everything is sent again.
        self.experiment = ""
        self._sent_size = self._size_of_sent()
        lines = self._sent_path.read_bytes().splitlines() if self._sent_size else []
        sent = {}
        for line in lines:
            try:
                data = json.loads(line)
                if not _is_whole(data):
                    raise ValueError("it does not match its checksum")
                if "experiment" in data:
                    self.experiment = str(data["experiment"])
                    continue
                sent[data["name"]] = Sent(version=data["version"], digest=data["digest"], run=data["run"])
            except (ValueError, KeyError, TypeError, RecursionError):
                # Empty, cut short by a crash, or damaged: that run is found again by its tags.
                self.doubtful = self.doubtful or bool(line)
        return sent


def _is_whole(data: dict[str, Any]) -> bool:
    """Takes the checksum out of `data`, if it has one (older files have none): whether it fits."""
    checksum = data.pop(_CHECKSUM, None)
    return checksum is None or checksum == _digest(data)


def _is_sound(entry: Mapping[str, Any], kinds: Mapping[str, type]) -> bool:
    return all(isinstance(entry.get(name), kind) for name, kind in kinds.items())


def version_of(record: Record) -> str:
    """Which outcome of a trial a record is."""
    return f"{record.status}@{record.finished:.6f}"


def waiting(store: Store) -> Iterator[tuple[str, str]]:
    """Every (target folder, study) with entries that wait."""
    if not store.outbox.is_dir():
        return
    for target in sorted(p for p in store.outbox.iterdir() if p.is_dir()):
        for study in sorted(p for p in target.iterdir() if p.is_dir()):
            if any(entry.suffix == ".json" for entry in study.iterdir()):
                yield target.name, study.name


def shown_uri(store: Store, folder: str) -> str | None:
    """The address, without secrets, that entries of a target folder are meant for; None if not noted."""
    try:
        uri = json.loads((store.outbox / folder / "target.json").read_bytes())["uri"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return uri if isinstance(uri, str) else None


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(entry)).hexdigest()[:16]
