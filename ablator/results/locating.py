"""What `--store` names: a folder, or the address of an object store."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ablator.contracts.secrets import split_uri
from ablator.errors import StoreError
from ablator.results.files import Files, LocalFiles

if TYPE_CHECKING:
    from ablator.results.objects import ObjectFiles

KINDS = ("s3", "gs", "gcs", "abfs", "abfss")
"""Schemes of object stores."""
CACHE = "ABLATOR_CACHE"
"""The variable that names the folder in which stores that lie elsewhere have theirs on this machine."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/(/?)(.*)", re.DOTALL)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud's own",
    "ab": "AZURE_STORAGE_KEY, or the machine's identity",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a store lies."""

    uri: str
    folder: Path
    """The store's own, or what a store that lies elsewhere has on this machine."""
    files: Files
    bucket: ObjectFiles | None = None
    """`files`, of an object store."""


def locate(root: Path | str) -> Place:
    """Where the store `root` lies; nothing is asked or touched. Raises StoreError for an address that no
    store can have, or that holds credentials."""
    address = _ADDRESS.fullmatch(str(root))
    if address is None or len(address[1]) == 1:
        folder = Path(root).absolute()
        return Place(uri=str(folder), folder=folder, files=LocalFiles(folder))
    scheme, both, rest = address[1].lower(), address[2], address[3]
    if scheme == "file":
        # file:///folder, file:/folder and, as a Path writes it, the latter for the former.
        return locate(Path(unquote(f"/{rest}".replace("//", "/"))))
    if scheme not in KINDS:
        raise StoreError(
            f"--store {scheme}://…: no store lies there; name a folder, or an address that begins with "
            f"{', '.join(f'{kind}://' for kind in ('file', *KINDS))}"
        )
    if isinstance(root, Path) or not both:
        raise StoreError(
            f"--store {scheme}:/…: the address of an object store is text, {scheme}://BUCKET/PREFIX, and no "
            "Path, which loses a slash of it"
        )
    return _bucket(scheme, f"{scheme}://{rest}")


def _bucket(scheme: str, uri: str) -> Place:
    bare, user, query = split_uri(uri)
    # Of Azure a name stands there, that of the container.
    if user and (":" in user or not scheme.startswith("abfs")):
        raise StoreError(
            f"--store {bare}: the address holds a user or a key (before the @), and the store's address is "
            f"handed to workers and written down; credentials come from the environment "
            f"({_CREDENTIALS[scheme[:2]]}): leave them away"
        )
    path = "@".join(part for part in (user, bare.partition("://")[2].strip("/")) if part)
    if not path:
        raise StoreError(f"--store {bare}: it names no bucket; an address is {scheme}://BUCKET/PREFIX")
    from ablator.results.objects import ObjectFiles

    full = f"{scheme}://{path}" + (f"?{query}" if query else "")
    files = ObjectFiles.at_address(scheme, path, query, full)
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", path).strip("-.")[:60]
    digest = hashlib.sha256(full.encode()).hexdigest()[:12]
    return Place(uri=full, folder=_cache() / f"{name}-{digest}", files=files, bucket=files)


def _cache() -> Path:
    named = os.environ.get(CACHE)
    if named:
        return Path(named).absolute() / "stores"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "ablator" / "stores"
