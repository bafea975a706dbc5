"""MLflow and clusters that are not there, and what a process of its own prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ablator = Callable[..., Result]
Fill = Callable[..., Path]
Refused = Callable[..., None]
Kept = Callable[[Path], int]
Port = Callable[[], int]


def test_a_stopped_mlflow_server(
    ablator: Ablator, study: Path, fill: Fill, refused: Refused, kept: Kept, unused_port: Port
) -> None:
    port = unused_port()
    uri = f"http://me:secret@127.0.0.1:{port}"
    store = fill({("base", 0): None})
    result = ablator("run", study, "-p", "laptop", "--store", store, "--mlflow", uri)
    refused(result, f"http://127.0.0.1:{port}", "does not answer", "--mlflow off")
    assert "secret" not in result.output
    assert kept(store) == 5


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "gopher://x"])
def test_an_mlflow_that_cannot_be_written_to(
    ablator: Ablator, study: Path, fill: Fill, uri: str, refused: Refused
) -> None:
    refused(ablator("run", study, "-p", "laptop", "--store", fill(), "--mlflow", uri), uri)


def test_slots_that_do_not_fit(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch, fill: Fill, refused: Refused, kept: Kept
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    store = fill({("base", 0): None})
    run = ("run", study, "-p", "laptop", "--store", store, "--mlflow", "off")
    cpus = os.cpu_count()
    refused(ablator(*run, "--gpus", "4"), "4 GPU", f"this machine has {cpus} CPU and 0 GPU", "--gpus")
    refused(ablator(*run, "--cpus", "1000"), "1000 CPU", f"{cpus} CPU", "--cpus")
    refused(ablator(*run, "--slots", "999"), "--slots 999", f"{cpus} slot(s)")
    assert kept(store) == 5


def test_a_cluster_that_does_not_answer(
    ablator: Ablator,
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    fill: Fill,
    refused: Refused,
    unused_port: Port,
) -> None:
    run = ("run", study, "-p", "laptop", "--store", fill({("base", 0): None}), "--mlflow", "off")
    address = f"127.0.0.1:{unused_port()}"
    for said in (address, f"ray://{address}", "cluster"):
        refused(ablator(*run, "--address", said), f"--address {said}: nothing answers", "ray start", "local")
    monkeypatch.setenv("RAY_ADDRESS", address)
    refused(ablator(*run), f"RAY_ADDRESS={address}: nothing answers")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "model.name=resnet50"], "no seams"),
        (["--address", "127.0.0.1:1"], "nothing answers"),
    ],
    ids=["model", "address"],
)
def test_nothing_else_is_printed(study: Path, fill: Fill, options: list[str], said: str, kept: Kept) -> None:
    store = fill({("base", 0): None})
    command = [sys.executable, "-m", "ablator", "run", str(study), "-p", "laptop", "--store", str(store)]
    done = subprocess.run(
        [*command, *options], cwd=study.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert kept(store) == 5
