"""The folder that `--store` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ablator.errors import StoreError

if TYPE_CHECKING:
    from ablator.results.store import Store


def readable(folder: Path) -> Store:
    """The store, which need not be there yet. Raises StoreError for what can be none."""
    from ablator.results.store import Store

    if folder.exists() and not folder.is_dir():
        raise StoreError(f"--store {folder} is a file; a store is a folder: name another one")
    return Store(folder)


def existing(folder: Path) -> Store:
    """The store, which is there. Raises StoreError."""
    if not folder.exists():
        raise StoreError(f"--store {folder}: there is none; `ablator run` makes it (or name another one)")
    return made(folder)


def made(folder: Path) -> Store:
    """The store, made where it is not there. Raises StoreError."""
    store = readable(folder).open(folder)
    store.tickets.mkdir(exist_ok=True)
    return store
