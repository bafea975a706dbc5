"""A study whose trials start from another study's, through real Ray: alone, again, and together with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store

MOTO: dict[str, Any] = {"label": "MoTo", "set": {"moto.n": 2}}
_ENDS = ("completed", "failed", "diverged", "pruned", "cached", "missing")


@pytest.mark.slow
def test_what_is_needed_is_trained_first_and_once(
    cli: Callable[..., Any], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    import mlflow

    folder = tmp_path / "experiments"
    folder.mkdir()
    small = {"train.epochs": 1, "train.warmup_epochs": 0, "data.fraction": 0.1}
    # By name the probe comes first.
    fast = {"label": "too fast", "set": {"train.lr": 1e30}}
    designs = write_study(folder, "b_designs", [MOTO, fast], seeds=1, set=small)
    rows = [MOTO, {"label": "too fast", "set": {"train.lr": 0.3}}]
    below = {**small, "model.weights": "study:b_designs.yaml", "train.optimizer": "sgd", "train.lr": 0.1}
    probe = write_study(folder, "a_probe", rows, seeds=1, task="linear_probe", set=below)
    store = tmp_path / "store"

    planned = cli("plan", probe, "--store", store, "--no-size", "--json")
    assert (
        "starts from b_designs: DeiT; MoTo; too fast (seeds 0): 3 trials, 0 kept, 3 to train" in planned.err
    )
    starts = planned.json["starts"]
    assert [(item["study"], item["label"], item["cached"]) for item in starts] == [
        ("b_designs", label, False) for label in ("DeiT", "MoTo", "too fast")
    ]

    alone = cli("run", probe, "--store", store, "--json")
    account = alone.json
    assert alone.code == 1
    assert account["planned"] == sum(account[key] for key in _ENDS) == 3
    assert (account["completed"], account["failed"], account["trained"]) == (2, 1, 3)
    assert account["needed"] == 3
    # The diverged one has no weights to give: its row fails, says so, and takes nothing else with it.
    assert "too fast · seed 0 of b_designs, which diverged" in alone.err
    ledger = Store(store).ledger
    records = ledger.load(ledger.identities())
    assert len(records) == 5
    kept = {path.stem for path in (store / "weights").glob("*.pt")}
    upstream = {i for i, record in records.items() if record.spec["task"] == "classification"}
    assert kept == {i for i in upstream if records[i].status == "completed"}, "exactly what is needed"
    assert all(
        record.spec["model"]["weights"].removeprefix("trial:") in kept
        for i, record in records.items()
        if i not in upstream
    )
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    experiment = client.get_experiment_by_name("b_designs")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {
        *("b_designs", "DeiT · seed 0", "MoTo · seed 0", "too fast · seed 0")
    }

    # Both at once, with another third row and another rate; the weights of what is recorded are gone.
    text = designs.read_text(encoding="utf-8").replace("label: too fast", "label: four")
    designs.write_text(text.replace("train.lr: 1.0e+30", "moto.n: 4"), encoding="utf-8")
    text = probe.read_text(encoding="utf-8").replace("label: too fast", "label: four")
    text = text.replace("train.lr: 0.3", "moto.n: 4").replace("train.lr: 0.1", "train.lr: 0.05")
    probe.write_text(text, encoding="utf-8")
    for path in (store / "weights").glob("*.pt"):
        path.unlink()
    together = cli("run", folder, "--store", store, "--json")
    assert together.code == 0, together.err
    account = together.json
    assert account["planned"] == sum(account[key] for key in _ENDS) == 6
    assert (account["cached"], account["completed"], account["trained"], account["needed"]) == (2, 4, 4, 2)
    assert [one["needed"] for one in account["studies"]] == [2, 0]
    assert len(list((store / "weights").glob("*.pt"))) == 3
    again = ledger.load(ledger.identities())
    assert {i: again[i] for i in records} == records, "what was trained again keeps its record"
    assert len(again) == 5 + 4
