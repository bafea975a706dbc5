"""Files in an object store (S3 and what speaks like it, Google's, Azure's), through pyarrow.

An object appears whole, when its writing ends. There are no folders: what looks like one is the beginning of
names. A place that is away for a moment is asked again, for `PATIENCE` seconds in all.
"""

from __future__ import annotations

import datetime
import errno
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import pyarrow as pa
from pyarrow import fs

from ablator.contracts.secrets import scrubbed
from ablator.errors import StoreError
from ablator.results.durable import TEMPORARY_PREFIX, make_directory
from ablator.results.files import MOST_BYTES

if TYPE_CHECKING:
    from ablator.results.firsts import FirstFiles

PATIENCE = 120.0
"""Seconds for which a place that is away is asked again; a trial that has its record waits no longer."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0
_CONNECT_SECONDS, _READ_SECONDS = 3.0, 15.0
_OPEN_SECONDS = 4.0
"""The same for a command that begins: whoever waits for it wants to know."""
_READERS = 16
"""Objects that are read at once."""
_LONGEST_TEXT = 240
"""Letters of the library's own words that are shown."""
_CHUNK_BYTES = 8 * 2**20
_OPTIONS = {
    "s3": ("endpoint_override", "scheme", "region", "tls_ca_file_path"),
    "gs": ("endpoint_override", "scheme"),
}
"""What the query of an address may say; of others pyarrow says it."""

