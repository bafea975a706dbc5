"""The cluster's job server: submit, ask, stop, and read a job's log as it grows."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablator.errors import ClusterError
from ablator.remote.request import Request, is_of, submission_id

_OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_SILENCE_SECONDS = 20.0
"""Without a line of the log until the server is asked whether it is there."""
_ANSWER_SECONDS = 60.0
_START_SECONDS = 120.0
_NO_AGENT = "No available agent"
"""What Ray says while the head's agent, which starts jobs, is not up yet."""
_TALKS = (
    *("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk"),
    "_private.runtime_env.packaging",
)
"""Loggers of Ray that tell every step."""
_ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


class ServerAway(ClusterError):
    """Nothing answers where the job server was, or is said to be."""


class Job:
    """One job on the cluster, in whatever state it is."""

    def __init__(self, server: JobServer, name: str) -> None:
        self.server = server
        self.name = name

    def state(self) -> tuple[str, int | None, str]:
        """Ray's word for how it stands, its exit code once it has one, and what Ray says of it."""
        found = self.server.ask(lambda client: client.get_job_info(self.name))
        return found.status.value, found.driver_exit_code, found.message or ""

    def stop(self) -> None:
        """Have Ray end it."""
        self.server.ask(lambda client: client.stop_job(self.name))

    def forget(self) -> None:
        """Take it off the cluster's list, once it is over."""
        self.server.ask(lambda client: client.delete_job(self.name))

    async def log(self) -> AsyncIterator[str]:
        """The log from its beginning, in pieces as they come, until the job is over. Raises ServerAway."""
        # The server says plainly where it does not know the job; a socket only closes.
        await asyncio.to_thread(self.state)
        client = self.server.client()
        pieces = client.tail_job_logs(self.name)
        while True:
            following = asyncio.ensure_future(anext(pieces, None))
            try:
                while not (await asyncio.wait({following}, timeout=_SILENCE_SECONDS))[0]:
                    # A connection that was cut while this machine slept may never say so.
                    await asyncio.to_thread(self.state)
                piece = await following
            except Exception as error:
                raise _away(error) from error
            finally:
                following.cancel()
            if piece is None:
                return
            yield piece


class JobServer:
    """The server behind a URL, which may be another one each time (a tunnel's port).

    Raises ServerAway where nothing answers, ClusterError for a token that it does not take.
    """

    def __init__(self, url: Callable[[], str], where: str) -> None:
        self._url = url
        self.where = where
        """As the user named it."""
        self._client: Any = None
        self._client_url = ""

    def client(self) -> Any:
        """Ray's own client, connected."""
        try:
            url = self._url()
        except ClusterError as error:
            raise ServerAway(str(error)) from error
        if self._client is None or url != self._client_url:
            self._client, self._client_url = self._connected(url), url
        return self._client

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer of Ray's client to `question`."""
        client = self.client()
        try:
            with _no_other_address():
                return question(client)
        except Exception as error:
            raise _away(error) from error

    def version(self) -> str:
        """Ray's, on the cluster."""
        # Ray's public `get_version` is that of its interface.
        return str(self.client()._server_ray_version or "")

    def attach(self, request: Request) -> Job | None:
        """The job of the same request that is not over; None where there is none."""
        for found in self._jobs(request.key):
            if found.status.value not in _OVER:
                return Job(self, found.submission_id)
        return None

    def submit(self, request: Request, folder: str) -> tuple[Job, bool]:
        """The job for `request`, with the bundle that lies in `folder`, and whether it is a new one: somebody
        else may have asked for the same in this moment."""
        name = submission_id(request.key, [job.submission_id for job in self._jobs(request.key)])
        try:
            self._submit(
                entrypoint=request.entrypoint(),
                submission_id=name,
                runtime_env={"working_dir": folder},
                metadata={"ablator": request.command, "studies": ",".join(request.bundle.names)},
            )
        except ServerAway:
            raise
        except ClusterError:
            if (job := self.attach(request)) is None:
                raise
            return job, False
        return Job(self, name), True

    def _submit(self, **job: Any) -> None:
        """Submit, with patience for a head that came up a moment ago."""
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ask(lambda client: client.submit_job(**job))
                return
            except ClusterError as error:
                if _NO_AGENT not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(2.0)

    def _jobs(self, key: str) -> list[Any]:
        jobs = self.ask(lambda client: client.list_jobs())
        return [job for job in jobs if job.submission_id and is_of(job.submission_id, key)]

    def _connected(self, url: str) -> Any:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):  # type: ignore[misc]
            """With an end to waiting: a connection that nobody has any more does not say so."""

            def _do_request(self, *words: Any, **options: Any) -> Any:
                return super()._do_request(*words, timeout=_ANSWER_SECONDS, **options)

        for name in _TALKS:
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        token = _token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with _no_other_address():
                return Client(url, headers=headers)
        except AuthenticationError:
            what = "does not take the token of this machine" if token else "asks for a token"
            raise ClusterError(
                f"{self.where}: the job server {what}; the token that the cluster was started with belongs "
                "into ~/.ray/auth_token (RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, says another one)"
            ) from None
        except (ConnectionError, OSError) as error:
            raise ServerAway(
                f"{self.where}: no job server answers; the dashboard of the cluster's head has to run there "
                "(`ray status` on the head says whether Ray does)"
            ) from error
        except (RuntimeError, LookupError, ValueError) as error:
            raise ClusterError(f"{self.where}: this is no job server of Ray ({error})") from None


def _token() -> str | None:
    """The token as Ray itself looks for it. Given as a header, so that nothing of this process's own Ray is
    changed."""
    if said := os.environ.get("RAY_AUTH_TOKEN"):
        return said.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


@contextmanager
def _no_other_address() -> Iterator[None]:
    """Ray's client prefers these variables to the address that it is given."""
    kept = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _away(error: Exception) -> ClusterError:
    """What Ray's client raised, in two kinds: the server is away, or it said no."""
    if isinstance(error, ClusterError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and "status code" in text:
        return ClusterError(f"the job server says: {text}")
    return ServerAway(f"the connection to the job server broke ({text or type(error).__name__})")
