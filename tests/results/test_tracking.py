from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ablator.contracts.secrets import without_secrets
from ablator.errors import TrackingError
from ablator.results.mirror import Mirror
from ablator.results.outbox import MirrorTrial
from ablator.results.store import Store
from ablator.results.sync import sync
from ablator.results.tracking import Target, check_server, target
from ablator.results.ui import ui_command, ui_environment

MakeTrial = Callable[..., MirrorTrial]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def mlflow_server(store: Store, port: int) -> Iterator[tuple[str, int]]:
    """A real server as `ablator ui` starts it: its address, and its process group, gone afterwards."""
    uri = f"http://127.0.0.1:{port}"
    log = store.root / "server.log"
    with log.open("ab") as output:
        server = subprocess.Popen(
            ui_command(store, port=port),
            env={**os.environ, **ui_environment()},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(2400):
            try:
                check_server(uri)
                break
            except TrackingError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
        yield uri, server.pid
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(4800):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within four minutes")


@contextmanager
def http_answer(code: int) -> Iterator[tuple[str, list[str]]]:
    """A web server that answers everything with `code` and notes the credentials it is given."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(code)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing on standard error."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_a_stopped_server_missed_is_sent_later_exactly_once(
    store: Store, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    trials = [make_trial(n) for n in range(5)]
    for trial in trials:
        store.ledger.commit(trial.record)
    table = store.root / "table.md"
    table.write_text("| one |")
    port = free_port()
    with mlflow_server(store, port) as (uri, group):
        mirror = Mirror(store, uri, "moto_n")
        for trial in trials[:2]:
            mirror.trial(trial)
        wait_for(lambda: mirror.pending() == 0)
        # A server that hangs: what it was asked meanwhile it still does when it goes on.
        os.killpg(group, signal.SIGSTOP)
        mirror.trial(trials[2])
        wait_for(lambda: mirror.problem is not None)
        os.killpg(group, signal.SIGCONT)
        wait_for(lambda: mirror.pending() == 0)

    with pytest.raises(TrackingError, match="--mlflow off"):
        check_server(uri)
    for trial in trials[3:]:
        mirror.trial(trial)
    mirror.report([table])
    assert mirror.close(60) == 3
    assert mirror.problem is not None
    away = sync(store)
    assert (away.sent, away.left) == (0, 3)
    assert "does not answer" in away.problems[0]

    with mlflow_server(store, port):
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
        assert (sync(store).by_study, sync(store).sent) == ({"moto_n": (3, 0)}, 0)
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("moto_n")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        identities = sorted(
            r.data.tags["ablator.identity"] for r in runs if "ablator.identity" in r.data.tags
        )
        assert identities == sorted(trial.identity for trial in trials)
        (parent,) = (r.info.run_id for r in runs if r.data.tags.get("ablator.kind") == "study")
        with urllib.request.urlopen(f"{uri}/get-artifact?path=table.md&run_uuid={parent}") as page:
            assert page.read() == b"| one |"


class Line:
    """The way to a server: it passes everything on, slowly, or not, or loses every answer on its way back."""

    def __init__(self, port: int) -> None:
        self.mode = "passes"
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.mode == "is cut":
                    client.close()
                    continue
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            asking = threading.Thread(target=self._pump, args=(client, server, False), daemon=True)
            asking.start()
            self._pump(server, client, True)
            asking.join()

    def _pump(self, source: socket.socket, to: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                if self.mode == "is cut" or (answers and self.mode == "loses answers"):
                    break
                if answers and self.mode == "is slow":
                    time.sleep(0.2)
                to.sendall(content)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_over_a_bad_line_every_trial_is_there_once_and_whole(
    store: Store, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    modes = ["passes", "loses answers", "is slow", "is cut", "loses answers"]
    port = free_port()
    with mlflow_server(store, port):
        line = Line(port)
        trials = [make_trial(number) for number in range(2 * len(modes))]
        mirror = Mirror(store, line.uri, "moto_n")
        for number, trial in enumerate(trials):
            line.mode = modes[number // 2]
            store.ledger.commit(trial.record)
            mirror.trial(trial)
            works = line.mode in ("passes", "is slow")
            wait_for(lambda: mirror.pending() == 0 if works else mirror.problem is not None)  # noqa: B023
        left = mirror.close(5)
        assert left > 0, "it does not wait for a line that is lost"
        line.mode = "passes"
        assert (sync(store).sent, sync(store).sent) == (left, 0)
        from mlflow import MlflowClient

        client = MlflowClient(line.uri)
        experiment = client.get_experiment_by_name("moto_n")
        assert experiment is not None
        runs = [r for r in client.search_runs([experiment.experiment_id]) if r.data.tags.get("ablator.arm")]
        found = sorted(run.data.tags["ablator.identity"] for run in runs)
        assert found == sorted(trial.identity for trial in trials)
        for run in runs:
            for name, values in (("train_loss", [2.5, 1.5]), ("top1", [60.0, 81.0])):
                points = client.get_metric_history(run.info.run_id, name)
                assert [(p.step, p.value) for p in points] == list(enumerate(values, start=1))
        line.close()


def test_a_server_that_never_answers_holds_nothing_up(store: Store, make_trial: MakeTrial) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TrackingError, match=r"no answer within 3 s|timed out"):
            check_server(uri)
        mirror = Mirror(store, uri, "moto_n")
        for number in range(3):
            trial = make_trial(number)
            store.ledger.commit(trial.record)
            mirror.trial(trial)
        assert mirror.close(0.1) == 3


@pytest.mark.parametrize(("code", "why"), [(401, "credentials"), (403, "credentials"), (502, "HTTP 502")])
def test_a_server_that_says_no_is_refused(code: int, why: str) -> None:
    with http_answer(code) as (address, _), pytest.raises(TrackingError, match=why):
        check_server(f"http://{address}")


def test_credentials_in_the_uri_reach_the_server_and_no_message() -> None:
    with http_answer(401) as (address, seen), pytest.raises(TrackingError) as error:
        check_server(f"http://ada:p%40ss@{address}")
    assert seen == ["Basic YWRhOnBAc3M="]
    assert "p%40ss" not in str(error.value)
    assert "ada" not in str(error.value)


def test_credentials_are_nowhere_in_the_store_or_the_log(
    store: Store, make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="ablator"):
        mirror = Mirror(store, f"http://ada:hunter2@127.0.0.1:{free_port()}", "moto_n")
        trial = make_trial(1)
        store.ledger.commit(trial.record)
        mirror.trial(trial)
        mirror.close(60)
        result = sync(store)
    assert mirror.problem is not None
    kept = [path.name + path.read_text() for path in store.root.rglob("*") if path.is_file()]
    said = [mirror.problem, caplog.text, repr(mirror.target), repr(result)]
    assert not [text for text in kept + said if "hunter2" in text]
    (about,) = store.outbox.rglob("target.json")
    assert json.loads(about.read_text())["uri"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://u:p@h:5000/x", "http://h:5000/x"),
        ("postgresql://u:p#w?@h/db?sslpassword=s", "postgresql://h/db"),
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
        ("databricks", "databricks"),
    ],
)
def test_shown_uris_have_no_secrets(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


def test_errors_of_libraries_are_scrubbed() -> None:
    there = Target("x", "postgresql://u:p%23w@h/db?sslpassword=secret")
    said = there.scrub(f"cannot connect to {there.uri} with password 'p#w' and sslpassword=secret")
    assert "p#w" not in said
    assert "p%23w" not in said
    assert "=secret" not in said


@pytest.mark.parametrize("uri", ["file:/tmp/mlruns", "./mlruns", "/tmp/mlruns", "mlruns", "ftp://h/x", ""])
def test_uris_that_cannot_be_written_to_are_refused(store: Store, uri: str) -> None:
    with pytest.raises(TrackingError, match="sqlite"):
        target(store, uri)


def test_a_changed_password_is_the_same_target_and_a_moved_store_too(store: Store, tmp_path: Path) -> None:
    assert target(store, "http://a:1@h/").folder == target(store, "http://a:2@h/").folder
    assert target(store, "http://h/").folder != target(store, "http://i/").folder
    assert target(store, None).folder == target(Store(tmp_path / "moved"), None).folder


def test_sync_to_a_new_address_takes_everything_along(store: Store, make_trial: MakeTrial) -> None:
    trial = make_trial(1)
    store.ledger.commit(trial.record)
    mirror = Mirror(store, f"http://127.0.0.1:{free_port()}", "moto_n")
    mirror.trial(trial)
    mirror.close(60)
    database = store.root / "other.db"
    assert sync(store, f"sqlite:///{database}").by_study == {"moto_n": (1, 0)}
    assert database.exists()
    assert sync(store).sent == 0


def test_the_ui_listens_on_the_loopback_interface_only(store: Store) -> None:
    command = ui_command(store, port=1234)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "1234"
