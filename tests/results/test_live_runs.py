from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablator.results import live_runs
from ablator.results.live_runs import Curves
from ablator.results.mirror import Mirror
from ablator.results.outbox import MirrorTrial, Outbox
from ablator.results.store import Store
from ablator.results.sync import sync
from ablator.results.tracking import target

MakeTrial = Callable[..., MirrorTrial]


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without any run."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, new_database: Path) -> Store:
    made = Store.open(tmp_path / "store")
    shutil.copy(new_database, made.database)
    return made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial takes long enough for a live run."""
    monkeypatch.setattr(live_runs, "LIVE_AFTER_S", 0.0)
    monkeypatch.setattr(live_runs, "LIVE_EVERY_S", 0.05)


@pytest.fixture
def mirror_of(store: Store) -> Iterator[Callable[..., Mirror]]:
    """Mirrors of one study, as drivers make them one after the other; those that a test leaves open stand
    for drivers that were killed."""
    made: list[Mirror] = []

    def make(uri: str | None = None) -> Mirror:
        made.append(Mirror(store, uri, "moto_n"))
        return made[-1]

    yield make
    for mirror in made:
        mirror.close(120)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all requests that are made of MLflow from now on."""
    from mlflow import MlflowClient

    names: list[str] = []
    for name in ("search_runs", "create_run", "delete_run", "log_batch", "get_metric_history", "set_tag"):
        monkeypatch.setattr(MlflowClient, name, _counting(names, name, getattr(MlflowClient, name)))
    return names


def _counting(names: list[str], name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return real(*args, **kwargs)

    return call


def tell(mirror: Mirror, trial: MirrorTrial, *epochs: int) -> None:
    """Report epochs of a trial that is being trained."""
    for epoch in epochs:
        mirror.progress(
            identity=trial.identity,
            label=trial.label,
            arm=trial.arm,
            seed=trial.seed,
            metrics={"train_loss": 3.0 / epoch, "top1": 10.0 * epoch},
            epoch=epoch,
        )


def finish(store: Store, mirror: Mirror, trial: MirrorTrial) -> None:
    store.ledger.commit(trial.record)
    mirror.trial(trial)
    assert mirror.close(120) == 0


def client_of(store: Store) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store.database}")


def runs_of(store: Store, *, deleted: bool = False) -> list[Any]:
    """The runs of the study's trials, live or final; only those that were deleted, or only the others."""
    from mlflow.entities import ViewType

    client = client_of(store)
    experiment = client.get_experiment_by_name("moto_n")
    if experiment is None:
        return []
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    runs = client.search_runs([experiment.experiment_id], run_view_type=view)
    return [run for run in runs if "ablator.identity" in run.data.tags]


def curve_of(store: Store, run: Any, name: str = "top1") -> list[tuple[int, float]]:
    history = client_of(store).get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def wait_until(what: str, condition: Callable[[], Any]) -> Any:
    """What `condition` gives, once it is true."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"still not: {what}")


def wait_for(store: Store, epochs: list[int]) -> Any:
    """The one run of the study's trials, once it has these epochs."""

    def find() -> Any:
        found = runs_of(store)
        return found if found and [step for step, _ in curve_of(store, found[0])] == epochs else None

    (run,) = wait_until(f"a run with epochs {epochs}", find)
    return run


def versions(runs: list[Any]) -> list[str]:
    return [run.data.tags["ablator.version"] for run in runs]


