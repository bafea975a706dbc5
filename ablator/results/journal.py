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
    """An append-only file with one JSON object a line. A line that a crash cut short was never
    acknowledged, and is dropped; any other damage is refused by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, sample: Sample) -> None:
        """Add one sample; durable once this returns. Raises StoreError."""
        body = {"sample": sample.sample, "point": sample.point, "identities": list(sample.identities)}
        line = canonical_json({**body, "crc32": zlib.crc32(canonical_json(body))}) + b"\n"
        with explained("write the search journal", self.path):
            make_directory(self.path.parent)
            fresh = not self.path.exists()
            with open(self.path, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _cut_torn_line(file.fileno())
                file.write(line)
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
            sample = self._parse(line, number)
            if sample.sample in samples:
                raise self._damage(number, f"sample {sample.sample} is there twice")
            samples[sample.sample] = sample
        return list(samples.values())

    def _parse(self, line: bytes, number: int) -> Sample:
        try:
            data = json.loads(line)
            crc32 = data.pop("crc32")
            sample = Sample(**{**data, "identities": tuple(data["identities"])})
            if not _is_sound(sample):
                raise TypeError("a value is of another type")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damage(number, "it is not a sample") from error
        if crc32 != zlib.crc32(canonical_json(data)):
            raise self._damage(number, "it does not match its checksum")
        return sample

    def _damage(self, number: int, why: str) -> StoreError:
        return StoreError(
            f"damaged search journal {self.path}, line {number}: {why}. Remove that file and run again: the "
            "search starts anew, and what the ledger holds is not trained again"
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
