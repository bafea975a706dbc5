"""Sending later what MLflow missed."""

from __future__ import annotations

import dataclasses

from ablator.errors import StoreError, TrackingError
from ablator.results.outbox import Outbox, shown_uri, waiting
from ablator.results.sender import BusyError, Sender, is_refusal
from ablator.results.store import Store
from ablator.results.tracking import OFF, Target, check_server, target


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What `sync` did. Entries are trials and studies' reports."""

    sent: int
    left: int
    """Still in the outbox; not zero means that something is wrong."""
    by_study: dict[str, tuple[int, int]]
    """Study to (sent, left)."""
    problems: tuple[str, ...]
    """Why entries are left, one line each, without secrets."""


def sync(store: Store, uri: str | None = None) -> SyncResult:
    """Send everything that waits in the store's outbox, each exactly once.

    Without `uri` each entry goes where it was meant to go, and what was run with `--mlflow off` goes to
    the store's own database. With `uri` everything goes there: the way to pass credentials, which are
    never kept, and to move to a new server. Raises TrackingError for a URI that cannot be written to.
    """
    if uri is not None:
        target(store, uri)
    by_study: dict[str, tuple[int, int]] = {}
    problems: list[str] = []
    unreachable: dict[str, str] = {}
    for outbox in _destinations(store, uri, unreachable):
        study, waited = outbox.folder.name, len(outbox.names())
        problems += _send_all(outbox, unreachable)
        left = len(outbox.names())
        before = by_study.get(study, (0, 0))
        by_study[study] = (before[0] + waited - left, before[1] + left)
    sent, left = (sum(counts[i] for counts in by_study.values()) for i in (0, 1))
    return SyncResult(sent=sent, left=left, by_study=by_study, problems=tuple(dict.fromkeys(problems)))


def _destinations(store: Store, uri: str | None, unreachable: dict[str, str]) -> list[Outbox]:
    """One outbox for each study and target, with everything moved to where it goes."""
    found: dict[tuple[str, str], Outbox] = {}
    for folder, study in list(waiting(store)):
        source = Target(folder, OFF)
        if uri is not None:
            destination = target(store, uri)
        elif folder in (OFF, "store"):
            destination = target(store, None)
        elif (address := shown_uri(store, folder)) is not None:
            destination = target(store, address)
        else:
            destination = source
            unreachable[folder] = (
                f"it is not known where {folder}/{study} was to go: name it with --mlflow URI"
            )
        outbox = found.setdefault((destination.folder, study), Outbox(store, destination, study))
        if destination.folder != folder:
            outbox.adopt(Outbox(store, source, study))
    return list(found.values())


def _send_all(outbox: Outbox, unreachable: dict[str, str]) -> list[str]:
    """Send one study's entries; the problems met. A target that is away is tried once per `sync`."""
    there = outbox.target
    if there.folder in unreachable:
        return [unreachable[there.folder]]
    problems: list[str] = []
    sender = Sender(outbox)
    try:
        check_server(there.uri)
        for name in outbox.names():
            try:
                sender.send(name, maybe_sent=True)
            except BusyError as error:
                return [str(error)]
            except StoreError as error:
                problems.append(str(error))
            except TrackingError as error:
                return [str(error)]
            except Exception as error:  # noqa: BLE001 - what MLflow raises is not listed anywhere
                problems.append(f"MLflow ({there.shown}): {there.scrub(' '.join(str(error).split()))}")
                if not is_refusal(error):
                    unreachable[there.folder] = problems[-1]
                    break
    except TrackingError as error:
        unreachable[there.folder] = str(error)
        problems.append(str(error))
    finally:
        sender.close()
    return problems