@pytest.mark.usefixtures("at_once")
def test_a_curve_is_there_while_its_trial_trains_and_its_record_takes_its_place(
    store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    mirror, trial = mirror_of(), make_trial(1)
    tell(mirror, trial, 1, 2)
    wait_for(store, [1, 2])
    tell(mirror, trial, 2, 3)
    live = wait_for(store, [1, 2, 3])
    assert live.info.status == "RUNNING"
    assert live.info.run_name == trial.label
    assert curve_of(store, live) == [(1, 10.0), (2, 20.0), (3, 30.0)]
    assert curve_of(store, live, "train_loss") == [(1, 3.0), (2, 1.5), (3, 1.0)]
    tags = live.data.tags
    assert tags["ablator.identity"] == trial.identity
    assert (tags["ablator.arm"], tags["ablator.seed"]) == ("n = 4", "1")
    assert (tags["ablator.study"], tags["ablator.version"]) == ("moto_n", "live")
    assert client_of(store).get_run(tags["mlflow.parentRunId"]).info.run_name == "moto_n"

    finish(store, mirror, trial)
    (final,) = runs_of(store)
    assert final.info.status == "FINISHED"
    assert final.info.run_id != live.info.run_id
    assert final.data.tags["mlflow.parentRunId"] == tags["mlflow.parentRunId"]
    assert [run.info.run_id for run in runs_of(store, deleted=True)] == [live.info.run_id]


@pytest.mark.usefixtures("at_once")
def test_a_failed_trial_has_no_live_run_left_and_gets_another_when_trained_again(
    store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    first, second = mirror_of(), mirror_of()
    failed = make_trial(1, status="failed", metrics={}, error="out of memory", finished=1_700_000_001.0)
    tell(first, failed, 1)
    wait_for(store, [1])
    finish(store, first, failed)
    assert versions(runs_of(store)) == [f"failed@{failed.record.finished:.6f}"]

    tell(second, make_trial(1), 1, 2)
    wait_until("a live run", lambda: "live" in versions(runs_of(store)))
    finish(store, second, make_trial(1))
    assert sorted(run.data.tags["ablator.status"] for run in runs_of(store)) == ["completed", "failed"]
    assert versions(runs_of(store, deleted=True)) == ["live", "live"]


@pytest.mark.usefixtures("at_once")
def test_a_live_run_goes_on_after_its_driver_was_killed(
    store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    trial = make_trial(1)
    tell(mirror_of(), trial, 1, 2)
    left = wait_for(store, [1, 2])
    second = mirror_of()
    tell(second, trial, 2, 3)  # The checkpoint was of before the second epoch's end.
    live = wait_for(store, [1, 2, 3])
    assert live.info.run_id == left.info.run_id
    assert curve_of(store, live) == [(1, 10.0), (2, 20.0), (3, 30.0)]
    finish(store, second, trial)
    assert [run.info.status for run in runs_of(store)] == ["FINISHED"]
    assert len(runs_of(store, deleted=True)) == 1


@pytest.mark.parametrize("sender", ["the next run", "sync"])
def test_a_live_run_that_a_killed_driver_left_ends_with_a_trial_that_needs_none_any_more(
    store: Store,
    mirror_of: Callable[..., Mirror],
    make_trial: MakeTrial,
    monkeypatch: pytest.MonkeyPatch,
    sender: str,
) -> None:
    trial = make_trial(1)
    with monkeypatch.context() as patch:
        patch.setattr(live_runs, "LIVE_AFTER_S", 0.0)
        tell(mirror_of(), trial, 1)
        wait_for(store, [1])
    if sender == "sync":
        store.ledger.commit(trial.record)
        Outbox(store, target(store, None), "moto_n").put_trial(trial)
        assert sync(store).left == 0
    else:
        second = mirror_of()
        tell(second, trial, 2)
        finish(store, second, trial)
    assert [run.info.status for run in runs_of(store)] == ["FINISHED"]
    assert versions(runs_of(store, deleted=True)) == ["live"]


@pytest.mark.usefixtures("at_once")
def test_two_drivers_of_one_trial_leave_no_live_run(
    store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    one, other, trial = mirror_of(), mirror_of(), make_trial(1)
    tell(one, trial, 1)
    wait_for(store, [1])
    finish(store, one, trial)
    tell(other, trial, 1, 2)
    wait_until("a live run", lambda: "live" in versions(runs_of(store)))
    other.trial(trial)
    assert other.close(120) == 0
    assert [run.info.status for run in runs_of(store)] == ["FINISHED"]


def test_a_short_trial_costs_nothing(
    store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial, calls: list[str]
) -> None:
    finish(store, mirror_of(), make_trial(1))  # Makes the study's own run as well.
    calls.clear()
    finish(store, mirror_of(), make_trial(2))
    silent = list(calls)
    calls.clear()

    mirror = mirror_of()
    tell(mirror, make_trial(3), 1, 2, 3)
    finish(store, mirror, make_trial(3))
    assert calls == silent
    assert len(runs_of(store)) == 3
    assert runs_of(store, deleted=True) == []
    assert not list(store.sent.rglob("*.live"))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("method", ["create_run", "log_batch"])
@pytest.mark.parametrize("carried_out", [True, False])
def test_what_a_server_did_not_answer_is_there_once(
    store: Store,
    mirror_of: Callable[..., Mirror],
    make_trial: MakeTrial,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    carried_out: bool,
) -> None:
    from mlflow import MlflowClient

    real, trial = getattr(MlflowClient, method), make_trial(1)
    lost: list[str] = []

    def lose_the_first_answer(*args: Any, **kwargs: Any) -> Any:
        of_study = kwargs.get("run_name") == "moto_n"
        if lost or of_study:
            return real(*args, **kwargs)
        lost.append(method)
        if carried_out:
            real(*args, **kwargs)
        raise ConnectionError("timed out")

    monkeypatch.setattr(MlflowClient, method, lose_the_first_answer)
    mirror = mirror_of()
    tell(mirror, trial, 1, 2)
    wait_for(store, [1, 2])
    tell(mirror, trial, 3)
    live = wait_for(store, [1, 2, 3])
    assert lost
    assert curve_of(store, live) == [(1, 10.0), (2, 20.0), (3, 30.0)]
    assert mirror.problem is None


@pytest.mark.usefixtures("at_once")
def test_a_server_that_is_away_is_named_and_loses_only_the_preview(
    mirror_of: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    mirror = mirror_of("http://127.0.0.1:9")
    tell(mirror, make_trial(1), 1, 2)
    problem = wait_until("a problem", lambda: mirror.problem)
    assert "127.0.0.1" in problem
    assert mirror.close(120) == 0


@pytest.mark.usefixtures("at_once")
def test_off_shows_nothing(store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial) -> None:
    mirror = mirror_of("off")
    tell(mirror, make_trial(1), 1, 2)
    assert mirror.close(120) == 0
    assert not store.sent.exists()
    assert runs_of(store) == []


@pytest.mark.usefixtures("at_once")
def test_odd_metrics_do_not_reach_the_trial(
    store: Store, mirror_of: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    mirror, trial = mirror_of(), make_trial(1)
    odd: Any = "many"
    about: dict[str, Any] = {
        "identity": trial.identity,
        "label": trial.label,
        "arm": trial.arm,
        "seed": trial.seed,
    }
    mirror.progress(**about, metrics={"top1": odd}, epoch=1)
    mirror.progress(**about, metrics={}, epoch=2)
    mirror.progress(**about, metrics={"top1": math.inf, "a, b": 1.0}, epoch=3)
    live = wait_for(store, [3])
    assert math.isnan(curve_of(store, live)[0][1])
    assert curve_of(store, live, "a_ b") == [(3, 1.0)]


def test_rows_that_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_runs, "LIVE_AFTER_S", 0.0)
    curves = Curves()
    for epoch in range(5000):
        curves.note(identity="a", label="a", arm="a", seed=0, metrics={"loss": 1.0}, epoch=epoch)
    curve, _ = curves.next()
    assert curve is not None
    assert [row.epoch for row in curve.rows] == list(range(4000, 5000))
