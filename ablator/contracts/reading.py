"""Reading files that may be anything: a device without an end, a pipe that nobody writes to, or too large."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_seen: contextvars.ContextVar[dict[Path, bytes] | None] = contextvars.ContextVar("seen", default=None)


@contextlib.contextmanager
def noting() -> Iterator[dict[Path, bytes]]:
    """What `read_file` reads during the body: path to content."""
    seen: dict[Path, bytes] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def read_file(path: Path, most: int) -> bytes:
    """The bytes of the regular file at `path`, at most `most` of them.

    Raises OSError for whatever it cannot be read as: what the system says, no regular file, too large, a name
    that no file can have. `strerror` is the reason in words.
    """
    with open(os.open(_named(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _check_regular(os.fstat(file.fileno()).st_mode, path)
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {_size(most)}, the most that is read", str(path))
    if (seen := _seen.get()) is not None:
        seen[path] = content
    return content


def check_regular(path: Path) -> None:
    """Raise OSError, as `read_file`, unless there is a regular file at `path`."""
    _check_regular(os.stat(_named(path)).st_mode, path)


def _named(path: Path) -> str:
    name = str(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "its name holds a NUL character", name)
    return name


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, and no regular file", str(path))


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count // 2**10} KiB"
