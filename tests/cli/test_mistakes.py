"""What a user can get wrong: one message, exit code 2, no traceback, and nothing spent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import Result

from ablator.scheduling.cluster import Cluster, Resources

Ablator = Callable[..., Result]
Fill = Callable[..., Path]


def refused(result: Result, *said: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("error: ") == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for text in said:
        assert text in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "lapptop"], ["unknown profile 'lapptop'", "did you mean 'laptop'"]),
        (["--set", "train.epochz=1"], ["train.epochz", "epochs"]),
        (["--set", "train.epochs"], ["--set key=value"]),
        (["--set", "train.epochs=many"], ["train.epochs", "many"]),
        (["--set", "moto.n=3"], ["moto.n", "declares"]),
        (["--set", "data.name=digitz"], ["digitz", "digits"]),
        (["--set", "data.name=folder", "--set", "data.root=nowhere"], ["nowhere", "--profile laptop"]),
        (["--set", "data.name=fashion_mnist"], ["fashion_mnist", "apt-get"]),
        (["--set", "augment.rand_augment=loud"], []),
    ],
    ids=lambda value: value[-1] if value else "",
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_settings(ablator: Ablator, study: Path, command: str, options: list[str], said: list[str]) -> None:
    profile = [] if "--profile" in options else ["--profile", "laptop"]
    refused(ablator(command, study, *profile, *options), *said)


def test_an_unknown_study_file_names_its_neighbours(ablator: Ablator, study: Path) -> None:
    refused(ablator("run", study.with_name("tiney.yaml")), "no such file", "tiny.yaml")


def test_an_unknown_key_names_its_path_and_the_nearest(ablator: Ablator, study: Path) -> None:
    study.write_text(study.read_text(encoding="utf-8").replace("\nseeds:", "\nseedz:"), encoding="utf-8")
    refused(ablator("plan", study), "seedz", "seeds")


def test_a_mistake_in_the_last_study_shows_before_the_first_is_run(
    ablator: Ablator, study: Path, fill: Fill
) -> None:
    store = fill()
    refused(ablator("run", study, "nope.yaml", "-p", "laptop", "--store", store), "nope.yaml")
    assert not (store / "reports").exists()


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_store_that_is_a_file(ablator: Ablator, study: Path, command: str) -> None:
    refused(ablator(command, study, "-p", "laptop", "--store", study), str(study), "--store")


def test_a_store_below_a_file(ablator: Ablator, study: Path) -> None:
    refused(ablator("run", study, "-p", "laptop", "--store", study / "store"), str(study))


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_damaged_record_is_named_with_what_helps(
    ablator: Ablator, study: Path, fill: Fill, command: str
) -> None:
    store = fill()
    path = sorted((store / "ledger").glob("??/*.json"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    refused(ablator(command, study, "-p", "laptop", "--store", store), str(path), "--repair")
    assert len(list((store / "ledger").glob("??/*.json"))) == 6


def test_a_stopped_mlflow_server(ablator: Ablator, study: Path, fill: Fill) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    uri = f"http://me:secret@127.0.0.1:{port}"
    result = ablator("run", study, "-p", "laptop", "--store", fill(), "--mlflow", uri)
    refused(result, f"http://127.0.0.1:{port}", "does not answer", "--mlflow off")
    assert "secret" not in result.output


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "gopher://x"])
def test_an_mlflow_that_cannot_be_written_to(ablator: Ablator, study: Path, fill: Fill, uri: str) -> None:
    refused(ablator("run", study, "-p", "laptop", "--store", fill(), "--mlflow", uri), uri)


def test_slots_that_do_not_fit(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch, fill: Fill
) -> None:
    @contextmanager
    def two_processors(resources: Resources) -> Iterator[Cluster]:
        yield Cluster(joined=False, cpus=2, gpus=0, nodes=1)

    monkeypatch.setattr("ablator.scheduling.sweep.cluster", two_processors)
    store = fill({("base", 0): None})
    run = ("run", study, "-p", "laptop", "--store", store, "--mlflow", "off")
    refused(ablator(*run, "--gpus", "4"), "4 GPU", "0 GPU")
    refused(ablator(*run, "--slots", "3", "--gpus", "0"), "--slots 3", "2 slot(s)")


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["rum"], ["run", "x.yaml", "--slots", "0"], ["run", "x.yaml", "--profil", "laptop"]],
    ids=" ".join,
)
def test_a_typo_in_the_command_itself(ablator: Ablator, arguments: list[str]) -> None:
    result = ablator(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: ablator" in result.stderr


def test_an_interruption_says_how_to_go_on(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablator.api.plan", interrupted)
    result = ablator("run", study)
    assert result.exit_code == 130
    assert "interrupted: run the same command again to go on" in result.stderr
