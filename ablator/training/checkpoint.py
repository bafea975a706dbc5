"""Checkpoints: one file that is either the old state or the new one, whatever dies in between."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed as dist

from ablator.contracts.archives import check_archive
from ablator.contracts.depot import Depot
from ablator.contracts.protocols import World
from ablator.errors import StoreError

_FORMAT = 1
_DIGEST_BYTES = 32
_CHUNK_BYTES = 2**20
_UNREADABLE = (
    *(OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, MemoryError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What torch raises for files that it did not write."""
REMEDY = "delete it, and the trial starts again from its beginning"


class Saver:
    """When and where one trial's state is kept: rank 0 reads and writes, every worker gets what it read."""

    def __init__(
        self,
        path: Path | None,
        tag: str,
        seconds: float,
        world: World,
        device: torch.device,
        depot: Depot | None = None,
    ) -> None:
        self.path = path
        self._depot = depot
        self._tag, self._seconds, self._world, self._device = tag, seconds, world, device
        self._last = time.monotonic()
        self._missed = 0
        self._why = ""

    @property
    def writes(self) -> bool:
        """Whether this worker is the one that keeps checkpoints."""
        return self.path is not None and self._world.rank == 0

    def due(self) -> bool:
        """Whether this worker should save within the epoch."""
        return self.writes and time.monotonic() - self._last >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """`save` under the trial's tag. Where the place takes nothing the trial goes on without: the next
        checkpoint is the next try, and until then the file is the last one that could be written."""
        assert self.path is not None
        try:
            save(self.path, self._tag, state)
        except StoreError as error:
            self._missed += 1
            self._why = str(error.__cause__)
        else:
            if self._depot is not None:
                self._depot.publish(self.path)
        self._last = time.monotonic()

    def notes(self) -> tuple[str, ...]:
        """A footnote, where checkpoints could not be written."""
        if not self._missed:
            return ()
        count = "one checkpoint" if self._missed == 1 else f"{self._missed} checkpoints"
        return (f"{count} could not be written ({_first_line(self._why)})",)

    def load(self) -> dict[str, Any] | None:
        """`load` on rank 0, and the same state or StoreError on every worker (a collective call): the
        workers need no common disk."""
        if self.path is None:
            return None
        if self._world.size == 1:
            return self._fetched(self.path)
        held: list[Any] = [None, None]
        if self._world.rank == 0:
            try:
                held[0] = self._fetched(self.path)
            except StoreError as error:
                held[1] = str(error)
        dist.broadcast_object_list(held, src=0, device=self._device)
        if held[1] is not None:
            raise StoreError(held[1])
        return dict(held[0]) if held[0] is not None else None

    def _fetched(self, path: Path) -> dict[str, Any] | None:
        if self._depot is not None:
            self._depot.bring(path)
        return load(path, self._tag)


def save(path: Path, tag: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) so that `path` is replaced in one
    step: written beside, synced, renamed. Raises StoreError where the place cannot be written."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w+b") as file:
            torch.save({"format": _FORMAT, "tag": tag, "state": state}, file)
            file.write(_digest(file, file.tell()))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        with suppress(OSError):
            beside.unlink()
        raise StoreError(f"checkpoint {path} cannot be written: {error}") from error


def load(path: Path, tag: str) -> dict[str, Any] | None:
    """The state that `save` wrote, on CPU; None where there is none. What a killed writer left beside it
    is removed. Raises StoreError where the file is damaged, or was written under another tag."""
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            _check_digest(file)
            check_archive(file)
            held = torch.load(file, map_location="cpu", weights_only=True)
        form, written, state = held["format"], held["tag"], held["state"]
        if not isinstance(state, dict):
            raise TypeError("its state is no mapping")
    except _UNREADABLE as error:
        raise _damage(path, error) from error
    if form != _FORMAT:
        raise StoreError(f"checkpoint {path} has format {form}, this version reads {_FORMAT}; {REMEDY}")
    if written != tag:
        raise StoreError(f"checkpoint {path} belongs to another trial ({written!r}, not {tag!r}); {REMEDY}")
    return dict(state)


def verify(path: Path) -> None:
    """Compare the file with its checksum, without loading it; nothing happens where there is none. Raises
    StoreError where it is damaged."""
    try:
        with path.open("rb") as file:
            _check_digest(file)
    except FileNotFoundError:  # a trial that another process has just finished
        return
    except OSError as error:
        raise _damage(path, error) from error


def _damage(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"checkpoint {path} is damaged ({_first_line(error)}); `ablator run --repair STUDY` moves it aside, "
        f"or {REMEDY}"
    )


def _check_digest(file: BinaryIO) -> None:
    """torch does not look at its archive's checksums: a flipped bit would train on, or fail in any way."""
    size = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
    if size < 0:
        raise OSError("the file is cut short")
    expected = _digest(file, size)
    if file.read() != expected:
        raise OSError("its content does not match its checksum")
    file.seek(0)


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first `size` bytes; the file is left right behind them. torch's archive reader does
    not mind the digest that `save` puts there."""
    found = hashlib.sha256()
    file.seek(0)
    while size > 0:
        chunk = file.read(min(size, _CHUNK_BYTES))
        assert chunk, "the file is as long as it was a moment ago"
        found.update(chunk)
        size -= len(chunk)
    return found.digest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(error: Exception | str) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
