"""A trial's checkpoint on its way into an object store."""

from __future__ import annotations

from pathlib import Path

from ablator.errors import StoreError
from ablator.results.store import Store

_PATIENCE = 10.0
"""Seconds for which a checkpoint waits for a store that is away: training stands still meanwhile."""


class CheckpointDepot:
    """`contracts.Depot` over the store. A checkpoint that cannot be put there is left out: the one before it
    stays, the next one is tried again, and the record says how often."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._skipped = 0
        self._why = ""

    def bring(self, path: Path) -> Path:
        """As of Depot."""
        return self._store.bring(path)

    def publish(self, path: Path) -> None:
        """As of Depot."""
        try:
            self._store.publish(path, patience=_PATIENCE)
        except StoreError as error:
            self._skipped += 1
            self._why = str(error)

    def notes(self) -> tuple[str, ...]:
        """What the record says of it."""
        if not self._skipped:
            return ()
        checkpoints = "a checkpoint" if self._skipped == 1 else f"{self._skipped} checkpoints"
        return (f"{checkpoints} could not be put into the store, and training went on ({self._why})",)
