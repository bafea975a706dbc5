"""The samples that a search drew, in order, so that an interrupted search goes on where it was."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import zlib
from pathlib import Path
from typing import Any

from ablator.contracts.reading import read_file
from ablator.errors import StoreError
from ablator.results.durable import canonical_json, explained, make_directory, sync_directory
from ablator.results.files import Files

_MOST_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One point of the search space and the trials (one a seed) that it became."""

    sample: int
    """Counts from 0 within the search."""
    point: dict[str, Any]
    """Dotted key to value, as the sampler drew it."""
    identities: tuple[str, ...]
    """Of its trials, in the order of the seeds."""


class Journal:
    """What a search drew, in a file with one JSON object a line, to which lines are added. One run at a time
    does (`scheduling/sweep.py` takes a lease for it); any number of others read it meanwhile. A line that a
    crash cut short was never acknowledged, and is dropped; any other damage is refused by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Of the search, among all of the store."""
        return self.path.stem

    def append(self, sample: Sample) -> None:
        """Add one sample; durable once this returns. Raises StoreError."""
        with explained("write the search journal", self.path):
            make_directory(self.path.parent)
            fresh = not self.path.exists()
            with open(self.path, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _cut_torn_line(file.fileno())
                file.write(_line(sample) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                sync_directory(self.path.parent)

    def size(self) -> int:
        """Bytes; 0 where there is no journal. It grows with every sample."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[Sample]:
        """Every sample, in order of drawing; empty where there is no journal. Raises StoreError."""
        try:
            content = read_file(self.path, _MOST_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot read the search journal {self.path}: {error.strerror}") from error
        samples: dict[int, Sample] = {}
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            where = f"{self.path}, line {number}"
            sample = _parsed(line, where)
            if sample.sample in samples:
                raise _damage(where, f"sample {sample.sample} is there twice")
            samples[sample.sample] = sample
        return list(samples.values())


class ObjectJournal(Journal):
    """The same in an object store, which cannot append: an object FOLDER/NUMBER.json for every sample. What
    was read once is kept, as no sample ever changes."""

    def __init__(self, files: Files, folder: str) -> None:
        super().__init__(Path(folder))
        self._files = files
        self._folder = folder
        self._known: dict[str, Sample] = {}

    @property
    def name(self) -> str:
        """As of Journal."""
        return self._folder.rpartition("/")[2]

    def append(self, sample: Sample) -> None:
        """As of Journal."""
        name = f"{self._folder}/{sample.sample:06d}.json"
        with explained("write the search journal", self._files.at(name)):
            self._files.write(name, _line(sample))

    def size(self) -> int:
        """As of Journal: samples."""
        return len(self._names())

    def read(self) -> list[Sample]:
        """As of Journal."""
        names = self._names()
        with explained("read the search journal", self._files.at(self._folder)):
            for name, content in self._files.read_all([n for n in names if n not in self._known]):
                if isinstance(content, OSError):
                    raise content
                self._known[name] = _parsed(content, self._files.at(name))
        return [self._known[name] for name in names if name in self._known]

    def _names(self) -> list[str]:
        with explained("list the search journal", self._files.at(self._folder)):
            return sorted(self._files.names(self._folder))


def _line(sample: Sample) -> bytes:
    body = {"sample": sample.sample, "point": sample.point, "identities": list(sample.identities)}
    return canonical_json({**body, "crc32": zlib.crc32(canonical_json(body))})


def _parsed(line: bytes, where: str) -> Sample:
    try:
        data = json.loads(line)
        crc32 = data.pop("crc32")
        sample = Sample(**{**data, "identities": tuple(data["identities"])})
        if not _is_sound(sample):
            raise TypeError("a value is of another type")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damage(where, "it is not a sample") from error
    if crc32 != zlib.crc32(canonical_json(data)):
        raise _damage(where, "it does not match its checksum")
    return sample


def _damage(where: str, why: str) -> StoreError:
    return StoreError(
        f"damaged search journal {where}: {why}. Remove that file and run again: the search starts anew, and "
        "what the ledger holds is not trained again"
    )


def _is_sound(sample: Sample) -> bool:
    texts = all(isinstance(identity, str) for identity in sample.identities)
    return type(sample.sample) is int and isinstance(sample.point, dict) and texts


def _cut_torn_line(descriptor: int) -> None:
    """Drop what follows the last line break, which only a crash leaves."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        content = os.pread(descriptor, size, 0)
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)
