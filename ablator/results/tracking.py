"""Which MLflow to write to: reading, checking and hiding the secrets of a tracking URI."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import threading
import urllib.error
import urllib.request
from urllib.parse import unquote

from ablator.contracts.secrets import scrubbed, split_uri, without_secrets
from ablator.errors import TrackingError
from ablator.results.store import Store

OFF = "off"
"""As a tracking URI: write nothing now, keep everything for `ablator sync`."""
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SCHEMES = ("http", "https", "databricks", *_DATABASES)
_SECONDS = 3.0
_HELP = (
    "start it (`ablator ui` shows the command for a local one), name another with --mlflow URI, or run with "
    "`--mlflow off` and send everything later with `ablator sync`"
)


@dataclasses.dataclass(frozen=True)
class Target:
    """One MLflow to write to."""

    folder: str
    """Name of its folders in the store; says nothing about the address."""
    uri: str = dataclasses.field(repr=False)
    """The URI as given, secrets included: for MLflow only, never for logs, tags or files."""

    @property
    def shown(self) -> str:
        """The URI without user, password and query: for messages and files."""
        return without_secrets(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether a server stands between this process and MLflow's database."""
        return self.uri.partition(":")[0].lower() in ("http", "https", "databricks")

    def scrub(self, text: str) -> str:
        """`text`, such as a library's error, without the URI's secrets and all others that are known."""
        text = text.replace(self.uri, self.shown)
        for secret in _secrets(self.uri):
            text = text.replace(secret, "***")
        return scrubbed(text)


def target(store: Store, uri: str | None) -> Target:
    """The target that a tracking URI names; None is the store's own SQLite database, "off" none at all.
    Raises TrackingError where MLflow or this mirror cannot write there."""
    if uri is None:
        # Its own name instead of a hash, so that a store that was moved still knows what it sent.
        return Target("store", f"sqlite:///{store.database}")
    if uri == OFF:
        return Target(OFF, OFF)
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if uri == "databricks" or scheme in _SCHEMES:
        return Target(hashlib.sha256(without_secrets(uri).encode()).hexdigest()[:16], uri)
    if scheme in ("file", "") or "://" not in uri:
        raise TrackingError(
            f"--mlflow {without_secrets(uri)!r}: MLflow no longer writes plain folders (`file:`), which "
            "are slow and cannot be searched; leave the option away for a SQLite database in the store, or "
            "name one: sqlite:///PATH.db"
        )
    raise TrackingError(
        f"--mlflow {without_secrets(uri)!r}: unknown kind of tracking URI {scheme!r}; "
        f"known: {', '.join(_SCHEMES)}"
    )


def check_server(uri: str | None) -> None:
    """Raise TrackingError if `uri` is a server (http, https) that does not answer within 3 seconds, refuses
    the credentials, or answers with an error; databases are not asked."""
    if uri is None or uri.partition(":")[0].lower() not in ("http", "https"):
        return
    answer: list[str] = []
    # A thread, because a name server that does not answer obeys no timeout of ours.
    asking = threading.Thread(target=lambda: answer.append(_ask(uri)), name="mlflow-check", daemon=True)
    asking.start()
    asking.join(_SECONDS)
    why = answer[0] if answer else f"no answer within {_SECONDS:.0f} s"
    if why:
        raise TrackingError(f"the MLflow server {without_secrets(uri)} does not answer ({why}): {_HELP}")


def _ask(uri: str) -> str:
    """Why the server is not usable; empty where it is."""
    name, _, secret = split_uri(uri)[1].partition(":")
    request = urllib.request.Request(without_secrets(uri).rstrip("/") + "/health")
    user = unquote(name) or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = unquote(secret) or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    elif token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return f"it refuses the credentials, HTTP {error.code}"
        return f"HTTP {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def _secrets(uri: str) -> list[str]:
    _, user, query = split_uri(uri)
    password = user.partition(":")[2]
    found = {secret for secret in (user, password, unquote(password), query) if secret}
    return sorted(found, key=len, reverse=True)
