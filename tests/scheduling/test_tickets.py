"""A store that takes no ticket, as one on a full disk: the run ends with the reason, and hangs nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablator.contracts.events import Ticket
from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.results.leases import Leases
from ablator.results.store import Store
from ablator.scheduling.queue import TrialQueue


def test_a_ticket_that_cannot_be_written_ends_the_queue(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    (store.root / "tickets").touch()
    tickets = [Ticket(identity=f"{number:064x}", spec={}, label="n = 4", seed=number) for number in range(3)]

    def never(ticket: Ticket, result: Any) -> Record:
        raise AssertionError("nothing was trained")

    with Leases(store) as leases:
        queue = TrialQueue(
            tickets,
            [],
            store=store,
            limit=2,
            on_event=lambda event: None,
            outcome=never,
            leases=leases,
        )
        assert queue.suggest("t0") is None
        assert isinstance(queue.error, StoreError)
        assert str(queue.error).startswith(f"cannot write the ticket {store.root}/tickets/")
        assert queue.exhausted
        assert queue.suggest("t1") == "FINISHED"
