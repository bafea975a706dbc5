"""Leases: which trials a run is training at this moment, for other runs that share the store.

    leases/IDENTITY            the owner of one trial's lease, in a folder
    claims/IDENTITY.OWNER      the same in an object store; how each is taken, `claims.py` says
    leases/owners/OWNER.json   the process that owns leases: where it is, and a count that it raises

A lease saves work and protects nothing: the ledger takes the first record of a trial and only the first,
whoever trained it. So a lease may be wrong for a moment, as after a long pause of its owner, at the price of
a trial that is trained twice and kept once.

Whether an owner lives is never read off a clock of another machine. On the owner's own machine the process
table says it; elsewhere its count must have changed within EXPIRY seconds of the reader's own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from ablator.errors import StoreError
from ablator.results.durable import canonical_json, explained
from ablator.results.files import Spot
from ablator.results.store import Store, checked_name

EXPIRY = 60.0
"""Seconds without a sign of life after which the leases of an owner on another machine are anybody's."""
_BEAT = 10.0
"""Seconds between two signs of life."""


class Leases:
    """The leases of this process. Use as a context: they are given back at its end, and a thread gives signs
    of life until then."""

    def __init__(self, store: Store, *, expiry: float = EXPIRY) -> None:
        self._store = store
        self._claims = store.claims
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
            spot = self._own()
            spot.files.remove(spot.name)

    def take(self, name: str) -> bool:
        """Whether this process has the lease `name` (a trial's identity, say), having taken it if it was free
        or its owner is gone. Raises StoreError where the store cannot be written."""
        checked_name(name, "lease")
        with explained("take a lease in", self._store.files.at("leases")):
            if not self._beats:
                self._beat()
            if name in self._mine or self._claims.take(name, self._owner, self._lives):
                self._mine.add(name)
                return True
        return False

    def give_back(self, name: str) -> None:
        """End a lease of this process; nothing happens where it has it no more."""
        if name not in self._mine:
            return
        self._mine.discard(name)
        with contextlib.suppress(OSError):
            self._claims.give_back(name, self._owner)

    def holder(self, name: str) -> str:
        """Who has a lease, in words; empty where nobody has."""
        owner = self._claims.holder(checked_name(name, "lease"))
        said = None if owner is None else self._said(owner)
        return "" if said is None else f"process {said['pid']} on {said['host']}"

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
        spot = self._own()
        # Said again soon, and a run that trains does not wait for it.
        spot.files.write(spot.name, canonical_json(said), synced=False, patience=0.0)

    def _lives(self, owner: str) -> bool:
        said = self._said(owner)
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

    def _own(self) -> Spot:
        return self._store.owner(self._owner)

    def _said(self, owner: str) -> dict[str, Any] | None:
        """What an owner says of itself; None where it says nothing that can be read, as one that is gone."""
        try:
            spot = self._store.owner(owner)
        except StoreError:  # no owner has such a name
            return None
        try:
            return _parsed(spot.files.read(spot.name))
        except FileNotFoundError:
            return None


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(content)
        return {
            "host": str(said["host"]),
            "machine": str(said["machine"]),
            "pid": int(said["pid"]),
            "born": str(said["born"]),
            "beats": int(said["beats"]),
        }
    except (ValueError, KeyError, TypeError):
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
