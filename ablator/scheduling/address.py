"""Where a Ray cluster is, without loading what it takes to use one."""

from __future__ import annotations

import socket

from ray._private.services import find_bootstrap_address

_ANSWER_S = 3.0


def running_address() -> str | None:
    """The address of the cluster that `ray start` started on this machine, if it answers; private ones of
    other runs leave none and are not joined."""
    found: str | None = find_bootstrap_address(None)
    return found if found and answers(found) else None


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT or ray://HOST:PORT; other schemes are Ray's to judge."""
    scheme, _, place = address.rpartition("://")
    if scheme not in ("", "ray"):
        return True
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S):
            return True
    except (OSError, ValueError):
        return False
