"""A study through the whole house: Ray Tune and Train, the ledger, MLflow, the table."""

from __future__ import annotations

import csv
import itertools
import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablator.results.store import Store

Cli = Callable[..., Any]


def records(store: Path) -> dict[str, Any]:
    ledger = Store(store).ledger
    return ledger.load(ledger.identities())


def test_the_account_balances_and_the_exit_code_tells_of_the_failure(first_run: Any) -> None:
    account = first_run.outcome.json
    assert account["planned"] == 10
    assert account["completed"] == 6
    assert account["diverged"] == 2
    assert account["failed"] == 2
    assert (account["pruned"], account["cached"], account["missing"]) == (0, 0, 0)
    assert first_run.outcome.code == 1


def test_human_output_is_on_standard_error(first_run: Any) -> None:
    assert first_run.outcome.out.count("\n") == 1
    for words in ("n = 4", "diverged", "10 planned = 6 completed + 2 failed + 2 diverged"):
        assert words in first_run.outcome.err
    assert "Traceback" not in first_run.outcome.err


def test_status_follows_the_run_from_another_process(first_run: Any) -> None:
    live = [state for state in first_run.seen if state.live is not None]
    assert len({state.live.pid for state in live}) == 1
    assert not first_run.stale
    assert {state.live.planned for state in live} == {10}
    done = [state.live.done for state in live]
    assert done == sorted(done)
    assert done[0] < done[-1]
    assert live[-1].live.slots > 0
    running = [trial for state in live for trial in state.live.running]
    assert {trial.label for trial in running} <= {"DeiT", "n = 2", "n = 4", "too fast", "unreadable"}
    assert running
    assert all(0 <= trial.epoch <= 3 and trial.seconds >= 0 for trial in running)
    # The table only fills.
    tables = [[row.done for row in state.filling.rows()] for state in live]
    assert tables[0] == [0] * 5
    assert all(all(map(operator.le, before, after)) for before, after in itertools.pairwise(tables))
    assert sum(tables[-1]) > 0


def test_a_run_that_is_over_says_nothing_more(first_run: Any) -> None:
    import ablator

    state = ablator.status(first_run.study, store=first_run.store)
    assert state.live is None
    assert state.settled
    rows = {row.label: row for row in state.filling.rows()}
    table = {row.label: row for row in ablator.report(first_run.study, store=first_run.store).table.rows}
    assert all(rows[label].mean == row.mean and rows[label].std == row.std for label, row in table.items())
    assert rows["n = 2"].delta == pytest.approx(table["n = 2"].comparison.delta)
    assert rows["unreadable"].counts["failed"] == 2


def test_records_say_what_happened(first_run: Any) -> None:
    found = records(first_run.store)
    done = [r for r in found.values() if r.status == "completed"]
    assert len(done) == 6
    for record in done:
        assert [row["epoch"] for row in record.curves] == [1, 2, 3]
        assert record.metrics["top1"] == record.curves[-1]["top1"]
        assert record.curves[-1]["train_loss"] < record.curves[0]["train_loss"], "it learns"
        assert record.cost["images_per_second"] > 0
        assert record.size["parameters"] > 10_000
        assert {"torch", "ablator", "device"} <= set(record.versions)
    diverged = [r for r in found.values() if r.status == "diverged"]
    assert len(diverged) == 2
    assert all("nan" in r.error or "inf" in r.error for r in diverged)
    assert all(not r.metrics for r in diverged)


def test_failures_are_kept_by_name_and_are_no_results(first_run: Any) -> None:
    ledger = Store(first_run.store).ledger
    failures = [ledger.failure(p.stem) for p in (first_run.store / "ledger" / "failures").glob("*.json")]
    assert len(failures) == 2
    for failure in failures:
        named = [name for name in ("3.png", "5.png", "8.png") if name in failure.error]
        assert named, "an unreadable image is named"
        assert "max_corrupt" in failure.error, "and the setting that would allow it"
        assert failure.identity not in ledger.identities()


