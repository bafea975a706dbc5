"""A log that is followed over connections that break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from ablator.errors import ClusterError
from ablator.remote import following
from ablator.remote.following import Follower
from ablator.remote.frames import framed
from ablator.remote.jobs import ServerAway

LOG = "Runtime env is setting up.\nRunning entrypoint for job x: COLUMNS=9 python\nfirst\nsecond\nthird\n"


class Recorded:
    """A job whose connections end after so many characters each; None: at the end of the log."""

    name = "x"

    def __init__(
        self, log: str, breaks: Sequence[int | None], code: int | None = 0, status: str = ""
    ) -> None:
        self._log = log
        self._breaks = list(breaks)
        self._code = code
        self._status = status or ("FAILED" if code else "SUCCEEDED")

    def state(self) -> tuple[str, int | None, str]:
        return (self._status, self._code, "the node died") if not self._breaks else ("RUNNING", None, "")

    async def log(self) -> AsyncIterator[str]:
        length = self._breaks.pop(0)
        for start in range(0, len(self._log) if length is None else length, 7):
            yield self._log[start : min(start + 7, length or len(self._log))]
        if length is not None:
            raise ServerAway("the connection broke")


def _follow(job: Recorded) -> tuple[list[str], list[str], following.Outcome]:
    lines: list[str] = []
    said: list[str] = []
    outcome = Follower(job, lines.append, said.append, sleep=lambda _: None).follow()
    return lines, said, outcome


@pytest.mark.parametrize("at", [0, 30, 75, 80, 84, len(LOG) - 1])
def test_every_line_is_shown_once_wherever_the_connection_breaks(at: int) -> None:
    lines, said, outcome = _follow(Recorded(LOG, [at, 0, None]))
    assert lines == ["first", "second", "third"]
    assert said[0].startswith("the connection broke")
    assert said[-1] == "connected again"
    assert outcome.code == 0


def test_a_last_line_without_an_end_is_shown() -> None:
    assert _follow(Recorded("one\ntwo", [None]))[0] == ["one", "two"]


def test_the_exit_code_is_the_command_s_own() -> None:
    for code in (0, 1, 2):
        outcome = _follow(Recorded(LOG, [None], code=code))[2]
        assert (outcome.code, outcome.problem) == (code, "")


def test_a_job_that_ended_otherwise_says_so_and_is_no_success() -> None:
    died = _follow(Recorded(LOG, [None], code=None, status="FAILED"))[2]
    assert (died.code, died.problem) == (1, "the cluster ended the job: the node died")
    stopped = _follow(Recorded(LOG, [None], code=None, status="STOPPED"))[2]
    assert stopped.code == 1
    assert "was stopped" in stopped.problem


def test_what_belongs_to_a_program_is_no_line() -> None:
    frames = "".join(framed("stdout", b'{"planned": 4}' * 600))
    lines, _, outcome = _follow(Recorded(f"one\n{frames}two\n", [2000, None]))
    assert lines == ["one", "two"]
    assert outcome.stdout == b'{"planned": 4}' * 600


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_GIVE_UP_SECONDS", -1.0)
    with pytest.raises(ClusterError, match="the same command attaches"):
        _follow(Recorded(LOG, [0] * 5))
