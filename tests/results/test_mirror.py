from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.errors import StoreError, TrackingError
from ablator.results.mirror import Mirror
from ablator.results.outbox import MirrorTrial, Outbox
from ablator.results.runs import clean_name, parameters
from ablator.results.sender import Sender
from ablator.results.store import Store
from ablator.results.sync import sync
from ablator.results.tracking import target
from ablator.results.versions import GitState

MakeTrial = Callable[..., MirrorTrial]


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without any run; its schema takes a second to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    """A store that MLflow never saw."""
    return Store.open(tmp_path / "fresh")


@pytest.fixture
def store(tmp_path: Path, new_database: Path) -> Store:
    made = Store.open(tmp_path / "store")
    shutil.copy(new_database, made.database)
    return made


@pytest.fixture
def send(store: Store) -> Callable[..., Mirror]:
    """Commit trials and mirror them to the store's own database; returns the closed mirror."""

    def run(*trials: MirrorTrial, study: str = "moto_n", code: GitState | None = None) -> Mirror:
        mirror = Mirror(store, None, study, code=code)
        for trial in trials:
            store.ledger.commit(trial.record)
            mirror.trial(trial)
        mirror.close(120)
        return mirror

    return run


def client_of(store: Store, database: Path | None = None) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{database or store.database}")


def runs_of(store: Store, study: str = "moto_n", database: Path | None = None) -> list[Any]:
    """Every run of a study's trials, in order of seed."""
    client = client_of(store, database)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += [run for run in page if "ablator.identity" in run.data.tags]
        token = page.token
        if not token:
            return sorted(runs, key=lambda run: int(run.data.tags["ablator.seed"]))


def test_two_machines_over_an_object_store_send_a_trial_once(
    s3_store: str,
    new_database: Path,
    make_trial: MakeTrial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = tmp_path / "shared.db"
    shutil.copy(new_database, database)
    for number, label in enumerate(("n = 4", "n = 4", "renamed")):
        monkeypatch.setenv("ABLATOR_CACHE", str(tmp_path / f"machine {number % 2}"))
        there = Store.open(s3_store)
        trial = make_trial(1, arm=label)
        there.ledger.commit(trial.record)
        mirror = Mirror(there, f"sqlite:///{database}", "moto_n")
        mirror.trial(trial)
        assert mirror.close(120) == 0, mirror.problem
        (run,) = runs_of(there, database=database)
        assert run.info.run_name == f"{label} · seed 1"
    assert there.files.names("claims") == []


def test_a_run_says_everything_about_its_trial(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    code = GitState(commit="c" * 40, dirty=True, diff="+lr = 1\n")
    versions = {"torch": "2.15.0", "git_commit": "c" * 40, "git_diff": code.digest}
    trial = make_trial(1, notes=("stands in for VGG19",), versions=versions)
    mirror = send(trial, code=code)
    assert (mirror.pending(), mirror.problem) == (0, None)

    client = client_of(store)
    (run,) = runs_of(store)
    assert run.info.run_name == "n = 4 · seed 1"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_010_000)
    assert run.data.params == {
        "task": "classification",
        "seed": "1",
        "model.name": "vit",
        "model.options.depth": "2",
    }
    assert run.data.metrics["final/top1"] == 81.0
    assert run.data.metrics["cost/step_ms"] == 3.5
    assert run.data.metrics["size/parameters"] == 1000.0
    curve = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value, point.timestamp) for point in curve] == [
        (1, 2.5, 1_700_000_005_000),
        (2, 1.5, 1_700_000_010_000),
    ]
    tags = run.data.tags
    assert tags["ablator.identity"] == trial.identity
    assert tags["ablator.arm"] == "n = 4"
    assert tags["ablator.status"] == "completed"
    assert tags["ablator.changes"] == '{"moto.n": 4}'
    assert tags["ablator.notes"] == "stands in for VGG19"
    assert tags["ablator.version.torch"] == "2.15.0"
    assert tags["mlflow.source.git.commit"] == "c" * 40
    assert tags["ablator.git_diff"] == "+lr = 1\n"
    parent = client.get_run(tags["mlflow.parentRunId"])
    assert parent.info.run_name == "moto_n"


def test_statuses_are_mlflows(store: Store, send: Callable[..., Mirror], make_trial: MakeTrial) -> None:
    send(
        make_trial(1),
        make_trial(2, status="pruned"),
        make_trial(3, status="diverged", metrics={}, error="loss is nan at step 7"),
        make_trial(4, status="failed", metrics={}, error="out of memory"),
    )
    runs = runs_of(store)
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED", "FAILED", "FAILED"]
    assert runs[2].data.tags["ablator.error"] == "loss is nan at step 7"


