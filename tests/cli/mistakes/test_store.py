"""A store that is none, or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from ablator import api
from ablator.results.store import Store
from ablator.training import checkpoint

Ablator = Callable[..., Result]
Fill = Callable[..., Path]
Refused = Callable[..., None]
Rewrite = Callable[[Path, str, str], None]
Kept = Callable[[Path], int]
Flip = Callable[[Path], None]

ARMS = '  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}'


def arm(text: str) -> tuple[str, str]:
    """Another arm instead."""
    return ARMS, f"  - {{{text}}}"


def space(dimension: str) -> tuple[str, str]:
    return arm(f"label: best, design: search, space: {{dimensions: {{{dimension}}}}}")


def test_a_mistake_in_the_last_study_shows_before_the_first_is_run(
    ablator: Ablator, study: Path, fill: Fill, refused: Refused
) -> None:
    store = fill()
    refused(ablator("run", study, "nope.yaml", "-p", "laptop", "--store", store), "nope.yaml")
    assert not (store / "reports").exists()


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_store_that_is_a_file(ablator: Ablator, study: Path, command: str, refused: Refused) -> None:
    refused(ablator(command, study, "-p", "laptop", "--store", study), str(study), "--store")


def test_a_store_below_a_file(ablator: Ablator, study: Path, refused: Refused) -> None:
    refused(ablator("run", study, "-p", "laptop", "--store", study / "store"), str(study))


@pytest.mark.parametrize("name", ["ledger", "checkpoints", "tickets", "reports", "outbox", "scratch"])
def test_a_file_where_the_store_keeps_a_folder(
    ablator: Ablator, study: Path, tmp_path: Path, name: str, refused: Refused
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / name).write_text("mine", encoding="utf-8")
    refused(ablator("run", study, "-p", "laptop", "--store", store), str(store / name), "--store DIR")
    assert (store / name).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_damaged_record_is_named_with_what_helps(
    ablator: Ablator, study: Path, fill: Fill, command: str, refused: Refused, kept: Kept, flip: Flip
) -> None:
    store = fill()
    path = sorted((store / "ledger").glob("??/*.json"))[0]
    flip(path)
    refused(ablator(command, study, "-p", "laptop", "--store", store), str(path), "--repair")
    assert kept(store) == 6


def test_repair_moves_a_damaged_record_aside(
    ablator: Ablator, study: Path, fill: Fill, refused: Refused, kept: Kept, flip: Flip
) -> None:
    store = fill()
    path = sorted((store / "ledger").glob("??/*.json"))[0]
    flip(path)
    # As far as a run gets without training what is missing now.
    refused(ablator("run", study, "-p", "laptop", "--store", store, "--repair", "--cpus", "1000"), "1000 CPU")
    assert not path.exists()
    assert [p.name for p in (store / "ledger" / "quarantine").iterdir()] == [f"{path.stem}.1.json"]
    assert kept(store) == 5
    result = ablator("status", study, "-p", "laptop", "--store", store)
    assert "5 completed" in result.stdout
    assert "1 missing" in result.stdout


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "damaged"])
def test_a_checkpoint_is_read_before_anything_goes_on_from_it(
    ablator: Ablator, study: Path, fill: Fill, whole: bool, refused: Refused, kept: Kept, flip: Flip
) -> None:
    store = fill({("base", 0): None})
    identity = api.plan(study, profile="laptop").trials[0].identity
    path = Store(store).checkpoint(identity)
    checkpoint.save(path, identity, {"epoch": 1})
    run = ("run", study, "-p", "laptop", "--store", store, "--mlflow", "off", "--cpus", "1000")
    if whole:
        refused(ablator(*run), "1000 CPU")
        assert checkpoint.load(path, identity) == {"epoch": 1}
        return
    flip(path)
    refused(ablator(*run), str(path), "damaged", "--repair", "from its beginning")
    assert path.exists()
    refused(ablator(*run, "--repair"), "1000 CPU")
    assert not path.exists()
    assert (store / "checkpoints" / "quarantine" / f"{identity}.pt").exists()
    assert kept(store) == 5


def test_a_damaged_search_journal(
    ablator: Ablator, study: Path, tmp_path: Path, refused: Refused, rewrite: Rewrite
) -> None:
    rewrite(study, ", reported: {baseline: 79.8, n = 2: 80.8}", "")
    rewrite(study, *space("moto.n: {kind: int, low: 1, high: 4}"))
    search = api.plan(study, profile="laptop").searches[0]
    path = Store.open(tmp_path / "store").journal(f"tiny-{search.id}").path
    path.parent.mkdir()
    path.write_bytes(b"garbage\n")
    for command in ("run", "report", "status"):
        refused(ablator(command, study, "-p", "laptop", "--store", tmp_path / "store"), str(path), "line 1")


def test_a_metric_that_finished_trials_do_not_have(
    ablator: Ablator, study: Path, fill: Fill, refused: Refused, rewrite: Rewrite, kept: Kept
) -> None:
    store = fill()
    rewrite(study, "metric: top1", "metric: topp1")
    for command in ("run", "report"):
        result = ablator(command, study, "-p", "laptop", "--store", store)
        refused(result, "'topp1'", "did you mean 'top1'")
    assert kept(store) == 6