_PASSING = (
    *("NETWORK_CONNECTION", "SLOW_DOWN", "THROTTLING", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE"),
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_TIMEOUT", "HTTP status 5", "HTTP status 429"),
    *("Couldn't connect", "imed out"),
)
"""What is in the errors of a place that may be there again in a moment."""
_CAUSES = {
    "NO_SUCH_BUCKET": "there is no such bucket; create it first",
    "access token": "no credentials are found; they come from the environment",
    "AuthenticationException": "no credentials are found; they come from the environment",
    "Could not resolve": "no machine has that name",
    "NETWORK_CONNECTION": "nothing answers there",
    "UNAVAILABLE": "nothing answers there",
    "ACCESS_DENIED": "permission is denied; credentials come from the environment",
    "INVALID_ACCESS_KEY_ID": "the access key is not known there; credentials come from the environment",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is not the access key's",
    "No response body": "it answers, but not as an object store that allows this",
}
"""The same in words, the first that fits; the library's own text follows."""

_T = TypeVar("_T")


class ObjectFiles:
    """`Files` in a bucket, below a prefix."""

    def __init__(self, system: fs.FileSystem, root: str, shown: str) -> None:
        """`root`: bucket/prefix. `shown`: the same as an address, for messages."""
        self._system, self._root, self._shown = system, root, shown
        self.patience = PATIENCE

    @classmethod
    def at_address(cls, scheme: str, path: str, query: str, uri: str) -> ObjectFiles:
        """The place at an address without credentials, which come from the environment as pyarrow finds
        them. Asks nobody, but for the region of an S3 bucket where none is said. Raises StoreError."""
        shown = f"{scheme}://{path}"
        try:
            if scheme == "s3":
                return cls(_s3(path, _said("s3", query, shown)), path, shown)
            if scheme in ("gs", "gcs"):
                return cls(_google(_said("gs", query, shown)), path, shown)
            system, root = fs.FileSystem.from_uri(uri)
        except (OSError, pa.ArrowException, ImportError) as error:
            raise StoreError(f"--store {shown}: {_in_words(error)}") from error
        return cls(system, root, shown)

    def below(self, folder: str) -> ObjectFiles:
        """The place that `folder` of this one is."""
        return ObjectFiles(self._system, f"{self._root}/{folder}", self.at(folder))

    def firsts(self, folder: str, cache: Path) -> FirstFiles:
        """The same, of files of which the first that is written stays; what was read is kept in `cache`, a
        folder of this machine."""
        from ablator.results.firsts import FirstFiles

        return FirstFiles(self.below(folder), cache)

    @property
    def for_ray(self) -> tuple[Any, str]:
        """The file system and the path in it, as Ray takes a place for its own files."""
        return self._system, self._root

    def at(self, name: str) -> str:
        """As of Files."""
        return f"{self._shown}/{name}" if name else self._shown

    def open(self) -> None:
        """As of Files: an object is written, read and removed."""
        probe = f"{TEMPORARY_PREFIX}probe-{uuid.uuid4().hex}"
        self._tried(lambda: self._write(probe, b"probe"), _OPEN_SECONDS)
        self._tried(lambda: self._read(probe, 10), _OPEN_SECONDS)
        self._tried(lambda: self._remove(probe), _OPEN_SECONDS)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """As of Files."""
        content = self._tried(lambda: self._read(name, most))
        if len(content) > most:
            raise OSError(
                errno.EFBIG, f"it is larger than {most} bytes, the most that is read", self.at(name)
            )
        return content

    def read_all(self, names: Iterable[str], most: int = MOST_BYTES) -> Iterator[tuple[str, bytes | OSError]]:
        """As of Files; several at once."""
        yield from in_parallel(lambda name: self.read(name, most), list(names))

    def write(self, name: str, content: bytes, *, synced: bool = True, patience: float | None = None) -> None:
        """As of Files."""
        self._tried(lambda: self._write(name, content), patience)

    def exists(self, name: str) -> bool:
        """As of Files."""
        return bool(self._tried(lambda: self._system.get_file_info(self._path(name)).is_file))

    def names(self, folder: str = "") -> list[str]:
        """As of Files."""
        return list(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """As of Files."""
        return {name: int(info.size) for name, info in self.listed(folder)}

    def listed(self, folder: str = "") -> list[tuple[str, fs.FileInfo]]:
        """Names below `folder`, with what the place says of each."""
        path = self._path(folder).rstrip("/")
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        infos = self._tried(lambda: self._system.get_file_info(selector))
        skip = len(self._root) + 1
        return [(info.path[skip:], info) for info in infos if info.is_file and is_name(info.path[skip:])]

    def remove(self, name: str) -> None:
        """As of Files."""
        try:
            self._tried(lambda: self._remove(name))
        except FileNotFoundError:
            return

    def move(self, name: str, to: str) -> None:
        """As of Files; there is a moment with both."""
        self._tried(lambda: self._system.copy_file(self._path(name), self._path(to)))
        self.remove(name)

    def bring(self, name: str, to: Path) -> bool:
        """As of Files."""
        make_directory(to.parent)
        beside = to.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")

        def copy() -> None:
            source = self._system.open_input_stream(self._path(name), compression=None)
            with source, beside.open("wb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)

        try:
            self._tried(copy)
            beside.replace(to)
        except FileNotFoundError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        return True

    def publish(self, path: Path, name: str, *, patience: float | None = None) -> None:
        """As of Files."""

        def copy() -> None:
            with pa.memory_map(str(path)) as source:
                self._write(name, source.read_buffer())

        # What cannot be mapped is empty.
        self._tried(copy if path.stat().st_size else lambda: self._write(name, b""), patience)

    # ---- one request each

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _read(self, name: str, most: int) -> bytes:
        with self._system.open_input_stream(self._path(name), compression=None) as file:
            return bytes(file.read(most + 1))

    def _write(self, name: str, content: bytes | pa.Buffer) -> None:
        # One call for all: a stream that is left half-written would be finished as it is.
        with self._system.open_output_stream(self._path(name), compression=None) as file:
            file.write(content)

    def _remove(self, name: str) -> None:
        self._system.delete_file(self._path(name))

    def _tried(self, act: Callable[[], _T], patience: float | None = None) -> _T:
        """What `act` gives, asked again while the place is away. Raises OSError with the cause in words."""
        end = time.monotonic() + (self.patience if patience is None else patience)
        wait = _FIRST_WAIT
        while True:
            try:
                return act()
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as error:
                if "NO_SUCH_KEY" in str(error):
                    raise FileNotFoundError(errno.ENOENT, "it is not there") from error
                passing = any(sign in str(error) for sign in _PASSING)
                if not passing or time.monotonic() + wait > end:
                    raise OSError(getattr(error, "errno", None) or errno.EIO, _in_words(error)) from error
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)


def in_parallel(read: Callable[[str], bytes], names: list[str]) -> Iterator[tuple[str, bytes | OSError]]:
    """What `read` gives for each name, in order, or why it does not; what is not there is left out."""

    def one(name: str) -> bytes | OSError:
        try:
            return read(name)
        except OSError as error:
            return error

    if len(names) < 2:
        found = [(name, one(name)) for name in names]
    else:
        with ThreadPoolExecutor(min(_READERS, len(names))) as pool:
            found = list(zip(names, pool.map(one, names), strict=True))
    yield from ((name, content) for name, content in found if not isinstance(content, FileNotFoundError))


def is_name(path: str) -> bool:
    """Whether a listed object is a finished file whose name may become that of a file on this machine."""
    parts = path.split("/")
    return not (set(parts) & {"", ".", ".."}) and not parts[-1].startswith(TEMPORARY_PREFIX)


def _said(scheme: str, query: str, shown: str) -> dict[str, str]:
    """What the query of an address says. Raises StoreError for what it may not say."""
    said = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := [key for key in said if key not in _OPTIONS[scheme]]:
        raise StoreError(
            f"--store {shown}?{unknown[0]}=…: an address of {scheme}:// says {', '.join(_OPTIONS[scheme])}, "
            f"as in {scheme}://bucket/prefix?endpoint_override=host:9000&scheme=http; credentials come from "
            "the environment"
        )
    if said.get("scheme", "https") not in ("http", "https"):
        raise StoreError(f"--store {shown}: scheme={said['scheme']} is neither http nor https")
    if "@" in said.get("endpoint_override", ""):
        raise StoreError(
            f"--store {shown}: endpoint_override holds a user or a key (before the @); credentials come from "
            "the environment"
        )
    if "://" in said.get("endpoint_override", ""):
        said["scheme"], _, said["endpoint_override"] = said["endpoint_override"].partition("://")
    return {key: value for key, value in said.items() if value}


def _google(said: dict[str, str]) -> fs.FileSystem:
    return fs.GcsFileSystem(**said, retry_time_limit=datetime.timedelta(seconds=_CONNECT_SECONDS))


def _s3(path: str, said: dict[str, str]) -> fs.FileSystem:
    if "region" not in said and "endpoint_override" not in said:
        said["region"] = _region(path.partition("/")[0])
    return fs.S3FileSystem(
        **said,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_READ_SECONDS,
        # `_tried` does it, for all kinds of places.
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        # A small object is one request, which ends when it is there.
        allow_delayed_open=True,
        background_writes=False,
    )


def _region(bucket: str) -> str:
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or str(fs.resolve_s3_region(bucket))


def _in_words(error: BaseException) -> str:
    text = scrubbed(" ".join((getattr(error, "strerror", None) or str(error)).split()))
    cause = next((words for sign, words in _CAUSES.items() if sign in text), "")
    short = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return f"{cause} ({short})" if cause else short
