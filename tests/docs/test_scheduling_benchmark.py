"""benchmarks/scheduling.py drives a whole run over simulated slots and nodes, and none is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_trial_is_told_and_kept_once_and_a_resume_trains_what_is_missing(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    script = ROOT / "benchmarks" / "scheduling.py"
    command = [sys.executable, str(script), "--trials", "60", "--slots", "3", "--nodes", "2", "--sizes", "20"]
    # It asserts by itself that the accounts are whole.
    done = subprocess.run(
        [*command, "--output", str(output)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    run, resumes = found["run"], found["resume"]
    assert run["marks"][-1]["trials"] == run["trials"] == 60
    assert 0 <= run["idle_share"] <= 1
    assert [(one["trials"], one["there"]) for one in resumes] == [(20, 20), (20, 10)]
    assert resumes[0]["until_sweep"] is None, "nothing was missing"
    assert resumes[1]["until_sweep"] is not None
