"""Following a job: its log as it grows, over connections that break, to its exit code."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from ablator.errors import ClusterError
from ablator.remote.frames import Frames
from ablator.remote.jobs import ServerAway

_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_GIVE_UP_SECONDS = 900.0
"""Of trying again, while this machine is awake."""
_SETUP = re.compile(r"(?:\[?\d{4}-\d\d-\d\d .*)?(?:Runtime env is setting up|Running entrypoint for job)")


class Followed(Protocol):
    """What is followed."""

    name: str

    def state(self) -> tuple[str, int | None, str]:
        """How it stands, its exit code, and what Ray says of it."""
        ...

    def log(self) -> AsyncIterator[str]:
        """Its log, from the beginning each time."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A job that is over."""

    code: int
    """Exit code of the command; 1 where Ray knows none."""
    problem: str = ""
    """What ended it, where that was not the command itself."""
    stdout: bytes = b""
    """What the command had for a program."""
    files: bytes = b""
    """A report's files, as a tar archive."""


class Follower:
    """Writes each line of the log once, whatever happens to the connection."""

    def __init__(
        self,
        job: Followed,
        write: Callable[[str], None],
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._job = job
        self._write = write
        self._say = say
        self._sleep = sleep
        self._frames = Frames()
        self._done = 0
        """Characters of the log that were seen to the end of a line."""
        self._tries = 0

    def follow(self) -> Outcome:
        """Follow the job to its end. Raises ClusterError where the server is away for too long, or does not
        know the job any more."""
        began = time.monotonic()
        while True:
            try:
                asyncio.run(self._read())
                status, code, message = self._job.state()
                if status in ("SUCCEEDED", "FAILED", "STOPPED"):
                    return self._outcome(status, code, message)
            except ServerAway as error:
                if self._tries == 0:
                    began = time.monotonic()
                    self._say(f"{error}; the run goes on there, and this goes on trying")
                elif time.monotonic() - began > _GIVE_UP_SECONDS:
                    raise ClusterError(
                        f"no answer for {_GIVE_UP_SECONDS / 60:.0f} min ({error}); the same command attaches "
                        "to the run again, if it is still there"
                    ) from error
                self._sleep(_WAITS[min(self._tries, len(_WAITS) - 1)])
                self._tries += 1
            else:
                # The log ended a moment before Ray knew that the job has.
                self._sleep(0.5)

    async def _read(self) -> None:
        skip, rest = self._done, ""
        async with aclosing(self._job.log()) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if self._tries:
                    self._say("connected again")
                    self._tries = 0
                kept = piece[skip:]
                skip -= len(piece) - len(kept)
                *lines, rest = (rest + kept).split("\n")
                for line in lines:
                    self._done += len(line) + 1
                    self._line(line)
        if rest:
            self._done += len(rest)
            self._line(rest)

    def _line(self, line: str) -> None:
        if not self._frames.take(line) and not _SETUP.match(line):
            self._write(line)

    def _outcome(self, status: str, code: int | None, message: str) -> Outcome:
        problem = ""
        if status == "STOPPED":
            problem = "the job was stopped; the same command goes on from what is finished"
        elif code is None and status == "FAILED":
            problem = f"the cluster ended the job: {' '.join(message.split())}"
        elif code in (126, 127):
            problem = (
                "the cluster has no `python` on its PATH; its machines need the environment of Ablator there"
            )
        return Outcome(
            code=code if code is not None else int(status != "SUCCEEDED"),
            problem=problem,
            stdout=self._frames.content("stdout"),
            files=self._frames.content("files"),
        )
