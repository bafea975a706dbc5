"""Files that are whole or absent, whatever dies in between."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablator.errors import StoreError

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
_FOLDER, _BUCKET = "a writable folder with free space", "a bucket that answers and may be written"
TEMPORARY_PREFIX = ".writing-"
"""Names of unfinished files begin so; everything that lists a folder ignores them."""


def canonical_json(value: Any) -> bytes:
    """The one way in which `value` is written: keys sorted, no spaces, UTF-8. NaN and infinities, which
    the curves of a diverged trial hold, are written as NaN and Infinity, as Python's json reads them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@contextmanager
def explained(doing: str, place: Path | str) -> Iterator[None]:
    """Turn an OSError inside into a StoreError that says what could not be done, where (a path, or the
    address of an object), and what helps."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot {doing} {place}: {error.strerror or error}; the store needs "
            f"{_BUCKET if '://' in str(place) else _FOLDER}: mend it, or name another one with --store DIR"
        ) from error


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create `path` and its parents durably; nothing happens where it is there already."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        sync_directory(path.parent)


def write_beside(path: Path, content: bytes, *, synced: bool = True) -> Path:
    """Write `content`, synced, under a temporary name in the folder of `path`; returns that name."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            if synced:
                os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def link(temporary: Path, path: Path) -> bool | None:
    """Give a written file the name `path` as well: True, or False where that is taken; None where the
    filesystem has no hard links, as some network and removable ones."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return None


def replace(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write `path` so that readers see the old content or the new one, and a crash loses neither. What is no
    promise need not be `synced`: a crash of the machine may then lose both."""
    temporary = write_beside(path, content, synced=synced)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if synced:
        sync_directory(path.parent)
