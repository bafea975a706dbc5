"""The ledger: every finished trial's record, durable and exactly once.

    3f/3f….json          final records (completed, diverged, pruned), never changed once there
    failures/3f….json    the latest failure of a trial that has no final record yet
    quarantine/          damaged files that `repair` moved aside
    lock                 only in a folder whose filesystem has no hard links

How a file becomes final, of a folder and of an object store, is the place's (`files.py`, `firsts.py`).

A file is an envelope, `{"format": 1, "sha256": …, "record": {…}}`; the hash is over the bytes of the
record as they stand there, so that any flipped bit shows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ablator.contracts.record import FINAL, Record
from ablator.contracts.secrets import scrubbed_plain
from ablator.errors import StoreError
from ablator.results.durable import canonical_json, explained
from ablator.results.files import Files, Firsts, LocalFiles

FORMAT = 1
_MOST_BYTES = 256 * 2**20
_HEAD = f'{{"format": {FORMAT}, "sha256": "'.encode()
_MIDDLE = b'", "record": '
_TAIL = b"}\n"
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_FINAL = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})\.json")
_FAILURE = re.compile(r"failures/([0-9a-f]{64})\.json")
_FAILURES = "failures"


class _DamagedError(Exception):
    """What is wrong with one file."""


def _pack(record: Record) -> bytes:
    # The one place through which every record is written. The identity is of the trial, not of this text.
    body = canonical_json({**scrubbed_plain(record.to_json()), "identity": record.identity})
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + _TAIL


def _unpack(content: bytes, identity: str) -> Record:
    start = len(_HEAD) + 64 + len(_MIDDLE)
    if not content.startswith(_HEAD) or content[len(_HEAD) + 64 : start] != _MIDDLE:
        raise _DamagedError(f"it does not begin like a record of format {FORMAT}")
    if not content.endswith(_TAIL):
        raise _DamagedError("its end is missing")
    body = content[start : -len(_TAIL)]
    if hashlib.sha256(body).hexdigest().encode() != content[len(_HEAD) : len(_HEAD) + 64]:
        raise _DamagedError("its content does not match its checksum")
    try:
        record = Record.from_json(json.loads(body))
    except (ValueError, TypeError) as error:
        raise _DamagedError(f"it is {error}") from error
    except RecursionError as error:
        raise _DamagedError("it is nested without an end") from error
    if record.identity != identity:
        raise _DamagedError(f"it holds the record of another trial, {record.identity[:12]}")
    return record


class Ledger:
    """Records by identity. Any number of processes may read and commit at once: of two workers that finish
    the same trial, the first commit wins."""

    def __init__(self, root: Path, *, hard_links: bool = True) -> None:
        """Of a ledger in the folder `root`."""
        local = LocalFiles(root, hard_links=hard_links)
        self._files: Files = local
        self._finals: Firsts = local

    @classmethod
    def over(cls, files: Files, finals: Firsts) -> Ledger:
        """A ledger elsewhere: failures and what is moved aside in `files`, final records in `finals`."""
        ledger = cls(Path())
        ledger._files, ledger._finals = files, finals
        return ledger

    @classmethod
    def open(cls, root: Path) -> Ledger:
        """The ledger in the folder `root`, created where it is missing, and proven writable by a real commit
        of an empty file, so that nothing is trained that could not be kept. Raises StoreError."""
        ledger = cls(root)
        with explained("open the ledger at", root):
            ledger._files.open()
        return ledger

    @property
    def root(self) -> Path:
        """The folder of a ledger that lies in one."""
        return Path(self._files.at(""))

    def commit(self, record: Record) -> bool:
        """Keep `record`; durable once this returns. A final one is kept for good: True if this call did
        it, False where the trial has one already. A failed one replaces the trial's earlier failure, and
        is not kept (False) where there is a final record. Raises StoreError where it cannot be written."""
        final = _final(record.identity)
        if record.status not in FINAL:
            return self._keep_failure(record, final)
        with explained("keep a finished trial's record at", self._finals.at(final)):
            kept = self._finals.create(final, _pack(record))
            self._files.remove(_failure(record.identity))
        return kept

    def get(self, identity: str) -> Record | None:
        """The final record of a trial; None where there is none. Raises StoreError where it is damaged."""
        return self._read(self._finals, _final(identity), identity)

    def failure(self, identity: str) -> Record | None:
        """The latest failure of a trial that has no final record. Raises StoreError where it is damaged."""
        final = _final(identity)
        with explained("look for the record", self._finals.at(final)):
            if self._finals.exists(final):
                return None
        return self._read(self._files, _failure(identity), identity)

    def load(self, identities: Iterable[str]) -> dict[str, Record]:
        """The final records that are there, by identity, in the order asked for. Raises StoreError that
        names every damaged file."""
        records: dict[str, Record] = {}
        damaged: dict[str, str] = {}
        for identity, place, found in self._examined(identities):
            if isinstance(found, Record):
                records[identity] = found
            else:
                damaged[place] = str(found)
        if damaged:
            raise _damage_error(damaged)
        return records

    def damaged(self) -> list[str]:
        """Where the damaged final records lie."""
        return [
            place for _, place, found in self._examined(self.identities()) if isinstance(found, _DamagedError)
        ]

    def _examined(self, identities: Iterable[str]) -> Iterator[tuple[str, str, Record | _DamagedError]]:
        """Identity and place of every final record that is there, and the record or what is wrong with it."""
        wanted = {_final(identity): identity for identity in identities}
        with explained("read the records at", self._finals.at("")):
            for name, content in self._finals.read_all(wanted, _MOST_BYTES):
                place = self._finals.at(name)
                try:
                    yield wanted[name], place, _unpack(_checked(content, place), wanted[name])
                except _DamagedError as error:
                    yield wanted[name], place, error

    def failures(self, identities: Iterable[str]) -> dict[str, Record]:
        """`failure` of many trials at once, of those that have one, in the order asked for."""
        there = self.failed()
        found = {identity: self.failure(identity) for identity in identities if identity in there}
        return {identity: record for identity, record in found.items() if record is not None}

    def failed(self) -> set[str]:
        """Every trial whose latest failure is kept."""
        with explained("list the failures at", self._files.at(_FAILURES)):
            return {match[1] for name in self._files.names(_FAILURES) if (match := _FAILURE.fullmatch(name))}

    def identities(self) -> set[str]:
        """Every trial that has a final record, whole or damaged."""
        with explained("list the records at", self._finals.at("")):
            return {match[1] for name in self._finals.names() if (match := _FINAL.fullmatch(name))}

    def repair(self, identities: Iterable[str] | None = None) -> list[str]:
        """Move damaged files (of `identities`, or all) to `quarantine/`, so that their trials are trained
        again; returns where they are now. Whole records stay untouched."""
        finals = self.identities() if identities is None else set(identities)
        failures = self.failed() if identities is None else finals
        moved = self._repair(self._finals, {_final(identity): identity for identity in finals})
        return moved + self._repair(self._files, {_failure(identity): identity for identity in failures})

    def drop_pruned(self, identities: Iterable[str]) -> list[str]:
        """Forget the pruned records among `identities` and return whose they were: a plan that stops no
        trial early wants these trained to their end. Other records stay."""
        pruned = [i for i, record in self.load(identities).items() if record.status == "pruned"]
        for identity in pruned:
            final = _final(identity)
            with explained("forget a pruned trial at", self._finals.at(final)):
                self._finals.remove(final)
        return pruned

    # ---- parts of these

    def _keep_failure(self, record: Record, final: str) -> bool:
        name = _failure(record.identity)
        with explained("keep a failed trial's record at", self._files.at(name)):
            if self._finals.exists(final):
                return False
            self._files.write(name, _pack(record))
        return True

    def _read(self, files: Files | Firsts, name: str, identity: str) -> Record | None:
        try:
            for _, content in files.read_all([name], _MOST_BYTES):
                return _unpack(_checked(content, files.at(name)), identity)
            return None
        except _DamagedError as error:
            raise _damage_error({files.at(name): str(error)}) from error

    def _repair(self, files: Files | Firsts, names: dict[str, str]) -> list[str]:
        moved = []
        for name, content in files.read_all(names, _MOST_BYTES):
            try:
                _unpack(_checked(content, files.at(name)), names[name])
            except _DamagedError:
                moved.append(_quarantine(files, name))
        return moved


# ---- names


def _final(identity: str) -> str:
    if not _IDENTITY.fullmatch(identity):
        raise StoreError(f"a trial's identity is 64 hexadecimal digits, not {identity!r}")
    return f"{identity[:2]}/{identity}.json"


def _failure(identity: str) -> str:
    return f"{_FAILURES}/{_final(identity)[3:]}"


def _quarantine(files: Files | Firsts, name: str) -> str:
    """Move a damaged file aside, over none that is there; returns where it is now."""
    folder, stem = "quarantine", name.rpartition("/")[2].removesuffix(".json")
    with explained("move a damaged record to", files.at(folder)):
        number = 1
        while files.exists(aside := f"{folder}/{stem}.{number}.json"):
            number += 1
        files.move(name, aside)
    return files.at(aside)


def _checked(content: bytes | OSError, place: str) -> bytes:
    """The bytes of a file; one that cannot be read is not damaged by that, unless no record is like that."""
    if isinstance(content, bytes):
        return content
    if content.errno in (errno.EFBIG, errno.EINVAL, errno.ELOOP):
        raise _DamagedError(content.strerror or str(content)) from content
    raise StoreError(
        f"cannot read the record {place}: {content.strerror or content}; mend that and run again"
    ) from content


def _damage_error(damaged: dict[str, str]) -> StoreError:
    shown = "; ".join(f"{path}: {why}" for path, why in list(damaged.items())[:5])
    more = f"; and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    return StoreError(
        f"damaged record{'s' if len(damaged) > 1 else ''} in the ledger: {shown}{more}. `ablator run "
        "--repair STUDY` moves what is damaged aside and trains those trials again; every other record stays"
    )
