"""What the store asks of the place that it lies in: whole files by name, in a folder or an object store.

A name is relative and has `/` between its parts, whatever the place. Two places are known: a folder, below,
and an object store (`objects.py`).
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ablator.contracts.reading import read_file
from ablator.results.durable import (
    TEMPORARY_PREFIX,
    link,
    make_directory,
    replace,
    sync_directory,
    write_beside,
)

MOST_BYTES = 256 * 2**20
"""More than any file of the store that is read into memory."""
_LOCK = "lock"
_STALE_SECONDS = 24 * 3600


class Firsts(Protocol):
    """Files that are created once and never written over. Every method raises OSError where the place fails,
    whose `strerror` says why in words; threads and processes may use the same place at once."""

    def at(self, name: str) -> str:
        """Where `name` lies, for messages: a path or an address, without secrets."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Put `content` there unless something is: the first of any number of writers gets True, and all
        readers read its content for good. Durable once this returns."""
        ...

    def read_all(self, names: Iterable[str], most: int = MOST_BYTES) -> Iterator[tuple[str, bytes | OSError]]:
        """The contents of those that are there, in the order asked for, or why one cannot be read (EFBIG for
        more than `most` bytes)."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Every file below `folder`, which need not be there, in no order; unfinished ones left out."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a file another name, which is free. Raises FileNotFoundError."""
        ...


class Files(Protocol):
    """Files that may be written over, and otherwise the same."""

    def at(self, name: str) -> str:
        """As of Firsts."""
        ...

    def open(self) -> None:
        """Make the place where it is missing, and prove that it can be written."""
        ...

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """The whole content. Raises FileNotFoundError, and OSError (EFBIG) for more than `most` bytes."""
        ...

    def read_all(self, names: Iterable[str], most: int = MOST_BYTES) -> Iterator[tuple[str, bytes | OSError]]:
        """As of Firsts."""
        ...

    def write(self, name: str, content: bytes, *, synced: bool = True, patience: float | None = None) -> None:
        """Put `content` there so that a reader sees the old one or the new one. Durable once this returns,
        unless it need not be `synced`. `patience`: seconds for which a place that is away is tried again,
        if not as long as usual."""
        ...

    def exists(self, name: str) -> bool:
        """As of Firsts."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """As of Firsts."""
        ...

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The same with the number of bytes."""
        ...

    def remove(self, name: str) -> None:
        """As of Firsts."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a file another name, over what lies there. Raises FileNotFoundError."""
        ...

    def bring(self, name: str, to: Path) -> bool:
        """Copy a file to `to` on this machine, whole or not at all; False where there is none."""
        ...

    def publish(self, path: Path, name: str, *, patience: float | None = None) -> None:
        """Copy the file at `path` on this machine to `name`, as `write` does."""
        ...


@dataclasses.dataclass(frozen=True)
class Spot:
    """One file of a place."""

    files: Files
    name: str

    def __str__(self) -> str:
        return self.files.at(self.name)


class LocalFiles:
    """A folder on a disk of this machine or on one that machines share (NFS).

    A created file appears under its name by a hard link, which fails where the name is taken. Where the
    filesystem has no hard links (some network and removable ones), a rename under an exclusive lock does the
    same, for all processes that see that lock.
    """

    def __init__(self, root: Path, *, hard_links: bool = True) -> None:
        self.root = root
        self._hard_links = hard_links

    def at(self, name: str) -> str:
        """As of Files and Firsts."""
        return str(self.root / name)

    def open(self) -> None:
        """As of Files; also removes what writers that were killed left long ago."""
        make_directory(self.root)
        self._sweep()
        probe = self.root / f"{TEMPORARY_PREFIX}probe-{os.getpid()}-{time.monotonic_ns()}"
        try:
            assert self._place(write_beside(probe, b"probe"), probe), "a fresh name cannot be taken"
        finally:
            probe.unlink(missing_ok=True)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """As of Files and Firsts."""
        return read_file(self.root / name, most)

    def read_all(self, names: Iterable[str], most: int = MOST_BYTES) -> Iterator[tuple[str, bytes | OSError]]:
        """As of Files and Firsts."""
        for name in names:
            try:
                yield name, self.read(name, most)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield name, error

    def write(self, name: str, content: bytes, *, synced: bool = True, patience: float | None = None) -> None:
        """As of Files and Firsts."""
        path = self.root / name
        make_directory(path.parent)
        replace(path, content, synced=synced)

    def create(self, name: str, content: bytes) -> bool:
        """As of Files and Firsts."""
        path = self.root / name
        make_directory(path.parent)
        return self._place(write_beside(path, content), path)

    def exists(self, name: str) -> bool:
        """As of Files and Firsts."""
        return (self.root / name).exists()

    def names(self, folder: str = "") -> list[str]:
        """As of Files. A folder that has the name of a JSON file is listed as one, to be found as damage."""
        names = _below(self.root / folder, f"{folder}/" if folder else "")
        return [name for name in names if name != _LOCK]

    def sizes(self, folder: str = "") -> dict[str, int]:
        """As of Files and Firsts."""
        found = {}
        for name in self.names(folder):
            with suppress(FileNotFoundError):
                found[name] = (self.root / name).stat().st_size
        return found

    def remove(self, name: str) -> None:
        """As of Files and Firsts."""
        path = self.root / name
        try:
            path.unlink()
        except FileNotFoundError:
            return
        sync_directory(path.parent)

    def move(self, name: str, to: str) -> None:
        """As of Files and Firsts."""
        source, target = self.root / name, self.root / to
        make_directory(target.parent)
        os.replace(source, target)
        sync_directory(target.parent)
        sync_directory(source.parent)

    def bring(self, name: str, to: Path) -> bool:
        """As of Files and Firsts."""
        if to != self.root / name:
            try:
                content = self.read(name)
            except FileNotFoundError:
                return False
            make_directory(to.parent)
            replace(to, content, synced=False)
        return to.exists()

    def publish(self, path: Path, name: str, *, patience: float | None = None) -> None:
        """As of Files and Firsts."""
        if path != self.root / name:
            self.write(name, path.read_bytes())

    # ---- how a name is taken

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
        with open(self.root / _LOCK, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        before = time.time() - _STALE_SECONDS
        below = (Path(entry.path) for entry in os.scandir(self.root) if entry.is_dir())
        for folder in (self.root, *below):
            for entry in os.scandir(folder):
                if entry.name.startswith(TEMPORARY_PREFIX):
                    with suppress(FileNotFoundError):  # its writer lives, and is done
                        if entry.stat().st_mtime < before:
                            os.unlink(entry.path)


def _below(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if entry.is_dir() and not entry.name.endswith(".json"):
            yield from _below(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}"
