"""The ledger: every finished trial's record, durable and exactly once.

    root/3f/3f….json          final records (completed, diverged, pruned), never changed once there
    root/failures/3f….json    the latest failure of a trial that has no final record yet
    root/quarantine/          damaged files that `repair` moved aside
    root/lock                 only where the filesystem has no hard links

A file is an envelope, `{"format": 1, "sha256": …, "record": {…}}`; the hash is over the bytes of the
record as they stand there, so that any flipped bit shows.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ablator.contracts.reading import read_file
from ablator.contracts.record import FINAL, Record
from ablator.contracts.secrets import scrubbed_plain
from ablator.errors import StoreError
from ablator.results.durable import (
    TEMPORARY_PREFIX,
    canonical_json,
    explained,
    link,
    make_directory,
    replace,
    sync_directory,
    write_beside,
)

FORMAT = 1
_MOST_BYTES = 256 * 2**20
_HEAD = f'{{"format": {FORMAT}, "sha256": "'.encode()
_MIDDLE = b'", "record": '
_TAIL = b"}\n"
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"[0-9a-f]{2}")
_STALE_SECONDS = 24 * 3600


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
    """Records by identity. Any number of processes may read and commit at once.

    A record appears under its final name by a hard link, which fails where the name is taken: the
    first commit wins, also when two workers finish the same trial. Where the filesystem has no hard
    links (some network and removable ones), a rename under an exclusive lock does the same, for all
    processes that see that lock.
    """

    def __init__(self, root: Path, *, hard_links: bool = True) -> None:
        self.root = root
        self._hard_links = hard_links

    @classmethod
    def open(cls, root: Path) -> Ledger:
        """The ledger at `root`, created where it is missing, and proven writable by a real commit of an
        empty file, so that nothing is trained that could not be kept. Raises StoreError."""
        ledger = cls(root)
        with explained("open the ledger at", root):
            make_directory(root)
            ledger._sweep()
            probe = root / f"{TEMPORARY_PREFIX}probe-{os.getpid()}-{time.monotonic_ns()}"
            try:
                assert ledger._place(write_beside(probe, b"probe"), probe), "a fresh name cannot be taken"
            finally:
                probe.unlink(missing_ok=True)
        return ledger

    def commit(self, record: Record) -> bool:
        """Keep `record`; durable once this returns. A final one is kept for good: True if this call did
        it, False where the trial has one already. A failed one replaces the trial's earlier failure, and
        is not kept (False) where there is a final record. Raises StoreError where it cannot be written."""
        final = self._path(record.identity)
        if record.status not in FINAL:
            return self._keep_failure(record, final)
        with explained("keep a finished trial's record at", final):
            make_directory(final.parent)
            kept = self._place(write_beside(final, _pack(record)), final)
            self._failure_path(record.identity).unlink(missing_ok=True)
        return kept

    def get(self, identity: str) -> Record | None:
        """The final record of a trial; None where there is none. Raises StoreError where it is damaged."""
        return self._read(self._path(identity), identity)

    def failure(self, identity: str) -> Record | None:
        """The latest failure of a trial that has no final record. Raises StoreError where it is damaged."""
        if self._path(identity).exists():
            return None
        return self._read(self._failure_path(identity), identity)

    def load(self, identities: Iterable[str]) -> dict[str, Record]:
        """The final records that are there, by identity, in the order asked for. Raises StoreError that
        names every damaged file."""
        records: dict[str, Record] = {}
        damaged: dict[Path, str] = {}
        for identity in identities:
            path = self._path(identity)
            try:
                if (content := _content(path)) is not None:
                    records[identity] = _unpack(content, identity)
            except _DamagedError as error:
                damaged[path] = str(error)
        if damaged:
            raise _damage_error(damaged)
        return records

    def identities(self) -> set[str]:
        """Every trial that has a final record, whole or damaged."""
        return {path.stem for path in self._files() if path.parent.name != "failures"}

    def repair(self, identities: Iterable[str] | None = None) -> list[Path]:
        """Move damaged files (of `identities`, or all) to `quarantine/`, so that their trials are trained
        again; returns where they are now. Whole records stay untouched."""
        if identities is None:
            paths = list(self._files())
        else:
            paths = [p for i in identities for p in (self._path(i), self._failure_path(i)) if p.exists()]
        moved = []
        for path in paths:
            try:
                _unpack(_content(path) or b"", path.stem)
            except _DamagedError:
                moved.append(self._quarantine(path))
        return moved

    def drop_pruned(self, identities: Iterable[str]) -> list[str]:
        """Forget the pruned records among `identities` and return whose they were: a plan that stops no
        trial early wants these trained to their end. Other records stay."""
        pruned = [i for i, record in self.load(identities).items() if record.status == "pruned"]
        for identity in pruned:
            path = self._path(identity)
            with explained("forget a pruned trial at", path):
                path.unlink(missing_ok=True)
                sync_directory(path.parent)
        return pruned

    # ---- paths

    def _path(self, identity: str) -> Path:
        if not _IDENTITY.fullmatch(identity):
            raise StoreError(f"a trial's identity is 64 hexadecimal digits, not {identity!r}")
        return self.root / identity[:2] / f"{identity}.json"

    def _failure_path(self, identity: str) -> Path:
        return self.root / "failures" / self._path(identity).name

    def _folders(self) -> Iterator[Path]:
        if self.root.is_dir():
            for entry in os.scandir(self.root):
                if _SHARD.fullmatch(entry.name) or entry.name == "failures":
                    yield Path(entry.path)

    def _files(self) -> Iterator[Path]:
        for folder in self._folders():
            yield from (p for p in folder.glob("*.json") if _IDENTITY.fullmatch(p.stem))

    # ---- writing

    def _keep_failure(self, record: Record, final: Path) -> bool:
        path = self._failure_path(record.identity)
        with explained("keep a failed trial's record at", path):
            if final.exists():
                return False
            make_directory(path.parent)
            replace(path, _pack(record))
        return True

    def _place(self, temporary: Path, final: Path) -> bool:
        """Give a synced file its final name unless that is taken; the temporary name is gone after."""
        try:
            if self._hard_links:
                placed = link(temporary, final)
                if placed is not None:
                    return placed
                self._hard_links = False
            with self._locked():
                if final.exists():
                    return False
                os.rename(temporary, final)
                return True
        finally:
            temporary.unlink(missing_ok=True)
            # Also for the loser: the winner may have died between its link and this.
            sync_directory(final.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel gives the lock back when its holder dies, which a claim file would not do.
        with open(self.root / "lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _quarantine(self, path: Path) -> Path:
        folder = self.root / "quarantine"
        with explained("move a damaged record to", folder):
            make_directory(folder)
            number = 1
            while (aside := folder / f"{path.stem}.{number}.json").exists():
                number += 1
            os.rename(path, aside)
            sync_directory(folder)
            sync_directory(path.parent)
        return aside

    def _sweep(self) -> None:
        """Remove what writers that were killed left long ago."""
        before = time.time() - _STALE_SECONDS
        for folder in (self.root, *self._folders()):
            for entry in os.scandir(folder):
                if entry.name.startswith(TEMPORARY_PREFIX):
                    with suppress(FileNotFoundError):  # its writer lives, and is done
                        if entry.stat().st_mtime < before:
                            os.unlink(entry.path)

    # ---- reading

    def _read(self, path: Path, identity: str) -> Record | None:
        try:
            content = _content(path)
            return None if content is None else _unpack(content, identity)
        except _DamagedError as error:
            raise _damage_error({path: str(error)}) from error


def _content(path: Path) -> bytes | None:
    """The bytes of a file, None where there is none; one that cannot be read is not damaged by that, unless
    no record is like that."""
    try:
        return read_file(path, _MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.EINVAL, errno.ELOOP):
            raise _DamagedError(error.strerror or str(error)) from error
        raise StoreError(
            f"cannot read the record {path}: {error.strerror or error}; mend that and run again"
        ) from error


def _damage_error(damaged: dict[Path, str]) -> StoreError:
    shown = "; ".join(f"{path}: {why}" for path, why in list(damaged.items())[:5])
    more = f"; and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    return StoreError(
        f"damaged record{'s' if len(damaged) > 1 else ''} in the ledger: {shown}{more}. `ablator run "
        "--repair STUDY` moves what is damaged aside and trains those trials again; every other record stays"
    )
