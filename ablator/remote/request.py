"""What is asked of a cluster: the command there, and a name that the same request always has."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Sequence

from ablator import __version__
from ablator.remote.bundle import Bundle

_MOST_LETTERS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One command over one bundle."""

    command: str
    """run, status or report."""
    bundle: Bundle
    options: tuple[str, ...]
    """As the command line there takes them; of those that were given here."""
    what: tuple[str, ...]
    """Of these the ones that say which trials and where they are kept: profile, sets, rows, store."""
    columns: int = 120
    """Width of tables."""

    @property
    def key(self) -> str:
        """The same for the same studies, profile, sets, rows and store; machine options make no difference.
        A study that was edited has another one."""
        said = json.dumps([self.command, self.bundle.digest, self.bundle.studies, self.what])
        names = "+".join(dict.fromkeys(self.bundle.names))
        short = re.sub(r"[^\w+-]", "-", names)[:_MOST_LETTERS]
        return f"ablator-{self.command}-{short}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def entrypoint(self) -> str:
        """What the cluster's shell runs, in the bundle's folder: the same command, from inside."""
        joins = ["--address", "auto"] if self.command == "run" else []
        arguments = [self.command, *self.bundle.studies, *self.options, *joins]
        inside = ["python", "-m", "ablator.remote.inside", __version__, *arguments]
        return f"COLUMNS={self.columns} {shlex.join(inside)}"


def submission_id(key: str, taken: Sequence[str]) -> str:
    """The key with the next number: Ray takes an id once, also when its job has ended."""
    numbers = [int(end) for name in taken for end in [_number(name, key)] if end]
    return f"{key}-{max(numbers, default=0) + 1}"


def is_of(name: str, key: str) -> bool:
    """Whether the submission `name` was made for `key`."""
    return _number(name, key) is not None


def _number(name: str, key: str) -> str | None:
    found = re.fullmatch(rf"{re.escape(key)}-(\d+)", name)
    return found[1] if found else None
