"""What is wrong in the words of the command, its options, and the data that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ablator = Callable[..., Result]
Refused = Callable[..., None]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "lapptop"], ["unknown profile 'lapptop'", "did you mean 'laptop'"]),
        (["--set", "train.epochz=1"], ["train.epochz", "epochs"]),
        (["--set", "train.epochs"], ["--set key=value"]),
        (["--set", "=3"], ["--set key=value"]),
        (["--set", "train..epochs=3"], ["'train..epochs' is not a key"]),
        (["--set", "model.options={a: "], ["--set model.options={a: : not valid YAML"]),
        (["--set", "train.epochs=many"], ["train.epochs", "many"]),
        (["--set", "train=3"], ["train: must be a mapping, not 3"]),
        (["--set", "seed=3"], ["seed cannot be set", "seeds"]),
        (["--set", "seeds=0"], ["seeds", "not 0"]),
        (["--set", "moto.n=3"], ["moto.n", "declares"]),
        (["--set", "data.name=digitz"], ["digitz", "digits"]),
        (["--set", "augment.rand_augment=loud"], ["'loud'", "rand-m9-mstd0.5-inc1", "null"]),
        (["--set", "data.name=folder"], ["--set data.root=DIR", "--profile laptop"]),
        (["--set", "data.name=folder", "--set", "data.root=nowhere"], ["nowhere", "--profile laptop"]),
        (["--set", "data.name=folder", "--set", "data.root=tiny.yaml"], ["tiny.yaml", "is no folder"]),
        (["--set", "data.name=folder", "--set", "data.root=empty"], ["no class folders", "empty/cat/1.jpg"]),
        (["--set", "data.name=folder", "--set", "data.root=trees"], ["no images", "cat, dog", ".jpg"]),
        (["--set", "data.name=parquet"], ["--set data.root=PATH", "--profile laptop"]),
        (["--set", "data.name=parquet", "--set", "data.root=empty"], ["no .parquet file", "empty/data"]),
        (["--set", "data.name=parquet", "--set", "data.root=bad.parquet"], ["bad.parquet", "cannot be read"]),
        (
            ["--set", "data.name=cifar10", "--set", "data.root=empty"],
            ["cifar10", "empty", "--profile laptop"],
        ),
    ],
    ids=lambda value: value[-1] if value else "",
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_options(
    ablator: Ablator,
    study: Path,
    tmp_path: Path,
    command: str,
    options: list[str],
    said: list[str],
    refused: Refused,
) -> None:
    for folder in ("empty", "trees/cat", "trees/dog", "home"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but no more")
    profile = [] if "--profile" in options else ["--profile", "laptop"]
    refused(ablator(command, study, *profile, *options), *said)


@pytest.mark.parametrize(
    ("name", "help_"), [("fashion_mnist", "apt-get install"), ("cifar10", "data.root=DIR")], ids=str
)
def test_data_that_is_not_on_this_machine(
    ablator: Ablator,
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    help_: str,
    refused: Refused,
) -> None:
    # Machines may have the Debian package, and what was fetched before.
    monkeypatch.setattr("ablator.data.fashion_mnist._DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A seed that no other test uses: a process opens data once.
    other = ("--set", "data.holdout_seed=77")
    result = ablator("run", study, "-p", "laptop", "--set", f"data.name={name}", *other)
    refused(result, name, str(tmp_path / "cache"), "ABLATOR_OFFLINE", help_, "--profile laptop")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["rum"],
        ["run", "x.yaml", "--slots", "0"],
        ["run", "x.yaml", "--profil", "laptop"],
        ["run", "x.yaml", "--workers", "two"],
        ["report", "x.yaml", "--format", "word"],
    ],
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
