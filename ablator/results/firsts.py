"""Objects of which the first that is written stays, over an object store that has no such writing."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ablator.results.durable import make_directory, replace
from ablator.results.files import MOST_BYTES
from ablator.results.objects import in_parallel

if TYPE_CHECKING:
    from ablator.results.objects import ObjectFiles

_FEW = 4
"""Names that are looked for one by one; for more, all are listed at once, a thousand a request."""
_DIGEST_BYTES = 32


class FirstFiles:
    """`Firsts`: a file NAME is the first of the objects NAME/CANDIDATE, by the store's own clock and then by
    the writers'. Every writer adds a candidate of its own, unless there is one, and then asks which one is
    the first; every reader asks the same. So a writer that comes too late changes nothing, and one that dies
    in between has written.

    A store's clock may tell whole seconds only, and clocks of two writers may differ: of two candidates of
    the same second the one that was written later may count, also for a reader that saw the other one alone
    before. They are results of one trial that was trained twice at once, as by a worker that came back.

    What was read is kept on this machine with a checksum, by the candidate's name: only listings are asked
    again.
    """

    def __init__(self, objects: ObjectFiles, cache: Path) -> None:
        self._objects = objects
        self._cache = cache

    def at(self, name: str) -> str:
        """As of Firsts."""
        return self._objects.at(name)

    def read_all(self, names: Iterable[str], most: int = MOST_BYTES) -> Iterator[tuple[str, bytes | OSError]]:
        """As of Firsts; several at once."""
        wanted = list(names)
        firsts = self._firsts() if len(wanted) > _FEW else {name: self._first(name) for name in wanted}
        there = {name: f"{name}/{first}" for name in wanted if (first := firsts.get(name)) is not None}
        yield from in_parallel(lambda name: self._read(there[name], most), list(there))

    def create(self, name: str, content: bytes) -> bool:
        """As of Firsts."""
        if self._first(name) is not None:
            return False
        own = f"{time.time_ns():019d}-{uuid.uuid4().hex}"
        self._objects.write(f"{name}/{own}", content)
        return self._first(name) == own

    def exists(self, name: str) -> bool:
        """As of Firsts."""
        return self._first(name) is not None

    def names(self, folder: str = "") -> list[str]:
        """As of Firsts."""
        return list(self._firsts(folder))

    def remove(self, name: str) -> None:
        """As of Firsts: all candidates."""
        for candidate in self._objects.names(name):
            self._objects.remove(candidate)

    def move(self, name: str, to: str) -> None:
        """As of Firsts: the first. Where there is another candidate, that one is the first then."""
        first = self._first(name)
        if first is None:
            raise FileNotFoundError(name)
        self._objects.move(f"{name}/{first}", f"{to}/{first}")

    # ---- which is the first

    def _first(self, name: str) -> str | None:
        return self._firsts(name).get(name)

    def _firsts(self, folder: str = "") -> dict[str, str]:
        found: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for path, info in self._objects.listed(folder):
            name, _, candidate = path.rpartition("/")
            found[name].append((int(info.mtime_ns or 0), candidate))
        return {name: min(candidates)[1] for name, candidates in found.items()}

    # ---- what was read

    def _read(self, candidate: str, most: int) -> bytes:
        kept = self._cache / candidate
        with suppress(OSError):
            content = kept.read_bytes()
            digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if hashlib.sha256(content).digest() == digest and len(content) <= most:
                return content
        content = self._objects.read(candidate, most)
        with suppress(OSError):
            # A full disk here costs time only.
            make_directory(kept.parent)
            replace(kept, hashlib.sha256(content).digest() + content, synced=False)
        return content
