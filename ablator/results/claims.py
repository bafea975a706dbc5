"""How a lease is taken, in a folder and in an object store: never have two living owners the same one."""

from __future__ import annotations

import contextlib
import fcntl
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ablator.results.durable import link, make_directory, replace, write_beside
from ablator.results.files import Files

_LOOKS = 6
"""How often an owner looks whether another one's claim, which came at the same time as its own, is gone."""
_PAUSE = 0.2
"""Seconds between two of these looks, on average."""


class Claims(Protocol):
    """Who has which lease. Methods raise OSError where the place fails."""

    def take(self, name: str, owner: str, lives: Callable[[str], bool]) -> bool:
        """Give `owner` the lease where nobody has it for whom `lives` is true."""
        ...

    def give_back(self, name: str, owner: str) -> None:
        """End the lease, if it is `owner`'s."""
        ...

    def holder(self, name: str) -> str | None:
        """The owner of a lease."""
        ...


class FolderClaims:
    """A file a lease with its owner's name, taken by a hard link, and taken over under a lock."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def take(self, name: str, owner: str, lives: Callable[[str], bool]) -> bool:
        """As of Claims."""
        path = self._root / name
        make_directory(self._root)
        if self._place(path, owner):
            return True
        before = self.holder(name)
        if before is None:
            # Given back in this moment. Others may take it now, and only the link knows who was first.
            return self._place(path, owner)
        if lives(before):
            return False
        with self._locked():
            # Somebody else may have taken it over since.
            if self.holder(name) != before:
                return False
            replace(path, owner.encode(), synced=False)
        return True

    def give_back(self, name: str, owner: str) -> None:
        """As of Claims."""
        if self.holder(name) == owner:
            (self._root / name).unlink(missing_ok=True)

    def holder(self, name: str) -> str | None:
        """As of Claims."""
        try:
            # What is damaged names somebody who is not there, so that anybody may take it over.
            return (self._root / name).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None

    def _place(self, path: Path, owner: str) -> bool:
        """Put the owner's name there, if nothing is there."""
        temporary = write_beside(path, owner.encode(), synced=False)
        try:
            placed = link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if placed is not None:
            return placed
        with self._locked():
            if path.exists():
                return False
            replace(path, owner.encode(), synced=False)
            return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._root / ".lock", "ab") as lock:
            # Where the filesystem has no locks two runs may both take a lease, and train a trial twice.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class ObjectClaims:
    """An empty object NAME.OWNER for each claim: object stores have no writing that fails where something is,
    but a listing has every object whose writing ended before it began.

    An owner puts its claim there, lists, and has the lease only where its claim is the only living one. Two
    can never have it: the one whose claim was written later lists when both are there, and sees the other's.
    Where two see each other, the one with the larger name takes its claim back at once, and the other looks
    again a few times, so that one of them gets it; a claim that stays is the lease of its owner.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._swept = False

    def take(self, name: str, owner: str, lives: Callable[[str], bool]) -> bool:
        """As of Claims."""
        if not self._swept:
            self._sweep(lives)
        if any(lives(other) for other in self._others(name, owner)):
            return False
        self._files.write(f"{name}.{owner}", b"")
        try:
            for look in range(_LOOKS):
                if look:
                    time.sleep(random.uniform(0.5, 1.5) * _PAUSE)
                others = self._others(name, owner)
                living = [other for other in others if lives(other)]
                if not living:
                    for gone in others:
                        self._files.remove(f"{name}.{gone}")
                    return True
                if min(living) < owner:
                    break
        except OSError:
            # Nothing is known of it, so that it must not stand in another one's way.
            with contextlib.suppress(OSError):
                self._files.remove(f"{name}.{owner}")
            raise
        self._files.remove(f"{name}.{owner}")
        return False

    def give_back(self, name: str, owner: str) -> None:
        """As of Claims."""
        self._files.remove(f"{name}.{owner}")

    def holder(self, name: str) -> str | None:
        """As of Claims. Of several claims that are there for a moment, any."""
        return next(iter(self._others(name, "")), None)

    def _others(self, name: str, owner: str) -> list[str]:
        return [other for claimed, other in self._all() if claimed == name and other != owner]

    def _all(self) -> list[tuple[str, str]]:
        """Name and owner of every claim."""
        parts = [claim.rpartition(".") for claim in self._files.names()]
        return [(name, owner) for name, _, owner in parts]

    def _sweep(self, lives: Callable[[str], bool]) -> None:
        """Remove, once, the claims of owners that are gone: every listing would have them for ever."""
        self._swept = True
        there = self._all()
        gone = {owner for owner in {owner for _, owner in there} if not lives(owner)}
        for name, owner in there:
            if owner in gone:
                self._files.remove(f"{name}.{owner}")
