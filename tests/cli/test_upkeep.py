"""sync, ui, clean, doctor, schema, help and completion."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jsonschema
import pytest
from typer.testing import Result

from ablator import api
from ablator.results.store import Store
from ablator.study.yaml import parse

Ablator = Callable[..., Result]
Fill = Callable[..., Path]


def test_sync_of_nothing_is_a_success(ablator: Ablator, fill: Fill) -> None:
    result = ablator("sync", "--store", fill(), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"sent": 0, "left": 0, "by_study": {}, "problems": []}


def test_sync_to_a_server_that_is_away(ablator: Ablator, study: Path, fill: Fill) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = ablator("sync", "--store", fill(), "--mlflow", f"http://127.0.0.1:{port}")
    assert result.exit_code == 2
    assert "does not answer" in result.stderr


@pytest.mark.parametrize("command", ["sync", "ui", "clean"])
def test_a_store_that_is_not_there_is_not_made(ablator: Ablator, tmp_path: Path, command: str) -> None:
    result = ablator(command, "--store", "typo")
    assert result.exit_code == 2
    assert "typo" in result.stderr
    assert not (tmp_path / "typo").exists()


@pytest.fixture
def weighty(study: Path, fill: Fill) -> tuple[Path, dict[str, Path]]:
    """A store with kept weights of one trial of the study and of one that it does not have."""
    store = Store(fill())
    trial = api.plan(study, profile="laptop").trials[0]
    paths = {"own": store.weights(trial.identity), "other": store.weights("f" * 64)}
    for path in paths.values():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"w" * 2_000_000)
    return store.root, paths


def test_clean_lists_weights_and_removes_none_unasked(
    ablator: Ablator, weighty: tuple[Path, dict[str, Path]]
) -> None:
    store, paths = weighty
    result = ablator("clean", "--store", store, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["weights"] == {path.stem: 2_000_000 for path in paths.values()}
    assert not found["removed"]
    assert "weights of 2 trials, 4.0 MB; --yes removes them" in result.stderr
    assert all(path.exists() for path in paths.values())


def test_clean_of_a_study_leaves_other_weights_and_all_records(
    ablator: Ablator, study: Path, weighty: tuple[Path, dict[str, Path]]
) -> None:
    store, paths = weighty
    records = sorted((store / "ledger").rglob("*.json"))
    result = ablator("clean", study, "-p", "laptop", "--store", store, "--yes")
    assert result.exit_code == 0
    assert "base · seed 0" in result.stdout
    assert "removed weights of 1 trial, 2.0 MB" in result.stdout
    assert not paths["own"].exists()
    assert paths["other"].exists()
    assert sorted((store / "ledger").rglob("*.json")) == records


def test_ui_needs_a_database(ablator: Ablator, fill: Fill) -> None:
    result = ablator("ui", "--store", fill())
    assert result.exit_code == 2
    assert "no MLflow database" in result.stderr


def test_ui_names_a_port_that_is_taken(ablator: Ablator, fill: Fill) -> None:
    store = fill()
    (store / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = ablator("ui", "--store", store, "--port", str(port))
    assert result.exit_code == 2
    assert f"--port {port}" in result.stderr


def test_ui_says_where_it_is_and_becomes_the_server(
    ablator: Ablator, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill()
    (store / "mlflow.db").touch()
    started: list[list[str]] = []

    def execute(file: str, command: list[str], environment: Mapping[str, str]) -> None:
        started.append(command)

    monkeypatch.setattr(os, "execvpe", execute)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = ablator("ui", "--store", store, "--port", str(port))
    assert f"http://127.0.0.1:{port}" in result.stdout
    assert f"sqlite:///{store / 'mlflow.db'}" in started[0]


def test_doctor_of_a_healthy_machine(ablator: Ablator, fill: Fill) -> None:
    store = fill()
    result = ablator("doctor", "--store", store, "--json")
    checks = {(c["group"], c["name"]): c for c in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 0, result.stderr
    assert checks["Data", "digits"]["found"] == "1,438 + 359 images, 10 classes"
    assert checks["Store", "records"]["found"] == "6 finished trials"
    assert checks["Data", "fashion_mnist"]["state"] in ("ok", "missing")
    assert {"torch", "ray", "mlflow"} <= {name for group, name in checks if group == "Python"}
    assert "everything that --profile laptop needs is there" in result.stderr
    for check in checks.values():
        assert check["state"] == "ok" or check["advice"], check


def test_doctor_says_what_to_do_about_a_sick_store(
    ablator: Ablator, fill: Fill, monkeypatch: pytest.MonkeyPatch, study: Path
) -> None:
    store = fill({("base", 0): {"status": "failed", "metrics": {}, "error": "no"}})
    sorted((store / "ledger").glob("??/*.json"))[0].write_bytes(b"nothing")
    result = ablator("doctor", "--store", store)
    assert result.exit_code == 1
    for said in ("1 of them damaged", "--repair", "1 trials failed", "not everything"):
        assert said in result.stdout


@pytest.mark.parametrize(
    ("option", "document"),
    [
        ([], "study: a\narms: [{label: b, set: {moto.n: 2}}]"),
        (["--space"], "dimensions: {moto.n: {kind: int, low: 2, high: 4}}"),
        (["--recipe"], "train: {epochs: 3}"),
        (["--profile"], "set: {train.epochs: 3}"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_schema_checks_the_files_of_its_kind(ablator: Ablator, option: list[str], document: str) -> None:
    result = ablator("schema", *option, "--output", "schema.json")
    assert result.exit_code == 0, result.output
    schema = json.loads(Path("schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(parse(document, "test"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**parse(document, "test"), "no_such_key": 1}, schema)


def test_schema_is_one_kind_at_a_time(ablator: Ablator) -> None:
    result = ablator("schema", "--space", "--recipe")
    assert result.exit_code == 2
    assert "one kind" in result.stderr


def test_help_lists_every_command_and_groups_options(ablator: Ablator) -> None:
    result = ablator("--help")
    for name in ("plan", "run", "status", "report", "ui", "doctor", "schema", "sync", "Examples"):
        assert name in result.stdout
    help_of_run = ablator("run", "--help").stdout
    for text in ("Study", "Machine", "Output", "--profile", "--slots", "--mlflow", "ablator run"):
        assert text in help_of_run


def _shell(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ablator"],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ablator plan tiny.yaml --profile l", ["laptop"]),
        ("ablator run tiny.yaml --profile m", ["mine"]),
        ("ablator plan ti", ["tiny.yaml"]),
        ("ablator run --set moto.n", ["moto.n="]),
    ],
)
def test_completion(study: Path, words: str, expected: list[str]) -> None:
    done = _shell(
        study.parent,
        _ABLATOR_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert done.stdout.split() == expected, done.stderr


def test_version(ablator: Ablator) -> None:
    result = ablator("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("ablator ")
