"""Slots in other shapes and uses: several workers a trial, early stopping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store

pytestmark = pytest.mark.slow

Cli = Callable[..., Any]


def records(store: Path) -> dict[str, Any]:
    ledger = Store(store).ledger
    return ledger.load(ledger.identities())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., Path]) -> Path:
    """MoTo behind every block, the last one included: some of its weights get no gradient."""
    folder = tmp_path_factory.mktemp("slots")
    arms = [{"label": "MoTo", "set": {"moto.blocks": "0:2", "tokenprop.scale": 16}}]
    return write_study(folder, "slots", arms, seeds=1)


@pytest.fixture(scope="module")
def alone(study: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Records of the study with one worker a trial."""
    store = tmp_path_factory.mktemp("alone")
    assert cli("run", study, "--store", store, "--json").code == 0
    return records(store)


def test_two_workers_train_the_same_trial(
    study: Path, alone: dict[str, Any], cli: Cli, tmp_path: Path
) -> None:
    done = cli("run", study, "--store", tmp_path, "--workers", 2, "--json")
    assert done.code == 0, done.err
    together = records(tmp_path)
    assert together.keys() == alone.keys(), "how many workers train is no part of a trial's identity"
    for identity, record in together.items():
        first, same = record.curves[0], alone[identity].curves[0]
        # Gradients are summed in another order, which grows from step to step.
        assert first["train_loss"] == pytest.approx(same["train_loss"], rel=2e-2)
        assert first["val_loss"] == pytest.approx(same["val_loss"], rel=5e-2)


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_early_stopping_prunes_and_a_study_without_it_trains_to_the_end(
    cli: Cli, write_study: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    # Three that learn, and three that cannot: by the fourth epoch they are far apart.
    rates = [1e-3, 8e-4, 6e-4, 1e-9, 2e-9, 3e-9]
    arms = [{"label": "lr {lr}", "design": "grid", "set": {"train.lr": rates}}]
    common = {"seeds": 1, "set": {"train.epochs": 8, "train.warmup_epochs": 0, "data.fraction": 1.0}}
    stopping = write_study(tmp_path, "stopping", arms, stop={"kind": kind, "grace_epochs": 4}, **common)
    store = tmp_path / "store"
    done = cli("run", stopping, "--store", store, "--json")
    assert done.code == 0, done.err
    account = done.json
    assert account["pruned"] >= 1, done.err
    assert account["pruned"] + account["completed"] == account["planned"] == 7
    pruned = [r for r in records(store).values() if r.status == "pruned"]
    assert all(4 <= r.curves[-1]["epoch"] < 8 for r in pruned)
    stopped = {r.spec["train"]["lr"] for r in pruned}
    assert 2e-3 not in stopped, "the baseline is spared"
    assert stopped & {1e-9, 2e-9, 3e-9}, "what cannot learn is stopped first"
    if kind == "median":
        return
    # What follows is the same for both.
    again = cli("run", stopping, "--store", store, "--json")
    assert (again.json["trained"], again.json["cached"]) == (0, 7)
    whole = write_study(tmp_path, "whole", arms, **common)
    done = cli("run", whole, "--store", store, "--json")
    assert done.json["trained"] == len(pruned), "only what was pruned is trained, to its end"
    assert {r.status for r in records(store).values()} == {"completed"}


def test_slots_that_share_gpus_fill_a_cluster_to_the_last_part(
    study: Path, cli: Cli, make_nodes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of GPUs that Ray counts and nobody has. Tune's actors start where Train's groups leave nothing."""
    monkeypatch.setenv("ABLATOR_DEVICE", "cpu")
    with make_nodes(cpus=1, gpus=1) as nodes:
        options = ("--address", nodes.address, "--cpus", 0.5, "--gpus", 0.5)
        done = cli("run", study, "--store", tmp_path, *options, "--set", "train.epochs=25", "--json")
    assert done.code == 0, done.err
    found = records(tmp_path).values()
    assert len(found) == 2
    assert max(r.started for r in found) < min(r.finished for r in found), "both slots had what they need"
