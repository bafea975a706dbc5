"""The final records of a store, each read once.

A final record never changes, so that who asks for a study's records again and again (what is ahead, what is
missing, which seeds are asked for, the table) need not read thousands of files each time.
"""

from __future__ import annotations

from collections.abc import Iterable

from ablator.contracts.record import Record
from ablator.results.ledger import Ledger


class ReadOnce:
    """What was read of a ledger so far; for one command's time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._records: dict[str, Record] = {}

    def load(self, identities: Iterable[str]) -> dict[str, Record]:
        """As `Ledger.load`; only what was not there when it was asked for last is looked for."""
        wanted = list(identities)
        self._records |= self._ledger.load([one for one in wanted if one not in self._records])
        return {one: self._records[one] for one in wanted if one in self._records}

    def get(self, identity: str) -> Record | None:
        """As `Ledger.get`."""
        return self.load([identity]).get(identity)

    def drop_pruned(self, identities: Iterable[str]) -> list[str]:
        """As `Ledger.drop_pruned`."""
        pruned = [one for one, record in self.load(identities).items() if record.status == "pruned"]
        for identity in pruned:
            del self._records[identity]
        return self._ledger.drop_pruned(pruned)
