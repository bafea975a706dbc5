"""The commands over a store in an object store, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ablator import api
from ablator.results.store import Store

Ablator = Callable[..., Result]


@pytest.fixture
def filled(study: Path, fill_s3: Callable[[], str]) -> str:
    """A store with the records of all trials of the study, and the weights of one."""
    store = Store.open(fill_s3())
    weights = store.weights(api.plan(study, profile="laptop").trials[0].identity)
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"w" * 2_000_000)
    store.publish(weights)
    return store.uri


def test_every_command_reads_it(
    ablator: Ablator, study: Path, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: Any, code: int = 0) -> Any:
        result = ablator(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout.splitlines()[-1])

    options = (study, "-p", "laptop", "--store", filled)
    assert said("run", *options)["cached"] == 6
    monkeypatch.setenv("ABLATOR_CACHE", str(tmp_path / "another machine"))
    said("status", *options)
    said("report", *options)
    (report,) = said("diff", filled, filled)["reports"]
    assert report["study"] == "tiny"
    assert said("sync", "--store", filled)["left"] == 0
    assert said("clean", "--store", filled, "--yes")["bytes"] == 2_000_000
    assert said("clean", "--store", filled)["weights"] == {}
    checks = said("doctor", "--store", filled)["checks"]
    found = {check["name"]: check["found"] for check in checks if check["group"] == "Store"}
    assert found["bucket"] == filled
    assert found["records"] == "6 finished trials"
    assert str(tmp_path / "another machine") in found["here"]


def test_the_table_is_that_of_a_folder(
    ablator: Ablator, study: Path, filled: str, fill: Callable[..., Path]
) -> None:
    tables = [
        ablator("report", study, "-p", "laptop", "--store", store, "--format", "markdown").stdout
        for store in (filled, fill())
    ]
    assert tables[0] == tables[1]


def test_a_bucket_that_is_not_there_ends_with_2(ablator: Ablator, study: Path, s3_store: str) -> None:
    missing = s3_store.replace("s3://bucket/", "s3://nobucket/")
    for command in (("report", study, "-p", "laptop"), ("sync",), ("clean",)):
        result = ablator(*command, "--store", missing)
        assert result.exit_code == 2
        assert "there is no such bucket" in result.stderr
