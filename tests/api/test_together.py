"""Three studies that share trials, one of them with early stopping and a search, as one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store

_ENDS = ("completed", "failed", "diverged", "pruned", "cached", "missing")


@pytest.mark.slow
def test_a_folder_is_one_plan_and_what_is_shared_is_trained_once(
    cli: Callable[..., Any], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    import mlflow

    folder = tmp_path / "experiments"
    folder.mkdir()
    space = {"dimensions": {"moto.n": {"kind": "categorical", "choices": [2, 4]}}}
    search = {"label": "found", "design": "search", "space": space, "samples": 3, "sampler": "random"}
    stop = {"kind": "asha", "grace_epochs": 1, "reduction": 2}
    # By name it comes first, and by what it may end early last.
    write_study(folder, "a_stops", [{"label": "four", "set": {"moto.n": 4}}, search], seeds=1, stop=stop)
    write_study(folder, "b_grid", [{"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}}])
    write_study(folder, "c_two", [{"label": "two", "set": {"moto.n": 2}}])
    store = tmp_path / "store"
    done = cli("run", folder, "--store", store, "--json")
    assert done.code == 0, done.err
    assert "12 trials of 3 studies; 6 shared, so 6 to train, and up to 3 of searches" in done.err
    assert done.err.count("started Ray") == 1
    found = done.json
    ledger = Store(store).ledger
    records = ledger.load(ledger.identities())
    # The baseline, n = 2 and n = 4, two seeds each; the search draws nothing else.
    assert len(records) == found["trained"] == found["completed"] == 6
    assert (found["planned"], found["shared"], found["cached"]) == (15, 6, 9)
    for account in (found, *found["studies"]):
        assert account["planned"] == sum(account[key] for key in _ENDS)
    assert all(len(record.curves) == 3 for record in records.values()), "none was ended early"
    assert {Path(found["page"]).name, Path(found["table"]).name} == {"page.html", "tables.md"}
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    # Of a_stops the arms; which of the two points its search drew is the sampler's to say.
    arms = {"a_stops": {"DeiT", "four"}, "b_grid": {"DeiT", "n = 2", "n = 4"}, "c_two": {"DeiT", "two"}}
    for name, expected in arms.items():
        experiment = client.get_experiment_by_name(name)
        runs = client.search_runs([experiment.experiment_id])
        names = {run.info.run_name.partition(" · ")[0] for run in runs if "ablator.identity" in run.data.tags}
        assert names - {"found"} == expected, "a shared trial has its run, by its own label, in every study"
        assert {run.info.status for run in runs} == {"FINISHED"}
    again = cli("run", folder, "--store", store, "--json").json
    assert (again["trained"], again["cached"], again["planned"]) == (0, 15, 15)