def test_a_failed_trial_that_is_trained_again_gets_a_run_of_its_own(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    send(make_trial(1, status="failed", metrics={}, error="out of memory", finished=1_700_000_001.0))
    send(make_trial(1))
    assert sorted(run.data.tags["ablator.status"] for run in runs_of(store)) == ["completed", "failed"]


def test_the_report_hangs_at_the_studys_run(store: Store, make_trial: MakeTrial) -> None:
    folder = store.reports("moto_n")
    folder.mkdir(parents=True)
    table, page = folder / "table.md", folder / "page.html"
    table.write_text("| one |")
    page.write_text("<html>")
    trial = make_trial(1)
    store.ledger.commit(trial.record)
    for text in ("| one |", "| two |", "| two |"):
        table.write_text(text)
        mirror = Mirror(store, None, "moto_n", code=GitState(commit="c" * 40, dirty=True, diff="+x\n"))
        mirror.report([table, page], {"completed": 1.0})
        mirror.trial(trial)
        assert mirror.close(120) == 0

    client = client_of(store)
    (run,) = runs_of(store)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"completed": 1.0}
    assert [a.path for a in client.list_artifacts(parent.info.run_id)] == ["code", "page.html", "table.md"]
    assert (Path(parent.info.artifact_uri.removeprefix("file://")) / "table.md").read_text() == "| two |"
    (diff,) = client.list_artifacts(parent.info.run_id, "code")
    assert diff.path.endswith(".diff")


