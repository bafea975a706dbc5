"""Where a file that is written on one machine goes so that another machine finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Depot(Protocol):
    """The way between a file of this machine and the store, where that is not the same place."""

    def bring(self, path: Path) -> object:
        """Fetch what the store has under `path`, over what is there; nothing happens where it has nothing.
        Raises StoreError."""
        ...

    def publish(self, path: Path) -> None:
        """Put the file at `path` into the store. One that is away must not cost the trial."""
        ...
