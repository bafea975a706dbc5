"""The one writer to MLflow: turns outbox entries into runs, each exactly once."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ablator.contracts.record import Record
from ablator.errors import StoreError, TrackingError, UserError
from ablator.results import runs
from ablator.results.leases import Leases
from ablator.results.live_runs import LIVE, Curve, LiveNotes, Row
from ablator.results.outbox import REPORT, Outbox

if TYPE_CHECKING:
    from mlflow import MlflowClient

_KIND = "ablator.kind"
_DEFAULTS = {
    # A server that is away is noticed in seconds; the outbox does the waiting.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Standard output belongs to the command line, and nothing is told to third parties.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class BusyError(Exception):
    """Another process sends this study to this target at the moment."""


class Sender:
    """Connects on the first entry. Not for use from several threads.

    A run carries its trial's identity and version as tags from the call that creates it. Where an entry
    may have been sent before (it waited already when this process began, or its sending broke off),
    the run is looked for by these tags and finished, instead of made again.

    A live run is there from a long trial's first batch until its final run is complete.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self._study = outbox.folder.name
        self._client: MlflowClient | None = None
        self._lock: IO[bytes] | None = None
        self._leases: Leases | None = None
        self._experiment = ""
        self._parent: str | None = None
        self.live = LiveNotes(outbox)
        self._live_runs: dict[str, str] = {}
        """Identity to run, where it is known which rows the run has."""

    def connect(self) -> None:
        """Take the lock, open MLflow (which makes the schema of a new database, one process at a time) and
        the study's experiment. Raises BusyError, TrackingError, or what MLflow raises."""
        self._take_lock()
        if self._client is not None:
            return
        client = _client(self.outbox.target.uri)
        experiment = client.get_experiment_by_name(self._study)
        if experiment is None:
            location = None
            if not self.outbox.target.is_server:
                # Without a server in between, MLflow would put artifacts into the current folder.
                location = (self.outbox.store.artifacts / self._study).as_uri()
            self._experiment = client.create_experiment(self._study, artifact_location=location)
        elif experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the MLflow experiment {self._study!r} was deleted there: restore it (mlflow experiments "
                f"restore -x {experiment.experiment_id}) or rename the study, then `ablator sync`"
            )
        else:
            self._experiment = experiment.experiment_id
        self.outbox.note_experiment(str(self._experiment))
        self._client = client

    def close(self) -> None:
        """Let other processes send."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._leases is not None:
            self._leases.__exit__(None, None, None)
            self._leases = None

    def send(self, name: str, *, maybe_sent: bool) -> None:
        """Send one entry of the outbox and let go of it; without an entry, remove what is left of a live
        run. Raises StoreError where the entry cannot be sent as it is, and what MLflow raises."""
        entry = self.outbox.read(name)
        if entry is None:
            self._end_live(name)
            return
        self.connect()
        sent = self.outbox.sent.get(name)
        if sent is not None and sent.version == entry["version"]:
            # Another driver trained and sent the same trial.
            self._end_live(name)
        if sent is not None and (sent.version, sent.digest) == (entry["version"], entry["digest"]):
            self.outbox.drop(name)
        elif name == REPORT:
            self.outbox.mark_sent(name, entry, self._send_report(entry))
        elif sent is not None and sent.version == entry["version"]:
            self._relabel(sent.run, entry)
            self.outbox.mark_sent(name, entry, sent.run)
        else:
            self.outbox.mark_sent(name, entry, self._send_trial(name, entry, maybe_sent))

    # ---- trials

    def _send_trial(self, identity: str, entry: Mapping[str, Any], maybe_sent: bool) -> str:
        from mlflow.entities import Metric, Param

        client = self._connected()
        record = self._record(identity, entry)
        tags = runs.tags(self.outbox.store, self._study, entry, record)
        maybe_sent = maybe_sent or self._shared
        found = self._find(identity, entry["version"]) if maybe_sent else []
        if found:
            run = found[0]
            self._relabel(run, entry)
        else:
            tags["mlflow.parentRunId"] = self._parent_run()
            started = runs.milliseconds(record.started)
            made = client.create_run(self._experiment, start_time=started, tags=tags, run_name=entry["label"])
            run = str(made.info.run_id)
        client.log_batch(
            run,
            metrics=[Metric(*point) for point in runs.metrics(record)],
            params=[Param(key, value) for key, value in runs.parameters(record.spec).items()],
        )
        client.set_terminated(run, runs.STATUS[record.status], end_time=runs.milliseconds(record.finished))
        if maybe_sent or identity in self.live:
            # A server may carry out a request after its answer was given up, even after `_find` looked.
            for other in self._find(identity, entry["version"], LIVE):
                if other != run:
                    client.delete_run(other)
            self._forget_live(identity)
        return run

    def _record(self, identity: str, entry: Mapping[str, Any]) -> Record:
        if "record" in entry:
            try:
                return Record.from_json(entry["record"])
            except ValueError as error:
                raise StoreError(
                    f"damaged outbox entry of trial {identity[:12]}: {error}; remove it"
                ) from error
        record = self.outbox.store.ledger.get(identity)
        if record is None:
            raise StoreError(f"trial {identity[:12]} waits for MLflow, but its record is not in the ledger")
        return record

    def _find(self, identity: str, *versions: str) -> list[str]:
        """The runs of these outcomes of the trial, finished or not: none, one, or twins."""
        wanted = f"tags.`ablator.identity` = '{identity}'"
        found = self._connected().search_runs([self._experiment], wanted)
        return [str(run.info.run_id) for run in found if run.data.tags.get("ablator.version") in versions]

    def _relabel(self, run: str, entry: Mapping[str, Any]) -> None:
        client = self._connected()
        client.update_run(run, name=entry["label"])
        for key, value in runs.labels(entry).items():
            client.set_tag(run, key, value)

    # ---- live runs

    def send_live(self, curve: Curve) -> None:
        """Add rows to their trial's live run: the one left by a driver that was killed, or a new one.
        Raises what MLflow raises; then it may have the rows or not, which the next call finds out."""
        from mlflow.entities import Metric

        self.connect()
        run, rows = self._live_runs.pop(curve.identity, None), curve.rows
        if run is None:
            run, rows = self._live_run(curve)
        points = [Metric(*point) for row in rows for point in row.points()]
        if points:
            self._connected().log_batch(run, metrics=points)
        self._live_runs[curve.identity] = run

    def _live_run(self, curve: Curve) -> tuple[str, tuple[Row, ...]]:
        """The live run of a curve's trial, and the rows that it lacks."""
        client = self._connected()
        self.live.add(curve.identity)
        if found := self._find(curve.identity, LIVE):
            names = {row.points()[0][0] for row in curve.rows}
            there = {(n, p.step) for n in names for p in client.get_metric_history(found[0], n)}
            rows = (row for row in curve.rows if (row.points()[0][0], row.epoch) not in there)
            return found[0], tuple(rows)
        tags = {
            "ablator.study": self._study,
            "ablator.identity": curve.identity,
            "ablator.version": LIVE,
            "ablator.arm": runs.shortened(curve.arm, runs.MAX_TAG),
            "ablator.seed": str(curve.seed),
            "mlflow.source.name": "ablator",
            "mlflow.parentRunId": self._parent_run(),
        }
        started = curve.rows[0].when
        made = client.create_run(self._experiment, start_time=started, tags=tags, run_name=curve.label)
        return str(made.info.run_id), curve.rows

    def _end_live(self, identity: str) -> None:
        """Remove the live run of a trial whose final run is complete."""
        if identity in self.live:
            self.connect()
            for run in self._find(identity, LIVE):
                self._connected().delete_run(run)
            self._forget_live(identity)

    def _forget_live(self, identity: str) -> None:
        self._live_runs.pop(identity, None)
        self.live.drop(identity)

    # ---- the study's own run

    def _parent_run(self) -> str:
        """The run that the study's trials hang under, made once per experiment."""
        if self._parent is None:
            client = self._connected()
            wanted = f"tags.`{_KIND}` = 'study'"
            found = client.search_runs([self._experiment], wanted, max_results=1)
            if found:
                self._parent = str(found[0].info.run_id)
            else:
                tags = {_KIND: "study", "ablator.study": self._study, "mlflow.source.name": "ablator"}
                made = client.create_run(self._experiment, tags=tags, run_name=self._study)
                self._parent = str(made.info.run_id)
        return self._parent

    def _send_report(self, entry: Mapping[str, Any]) -> str:
        client = self._connected()
        run = self._parent_run()
        for file in map(Path, entry["files"]):
            if not file.exists():
                raise StoreError(
                    f"the report {file} waits for MLflow, but is gone; `ablator report` writes it again"
                )
            client.log_artifact(run, str(file))
        if entry["diff"] and (diff := self.outbox.store.diff(entry["diff"])).exists():
            client.log_artifact(run, str(diff), "code")
        for key, value in entry["metrics"].items():
            client.log_metric(run, runs.clean_name(key), value)
        client.set_terminated(run, "FINISHED")
        return run

    # ---- connection

    def _connected(self) -> MlflowClient:
        assert self._client is not None, "connect() comes first"
        return self._client

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        folder = self.outbox.store.sent / self.outbox.target.folder
        folder.mkdir(parents=True, exist_ok=True)
        # One lock for all studies of a target: it also guards the making of the schema.
        file = open(folder / "lock", "ab")  # noqa: SIM115 - held until close()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise BusyError("another ablator is writing to MLflow; waiting for it") from error
        if self._shared:
            try:
                self._take_lease()
            except BaseException:
                file.close()
                raise
        self._lock = file
        self.outbox.reload()

    @property
    def _shared(self) -> bool:
        """Whether other machines send the same to the same MLflow, without a folder in common that would say
        what they have sent."""
        return self.outbox.store.remote and self.outbox.target.folder != "store"

    def _take_lease(self) -> None:
        leases = Leases(self.outbox.store).__enter__()
        try:
            taken = leases.take(f"mlflow-{self.outbox.target.folder}")
        except BaseException:
            leases.__exit__(None, None, None)
            raise
        if not taken:
            leases.__exit__(None, None, None)
            raise BusyError("another machine is writing to MLflow; waiting for it")
        self._leases = leases


def is_refusal(error: Exception) -> bool:
    """Whether an entry's own content is at fault, so that sending it again cannot help."""
    code = getattr(error, "error_code", "")
    return isinstance(error, UserError) or code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def _client(uri: str) -> MlflowClient:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # MLflow would repeat a request whose answer is late, and so create a run twice; `Sender` looks first.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    # Its import and its migrations announce themselves at INFO.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(uri)
