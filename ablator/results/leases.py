"""Leases: which trials a run is training at this moment, for other runs that share the store.

    leases/IDENTITY            the owner of one trial's lease
    leases/owners/OWNER.json   the process that owns leases: where it is, and a count that it raises

A lease saves work and protects nothing: the ledger takes the first record of a trial and only the first,
whoever trained it. So a lease may be wrong for a moment, as after a long pause of its owner, at the price of
a trial that is trained twice and kept once.

Whether an owner lives is never read off a clock of another machine. On the owner's own machine the process
table says it; elsewhere its count must have changed within EXPIRY seconds of the reader's own clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ablator.results.durable import canonical_json, explained, link, make_directory, replace, write_beside
from ablator.results.store import Store, checked_name

EXPIRY = 60.0
"""Seconds without a sign of life after which the leases of an owner on another machine are anybody's."""
_BEAT = 10.0
"""Seconds between two signs of life."""


class Leases:
    """The leases of this process. Use as a context: they are given back at its end, and a thread gives signs
    of life until then."""

    def __init__(self, store: Store, *, expiry: float = EXPIRY) -> None:
        self._root = store.root / "leases"
        self._owners = self._root / "owners"
        self._expiry = expiry
        self._owner = uuid.uuid4().hex
        self._mine: set[str] = set()
        self._seen: dict[str, tuple[int, float]] = {}
        """Of other owners the last count, and when it was first seen, on this process's own clock."""
        self._beats = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="ablator-leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for name in list(self._mine):
            self.give_back(name)
        with contextlib.suppress(OSError):
            self._own_file().unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Whether this process has the lease `name` (a trial's identity, say), having taken it if it was free
        or its owner is gone. Raises StoreError where the store cannot be written."""
        path = self._path(name)
        with explained("take a lease in", self._root):
            if not self._beats:
                make_directory(self._root)
                make_directory(self._owners)
                self._beat()
            if name in self._mine or self._place(path):
                self._mine.add(name)
                return True
            owner = _owner_of(path)
            if owner is not None and self._lives(owner):
                return False
            with self._locked():
                # Somebody else may have taken it over since.
                if _owner_of(path) != owner:
                    return False
                replace(path, self._owner.encode(), synced=False)
            self._mine.add(name)
            return True

    def give_back(self, name: str) -> None:
        """End a lease of this process; nothing happens where it has it no more."""
        if name not in self._mine:
            return
        self._mine.discard(name)
        path = self._path(name)
        with contextlib.suppress(OSError):
            if _owner_of(path) == self._owner:
                path.unlink(missing_ok=True)

    def holder(self, name: str) -> str:
        """Who has a lease, in words; empty where nobody has."""
        owner = _owner_of(self._path(name))
        said = None if owner is None else _read(self._owners / f"{owner}.json")
        return "" if said is None else f"process {said['pid']} on {said['host']}"

    # ---- files

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name, "lease")

    def _own_file(self) -> Path:
        return self._owners / f"{self._owner}.json"

    def _place(self, path: Path) -> bool:
        """Put this owner's name there, if nothing is there."""
        temporary = write_beside(path, self._owner.encode(), synced=False)
        try:
            placed = link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if placed is not None:
            return placed
        with self._locked():
            if path.exists():
                return False
            replace(path, self._owner.encode(), synced=False)
            return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._root / ".lock", "ab") as lock:
            # Where the filesystem has no locks two runs may both take a lease, and train a trial twice.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # ---- signs of life

    def _live(self) -> None:
        while not self._over.wait(_BEAT):
            if not self._beats:
                continue
            # A full disk must not end a run that trains; others may then take over what it has.
            with contextlib.suppress(OSError):
                self._beat()

    def _beat(self) -> None:
        self._beats += 1
        said = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
            "beats": self._beats,
        }
        replace(self._own_file(), canonical_json(said), synced=False)

    def _lives(self, owner: str) -> bool:
        said = _read(self._owners / f"{owner}.json")
        if said is None:
            return False
        if said["machine"] == _machine():
            return bool(_born(said["pid"]) == said["born"])
        now = time.monotonic()
        beats, since = self._seen.get(owner, (None, now))
        if beats != said["beats"]:
            self._seen[owner] = (said["beats"], now)
            return True
        return now - since < self._expiry


def _owner_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """What an owner says of itself; None where it says nothing that can be read, as one that is gone."""
    try:
        said = json.loads(path.read_bytes())
        return {
            "host": str(said["host"]),
            "machine": str(said["machine"]),
            "pid": int(said["pid"]),
            "born": str(said["born"]),
            "beats": int(said["beats"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _machine() -> str:
    """What is the same for processes that see each other in /proc: the boot and the process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {uuid.getnode()} {os.getpid()}"


def _born(pid: int) -> str:
    """When a process of this machine was started, in ticks since its boot; empty where there is none. A
    number that was given to another process since has another birth."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    # A zombie's owner is gone, although its number is not.
    return "" if fields[0] == "Z" else fields[19]
