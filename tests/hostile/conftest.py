"""Input that was made to do harm: refused in seconds, with one clear error, and nothing is run or filled."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STUDY = """
study: tiny
baseline: {label: base}
arms:
  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}
seeds: 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@contextmanager
def _memory(most: int) -> Iterator[None]:
    """Let this process have `most` bytes more than it has, so that a bomb fails here alone."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def little_memory() -> Iterator[None]:
    with _memory(2**30):
        yield


@pytest.fixture
def refused() -> Callable[..., str]:
    """`refused(command, *said)`: the command line, in a process of its own, ends with 2 and one error with
    these words; returns the error."""

    def check(arguments: list[str | Path], *said: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ablator", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "COLUMNS": "4000"},
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith("error: "), done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr) < 3000
        for text in said:
            assert text in done.stderr, done.stderr
        return done.stderr

    return check
