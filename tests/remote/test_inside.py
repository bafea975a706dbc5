"""What only the cluster can check, before the command."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ablator import __version__
from ablator.remote.frames import Frames
from ablator.remote.inside import nodes_wanted

pytestmark = pytest.mark.usefixtures("tiny_study")


def _inside(folder: Path, *words: str, store: str | None) -> tuple[int, str, Frames]:
    """The job's exit code, its log, and what it says to a program."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": ":".join(sys.path)}
    if store is not None:
        environment["ABLATOR_STORE"] = store
    done = subprocess.run(
        [sys.executable, "-m", "ablator.remote.inside", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    frames = Frames()
    lines = [line for line in done.stdout.splitlines() if not frames.take(line)]
    return done.returncode, "\n".join(lines), frames


def test_another_version_is_refused(tmp_path: Path) -> None:
    code, log, _ = _inside(tmp_path, "0.0.9", "run", "tiny.yaml", store=str(tmp_path / "s"))
    assert code == 2
    assert f"comes from ablator 0.0.9 and the cluster has {__version__}" in log
    assert not (tmp_path / "s").exists()


def test_without_a_store_nothing_is_run_in_a_folder_that_ray_throws_away(tmp_path: Path) -> None:
    code, log, frames = _inside(tmp_path, __version__, "status", "tiny.yaml", "--json", store=None)
    assert code == 2
    assert "no ABLATOR_STORE and the command no --store" in log
    assert "ABLATOR_STORE" in json.loads(frames.content("stdout"))["error"]


def test_a_report_comes_with_its_files_whatever_its_exit_code(tmp_path: Path) -> None:
    store = tmp_path / "reports" / "store"
    words = (__version__, "report", "tiny.yaml", "--profile", "laptop")
    code, log, frames = _inside(tmp_path, *words, store=str(store))
    assert code == 1, log  # nothing is trained
    assert "0 completed" in log
    assert frames.content("stdout") == b""
    with tarfile.open(fileobj=io.BytesIO(frames.content("files"))) as archive:
        names = set(archive.getnames())
    assert {f"tiny/laptop/{name}" for name in ("page.html", "table.md", "results.json")} <= names


def test_the_launcher_s_own_file_says_how_many_nodes_to_wait_for(tmp_path: Path) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    assert nodes_wanted(file) == 1
    kinds = {
        "head": {"max_workers": 0},
        "gpu": {"min_workers": 2, "max_workers": 8},
        "cpu": {"min_workers": 0},
    }
    file.write_text(json.dumps({"available_node_types": kinds}), encoding="utf-8")
    assert nodes_wanted(file) == 3


@pytest.mark.parametrize("text", ["", "[]", '{"available_node_types": []}'])
def test_another_file_of_that_name_is_no_launcher_s(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other"
    file.write_text(text, encoding="utf-8")
    assert nodes_wanted(file) == 1
