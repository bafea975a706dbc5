"""Fetching a data set from its publisher: checked against a digest, and never half written."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from pathlib import Path

from ablator.errors import DataError

OFFLINE = "ABLATOR_OFFLINE"
"""Environment variable; where it is set to anything, nothing is fetched."""
_CONNECT_SECONDS = 10


def fetch(url: str, target: Path, digest: str) -> None:
    """Download `url` to `target`, through a file beside it that is renamed when its digest is right.

    `digest` is "md5:..." or "sha256:...", as the publisher states it. Raises DataError where the network
    or the server cannot be reached, or the content is another one.
    """
    if os.environ.get(OFFLINE):
        raise DataError(f"{url} is not fetched because {OFFLINE} is set")
    algorithm, _, expected = digest.partition(":")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
        with part.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            raise DataError(f"{url} has the {algorithm} digest {found}, its publisher states {expected}")
        part.replace(target)
    except OSError as error:  # URLError is one
        raise DataError(f"{url} cannot be fetched ({getattr(error, 'reason', error)})") from error
    finally:
        part.unlink(missing_ok=True)
