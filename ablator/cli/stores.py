"""What `--store` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ablator.errors import StoreError

if TYPE_CHECKING:
    from ablator.results.store import Store


def readable(named: str) -> Store:
    """The store, which need not be there yet. Raises StoreError for what can be none."""
    from ablator.results.store import Store

    store = Store(named)
    if not store.remote and store.root.exists() and not store.root.is_dir():
        raise StoreError(f"--store {named} is a file; a store is a folder: name another one")
    return store


def existing(named: str) -> Store:
    """The store, which is there. Raises StoreError."""
    store = readable(named)
    if not store.remote and not store.root.exists():
        raise StoreError(f"--store {named}: there is none; `ablator run` makes it (or name another one)")
    return made(named)


def made(named: str) -> Store:
    """The store, made where it is not there. Raises StoreError."""
    return readable(named).open(named)


def reports(named: str) -> Path:
    """Where the reports that a path or an address names lie on this machine: of a store in an object store
    they are fetched. Raises StoreError."""
    if "://" not in named:
        return Path(named)
    store = readable(named)
    store.bring_folder(store.root / "reports", ending="/results.json")
    return store.root
