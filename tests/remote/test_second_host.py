"""The whole way, for real: a second host, `ray up`, a study from a laptop, and `ray down`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

_SPEC = importlib.util.spec_from_file_location("second_host", Path(__file__).with_name("second_host.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
second_host = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(second_host)
ROOT: Path = second_host.ROOT
WHY_NOT: str | None = second_host.missing()

STUDY = """
study: tiny
source: "a book, Table 1"
question: Does it help?
base: recipes/base.yaml
baseline: {label: base}
arms: [{label: two, set: {moto.n: 2}}]
seeds: 1
profiles: {laptop: {set: {train: {epochs: 2, warmup_epochs: 0}, data.fraction: 0.2}, seeds: 1}}
report: {metric: top1}
"""


class Laptop:
    """A client in a folder and with a home of its own."""

    def __init__(self, folder: Path, cluster: dict[str, Any]) -> None:
        self.folder = folder
        (folder / "recipes").mkdir(parents=True)
        (folder / "recipes" / "base.yaml").write_text("model: {drop_path: 0.0}\n", encoding="utf-8")
        (folder / "tiny.yaml").write_text(STUDY, encoding="utf-8")
        (folder / "cluster.yaml").write_text(yaml.safe_dump(cluster), encoding="utf-8")
        programs = Path(sys.executable).parent
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "ABLATOR_"))},
            "HOME": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def ray(self, *words: str) -> str:
        done = self.run("ray", *words)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def words(self, command: str, *options: str) -> list[str]:
        asked = [sys.executable, "-m", "ablator", command, "tiny.yaml", "--profile", "laptop", *options]
        return [*asked, "--cluster", "cluster.yaml"]

    @contextlib.contextmanager
    def following(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """`ablator run`, while it runs; what it says goes into one pipe."""
        # A shell's background ignores Ctrl-C, and so would all that is started there.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            self.words("run", *options),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def _until(process: subprocess.Popen[str], text: str) -> str:
    """What it says, up to the first line with `text`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(said)


def _code(folder: Path) -> Path:
    """What a clone of the checkout has, with changes that are not committed."""
    for name in ("ablator", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def _runs_attaches_and_goes_on(laptop: Laptop) -> None:
    """A run that is detached from, attached to, and whose tunnel is cut, is one run."""
    with laptop.following("--mlflow", "off") as process:
        said = _until(process, "submitted ablator-run-tiny-")
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=60)[0]
        assert process.returncode == 130, said
        assert "detached: the run goes on there" in said
    job = said.split("submitted ")[1].split()[0]
    assert f"ray exec cluster.yaml 'ray job stop {job}'" in said
    with laptop.following("--mlflow", "off") as process:
        said = _until(process, f"attached to {job}")
        (tunnel,) = [p for p in psutil.Process(process.pid).children() if p.name() == "ssh"]
        tunnel.kill()
        said += process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    assert said.count("connected again") == 1, said
    assert said.count("2 planned = 2 completed") == 1, said
    assert "::ablator::" not in said


@pytest.mark.slow
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_a_study_from_a_laptop_on_a_second_host(tmp_path: Path) -> None:
    host = second_host.SecondHost(tmp_path / "host")
    cluster = host.cluster_file(ROOT / "clusters" / "onpremise.yaml", _code(tmp_path / "code"))
    laptop = Laptop(tmp_path / "laptop", cluster)
    with host.up():
        laptop.ray("get-auth-token", "--generate")
        laptop.ray("up", "-y", "cluster.yaml")
        assert any("raylet" in line for line in host.processes())
        _runs_attaches_and_goes_on(laptop)

        again = laptop.run(*laptop.words("run", "--mlflow", "off", "--json"))
        assert again.returncode == 0, again.stderr
        said = json.loads(again.stdout)
        assert (said["trained"], said["cached"]) == (0, 2)
        assert (host.home / "shared" / "store" / "ledger").is_dir()

        status = laptop.run(*laptop.words("status"))
        assert status.returncode == 0, status.stderr
        assert "2 planned = 2 completed" in status.stdout

        report = laptop.run(*laptop.words("report", "--format", "markdown"))
        folder = (
            laptop.folder / ".ablator" / "clusters" / cluster["cluster_name"] / "reports" / "tiny" / "laptop"
        )
        assert report.returncode == 0, report.stderr
        assert report.stdout == (folder / "table.md").read_text(encoding="utf-8")
        assert "<html" in (folder / "page.html").read_text(encoding="utf-8")

        laptop.ray("down", "-y", "cluster.yaml")
        end = time.monotonic() + 30
        while host.processes() and time.monotonic() < end:
            time.sleep(0.5)
        assert host.processes() == []
    # What the launcher keeps of a cluster on the machine that started it.
    for path in Path("/tmp/ray").glob(f"cluster-{cluster['cluster_name']}.*"):
        path.unlink()
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())
    ]
