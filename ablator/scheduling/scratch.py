"""Where Ray keeps files of its own during a run: nothing that counts, and gone at the end."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ablator.errors import StoreError
from ablator.results.store import Store

_STALE_S = 7 * 24 * 3600.0
_FOLDER = "scratch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scratch:
    """A place that every node of the cluster sees."""

    path: str
    system: Any = None
    """The file system of pyarrow that `path` is in; None: a folder."""

    def below(self, name: str) -> Scratch:
        """A part of it."""
        return dataclasses.replace(self, path=f"{self.path}/{name}")

    @property
    def options(self) -> dict[str, Any]:
        """As Ray's run configurations take it."""
        return {"storage_path": self.path, "storage_filesystem": self.system}


@contextmanager
def scratch(store: Store, *, joined: bool) -> Iterator[Scratch]:
    """A place for the body's time, in the store; those of runs that were killed are removed after a week. A
    store in an object store is used for a cluster that was `joined` alone, which may have other machines."""
    if store.remote and joined:
        yield from _in_bucket(store)
        return
    place = store.root / _FOLDER
    place.mkdir(parents=True, exist_ok=True)
    for old in place.iterdir():
        if time.time() - old.stat().st_mtime > _STALE_S:
            shutil.rmtree(old, ignore_errors=True)
    path = tempfile.mkdtemp(dir=place)
    try:
        yield Scratch(path=path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _in_bucket(store: Store) -> Iterator[Scratch]:
    system, root = store.for_ray
    place = store.root / _FOLDER
    with suppress(StoreError, OSError):
        for name in {name.split("/")[1] for name in store.files.names(_FOLDER)}:
            began = name.partition("-")[0]
            if began.isdigit() and time.time() - int(began) > _STALE_S:
                store.remove(place / name)
    name = f"{int(time.time())}-{uuid.uuid4().hex[:8]}"
    try:
        yield Scratch(path=f"{root}/{_FOLDER}/{name}", system=system)
    finally:
        with suppress(StoreError):
            store.remove(place / name)