def test_a_second_run_sends_nothing_and_does_not_load_mlflow(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    send(make_trial(1))
    code = f"""
import sys
from ablator.results.mirror import Mirror
from ablator.results.outbox import MirrorTrial
from ablator.results.store import Store
store = Store({str(store.root)!r})
record = store.ledger.get({make_trial(1).identity!r})
mirror = Mirror(store, None, "moto_n")
mirror.trial(MirrorTrial(identity=record.identity, label="n = 4 · seed 1", arm="n = 4", seed=1,
                         changes={{"moto.n": 4}}, record=record))
assert mirror.close() == 0
assert not {{"mlflow", "torch", "ray"}} & sys.modules.keys(), "a heavy library was loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(runs_of(store)) == 1


def test_edited_labels_rename_the_run(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    send(make_trial(1))
    send(make_trial(1, arm="four entities"))
    (run,) = runs_of(store)
    assert run.info.run_name == "four entities · seed 1"
    assert run.data.tags["ablator.arm"] == "four entities"


def test_studies_that_share_a_trial_have_a_run_each(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    send(make_trial(1), study="moto_n")
    send(make_trial(1), study="moto_norm")
    assert [len(runs_of(store, study)) for study in ("moto_n", "moto_norm")] == [1, 1]


def test_values_that_are_not_finite_do_not_spoil_the_plot(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    curves = ({"epoch": 1, "train_loss": math.nan}, {"epoch": 2, "train_loss": math.inf})
    send(make_trial(1, status="diverged", metrics={}, error="loss is inf", curves=curves))
    (run,) = runs_of(store)
    history = client_of(store).get_metric_history(run.info.run_id, "train_loss")
    assert [math.isnan(point.value) for point in history] == [True, True]


def test_hostile_and_large_specs_are_mirrored(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    options = {f"option {n} (é=@,)": n for n in range(150)}
    spec = {
        "model": {
            "a=b": 1,
            "a@b": 2,
            "../up": 3,
            "/etc": 4,
            "long": "x" * 7000,
            "empty": {},
            "options": options,
        }
    }
    curves = tuple({"epoch": n, **{f"loss, {k}": 0.5 for k in range(12)}} for n in range(1, 101))
    mirror = send(make_trial(1, arm="'; DROP TABLE runs; --`\"", spec=spec, curves=curves))
    assert mirror.problem is None
    (run,) = runs_of(store)
    params = run.data.params
    assert {params["model.a_b"], params["model.a_b_2"]} == {"1", "2"}
    assert len(params["model.long"]) == 6000
    assert params["model.long"].endswith("(7000 characters)")
    assert len(params) == 6 + 150
    assert len(client_of(store).get_metric_history(run.info.run_id, "loss_ 11")) == 100


@pytest.mark.parametrize("name", ["a/../b", "..", "/a", "a//b", "a,b", "ü" * 300, "./a", "a/."])
def test_cleaned_names_are_taken_by_mlflow(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(clean_name(name))
    _validate_param_name(clean_name(name))


def test_long_keys_that_begin_alike_stay_apart() -> None:
    flat = parameters({"x" * 300: 1, "x" * 301: 2})
    assert sorted(flat.values()) == ["1", "2"]
    assert max(map(len, flat)) <= 250


class KilledError(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize("step", ["create_run", "log_batch", "set_terminated"])
def test_a_death_while_sending_makes_no_second_run(
    store: Store, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from mlflow import MlflowClient

    trial = make_trial(1)
    store.ledger.commit(trial.record)
    outbox = Outbox(store, target(store, None), "moto_n")
    outbox.put_trial(trial)
    sender = Sender(outbox)
    sender.connect()
    sender._parent_run()
    real = getattr(MlflowClient, step)

    def die_after(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, die_after)
        with pytest.raises(KilledError):
            sender.send(trial.identity, maybe_sent=False)
    sender.close()

    mirror = Mirror(store, None, "moto_n")
    mirror.trial(trial)
    assert mirror.close(120) == 0
    (run,) = runs_of(store)
    assert run.info.status == "FINISHED"
    assert len(run.data.params) == 4
    assert len(client_of(store).get_metric_history(run.info.run_id, "train_loss")) == 2


def test_a_run_that_a_slow_server_made_twice_is_there_once_in_the_end(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    trial = make_trial(1)
    send(trial)
    (run,) = runs_of(store)
    client_of(store).create_run(run.info.experiment_id, tags=run.data.tags)
    for path in store.sent.rglob("*.jsonl"):
        path.write_bytes(b"")
    outbox = Outbox(store, target(store, None), "moto_n")
    outbox.put_trial(trial)
    assert sync(store).left == 0
    (kept,) = runs_of(store)
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics["final/top1"] == 81.0


def test_removing_mlflows_database_sends_everything_again(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    send(make_trial(1), make_trial(2))
    store.database.unlink()
    send(make_trial(1), make_trial(2))
    assert len(runs_of(store)) == 2


def test_two_drivers_on_one_new_store_send_each_trial_once(fresh: Store, make_trial: MakeTrial) -> None:
    trials = [make_trial(n) for n in range(6)]
    mirrors = [Mirror(fresh, None, "moto_n") for _ in range(2)]
    for trial in trials:
        fresh.ledger.commit(trial.record)
        for mirror in mirrors:
            mirror.trial(trial)
    assert [mirror.close(120) for mirror in mirrors] == [0, 0]
    assert len(runs_of(fresh)) == 6


def test_off_keeps_everything_for_sync(fresh: Store, make_trial: MakeTrial) -> None:
    mirror = Mirror(fresh, "off", "moto_n")
    for number in (1, 2):
        trial = make_trial(number)
        fresh.ledger.commit(trial.record)
        mirror.trial(trial)
    assert mirror.close() == 2
    assert not fresh.database.exists()
    result = sync(fresh)
    assert (result.sent, result.left, result.by_study) == (2, 0, {"moto_n": (2, 0)})
    assert len(runs_of(fresh)) == 2
    assert sync(fresh).sent == 0


def test_an_entry_that_cannot_be_sent_is_named_and_holds_up_no_other(
    store: Store, make_trial: MakeTrial
) -> None:
    mirror = Mirror(store, None, "moto_n")
    mirror.trial(make_trial(1))  # not in the ledger
    store.ledger.commit(make_trial(2).record)
    mirror.trial(make_trial(2))
    assert mirror.close(120) == 1
    assert mirror.problem is not None
    assert "not in the ledger" in mirror.problem
    assert [run.data.tags["ablator.seed"] for run in runs_of(store)] == ["2"]
    assert sync(store).left == 1


def test_a_deleted_experiment_is_not_written_to(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    send(make_trial(1))
    client = client_of(store)
    experiment = client.get_experiment_by_name("moto_n").experiment_id
    client.delete_experiment(experiment)
    mirror = send(make_trial(2))
    assert mirror.pending() == 1
    assert mirror.problem is not None
    assert "restore" in mirror.problem
    client.restore_experiment(experiment)
    assert sync(store).left == 0
    assert len(runs_of(store)) == 2


@pytest.mark.slow
def test_what_may_have_been_sent_is_found_among_more_than_a_page_of_runs(
    store: Store, send: Callable[..., Mirror], make_trial: MakeTrial
) -> None:
    trials = [make_trial(n) for n in range(1010)]
    assert send(*trials).pending() == 0
    for path in store.sent.rglob("*.jsonl"):
        path.write_bytes(b"")
    outbox = Outbox(store, target(store, None), "moto_n")
    for trial in trials[::100]:
        outbox.put_trial(trial)
    assert sync(store).left == 0
    assert len(runs_of(store)) == 1010


def test_a_study_name_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(StoreError, match="study name"):
        Mirror(store, None, "../../moto_n")


def test_a_mirror_to_a_plain_folder_is_refused(store: Store) -> None:
    with pytest.raises(TrackingError, match="sqlite:///"):
        Mirror(store, f"file:{store.root}/mlruns", "moto_n")
