"""A trial that hangs ends its process, whatever it hangs in, and is started again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablator.worker.watchdog import Watchdog, stalled_text, stalls

# What holds the interpreter, and what waits outside of it.
HANGS = {
    "waits": "time.sleep(600)",
    "holds Python's lock": "re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "in another thread": "threading.Thread(target=time.sleep, args=(600,)).start()",
}
SCRIPT = """
import re, sys, threading, time
from pathlib import Path
from ablator.worker.watchdog import Watchdog
with Watchdog(float(sys.argv[2]), Path(sys.argv[1]), 1) as watchdog:
    for _ in range(8):
        time.sleep(0.2)
        watchdog.progressed()
    print("progressed", flush=True)
    if sys.argv[3] != "in another thread":
        eval(sys.argv[4])
    else:
        eval(sys.argv[4])
        time.sleep(600)
"""


@pytest.mark.parametrize("hang", HANGS)
def test_a_process_that_hangs_is_ended_and_says_where_it_was(tmp_path: Path, hang: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "1.0", hang, HANGS[hang]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "progressed\n", done.stderr
    assert done.returncode == 1
    (said,) = tmp_path.glob("stalled-1-*.txt")
    assert "most recent call first" in said.read_text()
    assert stalls(tmp_path) == 1


def test_a_trial_that_goes_on_is_left_alone_and_leaves_nothing(tmp_path: Path) -> None:
    with Watchdog(0.5, tmp_path / "trial", 1) as watchdog:
        for _ in range(20):
            time.sleep(0.05)
            watchdog.progressed()
    assert list((tmp_path / "trial").iterdir()) == []
    assert stalls(tmp_path / "trial") == 0


def test_whoever_is_told_may_take_long_to_answer(tmp_path: Path) -> None:
    with Watchdog(0.4, tmp_path, 1) as watchdog:
        answer = watchdog.reporting(lambda progress: time.sleep(1.0) is None)
        assert answer(None)  # type: ignore[arg-type]


def test_without_a_limit_nothing_is_watched(tmp_path: Path) -> None:
    with Watchdog(0.0, tmp_path / "trial", 1) as watchdog:
        watchdog.progressed()
    assert not (tmp_path / "trial").exists()


def test_a_process_that_was_killed_did_not_stall(tmp_path: Path) -> None:
    (tmp_path / "stalled-1-77.txt").touch()
    (tmp_path / "stalled-1-78.txt").write_text("Timeout (0:30:00)!")
    assert stalls(tmp_path) == 1
    assert stalled_text(1, 1800.0).startswith("stopped once after 1800 s without progress")
    assert "stopped 3 times after 0.5 s" in stalled_text(3, 0.5)
