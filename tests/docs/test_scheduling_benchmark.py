"""benchmarks/scheduling.py drives a whole run over simulated slots and nodes, and every trial is counted once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def measured(folder: Path, *options: str) -> dict[str, Any]:
    """What the script writes; it asserts by itself that the run's account is whole."""
    output = folder / "figures.json"
    script = ROOT / "benchmarks" / "scheduling.py"
    command = [sys.executable, str(script), *options, "--output", str(output)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    return found


@pytest.mark.slow
def test_every_trial_of_a_run_over_two_nodes_is_told_and_kept_once(tmp_path: Path) -> None:
    run = measured(tmp_path, "--parts", "run", "--trials", "60", "--slots", "3", "--nodes", "2")["run"]
    assert run["marks"][-1]["trials"] == run["trials"] == 60
    assert 0 <= run["idle_share"] <= 1


def test_a_resume_trains_what_is_missing(tmp_path: Path) -> None:
    found = measured(tmp_path, "--parts", "resume", "--sizes", "20")["resume"]
    assert [(one["trials"], one["there"]) for one in found] == [(20, 20), (20, 10)]
    assert found[0]["until_sweep"] is None, "nothing was missing"
    assert found[1]["until_sweep"] is not None
