"""Tickets on their way from the driver to a slot: files with a checksum, because a spec that is not the one
asked for would be trained under its identity."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ablator.contracts.events import Ticket
from ablator.contracts.settings import as_plain
from ablator.errors import StoreError
from ablator.results.durable import canonical_json, explained
from ablator.results.store import Store


def write_ticket(store: Store, ticket: Ticket) -> None:
    """Put the ticket where `read_ticket` finds it. Raises StoreError."""
    spot = store.ticket(ticket.identity)
    plain = as_plain(ticket)
    with explained("write the ticket", str(spot)):
        spot.files.write(spot.name, canonical_json({"ticket": plain, "sha256": _digest(plain)}), synced=False)


def read_ticket(store: Store, identity: str) -> dict[str, Any]:
    """The ticket as plain JSON. Raises StoreError where it is damaged or not there."""
    spot = store.ticket(identity)
    with explained("read the ticket", str(spot)):
        content = spot.files.read(spot.name)
    try:
        said = json.loads(content)
        ticket: dict[str, Any] = said["ticket"]
        whole = said["sha256"] == _digest(ticket) and ticket["identity"] == identity
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise StoreError(f"damaged ticket {spot}: it does not match its checksum; run again")
    return ticket


def _digest(plain: Any) -> str:
    return hashlib.sha256(canonical_json(plain)).hexdigest()
