"""Where a trial's run is shown: the address of its page in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from ablator.contracts.record import Record
from ablator.results.outbox import Outbox, shown_uri, version_of
from ablator.results.store import Store
from ablator.results.tracking import Target

LOCAL = "http://127.0.0.1:5000"
"""Where `ablator ui` serves the store's own database unless it is told otherwise."""


def run_links(store: Store, study: str, records: Mapping[str, Record]) -> dict[str, str]:
    """Identity to the address of its run, for the trials of a study whose very outcome MLflow has.

    Of several MLflows the one that has most of them counts, the store's own first. A database other than the
    store's has no pages that this store knows of, and gives no links. Addresses hold no secrets.
    """
    best: dict[str, str] = {}
    for folder in sorted(_targets(store, study), key=lambda name: (name != "store", name)):
        found = _links(store, folder, study, records)
        best = found if len(found) > len(best) else best
    return best


def _targets(store: Store, study: str) -> list[str]:
    return [path.parent.name for path in store.sent.glob(f"*/{study}.jsonl")]


def _links(store: Store, folder: str, study: str, records: Mapping[str, Record]) -> dict[str, str]:
    base = _base(store, folder)
    if base is None:
        return {}
    # Only the folder's name is asked of the target: nothing is sent.
    outbox = Outbox(store, Target(folder, base), study)
    if not outbox.experiment:
        return {}
    head = f"{base}/#/experiments/{quote(outbox.experiment, safe='')}/runs/"
    return {
        identity: head + quote(sent.run, safe="")
        for identity, sent in outbox.sent.items()
        if identity in records and sent.version == version_of(records[identity])
    }


def _base(store: Store, folder: str) -> str | None:
    if folder == "store":
        return LOCAL if store.database.exists() else None
    uri = shown_uri(store, folder) or ""
    return uri.rstrip("/") if uri.partition(":")[0].lower() in ("http", "https") else None