def test_the_table_shows_every_state(first_run: Any) -> None:
    folder = Path(first_run.outcome.json["table"]).parent
    with open(folder / "table.csv") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["DeiT", "n = 2", "n = 4", "too fast", "unreadable"]
    assert rows["too fast"]["completed"] == "0"
    text = (folder / "table.md").read_text()
    assert "diverged" in text
    assert "failed" in text
    for name in ("table.tex", "page.html", "results.json"):
        assert (folder / name).stat().st_size > 500


def test_mlflow_has_a_run_for_every_trial(first_run: Any) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{first_run.store}/mlflow.db")
    experiment = client.get_experiment_by_name("states")
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if "ablator.identity" in run.data.tags]
    study = [run for run in runs if "ablator.identity" not in run.data.tags]
    assert len(trials) == 10
    assert len(study) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study[0].info.run_id}
    kept = records(first_run.store)
    for run in trials:
        record = kept.get(run.data.tags["ablator.identity"])
        if record is not None and record.status == "completed":
            curve = client.get_metric_history(run.info.run_id, "top1")
            assert [m.value for m in sorted(curve, key=lambda m: m.step)] == pytest.approx(
                [row["top1"] for row in record.curves]
            )
            assert run.data.params["data.name"] == "folder"
    assert {a.path for a in client.list_artifacts(study[0].info.run_id)} >= {"page.html", "table.md"}


def test_running_again_trains_only_what_failed(first_run: Any, cli: Cli, tmp_path: Path) -> None:
    document = yaml.safe_load(first_run.study.read_text())
    before = (Path(first_run.outcome.json["table"]).parent / "table.md").read_text()
    document["arms"] = document["arms"][:2]
    study = tmp_path / "states.yaml"
    study.write_text(yaml.safe_dump(document))
    again = cli("run", study, "--store", first_run.store, "--json")
    assert again.code == 0
    assert (again.json["trained"], again.json["cached"], again.json["planned"]) == (0, 8, 8)
    after = Path(again.json["table"]).read_text()
    assert [line for line in before.splitlines() if "n = 4" in line][:1] == [
        line for line in after.splitlines() if "n = 4" in line
    ][:1]
    once_more = cli("run", study, "--store", first_run.store, "--json")
    assert Path(once_more.json["table"]).read_text() == after


def test_search_trains_each_cell_once_and_shares_its_baseline(
    first_run: Any, cli: Cli, write_study: Callable[..., Path], tmp_path: Path
) -> None:
    space = {
        "dimensions": {
            "moto.n": {"kind": "categorical", "choices": [2, 4, 3]},
            "moto.partition": {"kind": "categorical", "choices": ["soft", "hard"]},
        }
    }
    document = yaml.safe_load(first_run.study.read_text())
    study = write_study(
        tmp_path,
        "search",
        [{"label": "best found", "design": "search", "space": space, "samples": 24, "sampler": "tpe"}],
        set=document["set"],
        seeds=1,
    )
    before = set(records(first_run.store))
    done = cli("run", study, "--store", first_run.store, "--json")
    assert done.code == 0, done.err
    account = done.json
    # Six cells, of which n = 2 and n = 4 soft are in the ledger from the first study, as the baseline is.
    assert account["planned"] == 25
    assert account["trained"] <= 4
    assert account["trained"] + account["cached"] == 25
    assert len(set(records(first_run.store)) - before) == account["trained"]
    again = cli("run", study, "--store", first_run.store, "--json")
    assert (again.json["trained"], again.json["cached"], again.code) == (0, 25, 0)
    assert "best found" in Path(again.json["table"]).read_text()


def test_python_gives_the_same_as_the_command_line(first_run: Any) -> None:
    import ablator

    results = ablator.report(first_run.study, store=first_run.store)
    baseline = results.table.baseline
    kept = [r for r in results.records.values() if r.status == "completed" and "moto" not in r.spec]
    assert baseline.mean == pytest.approx(math.fsum(r.metrics["top1"] for r in kept) / len(kept))
    assert not results.table.complete
    state = ablator.status(first_run.study, store=first_run.store)
    assert state.account.failed == 2
    assert state.running == ()
