"""MLflow as a mirror of the ledger: never in a trial's way, and complete in the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablator.errors import TrackingError, UserError
from ablator.results.live_runs import Curve, Curves
from ablator.results.outbox import REPORT, MirrorTrial, Outbox
from ablator.results.sender import BusyError, Sender, is_refusal
from ablator.results.store import Store
from ablator.results.tracking import OFF, target
from ablator.results.versions import GitState

_log = logging.getLogger("ablator.mlflow")
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_BUSY_WAIT = 0.2


class Mirror:
    """Sends one study's trials and report to one MLflow, from one background thread.

    Everything goes to the outbox first, so that a slow or dead server, a kill or `uri="off"` only delays
    it until the next run or `sync`. MLflow is imported by the thread, and only if something waits. Curves
    of trials that are not done come after all that, and are kept in memory only.

    Raises TrackingError for a URI that cannot be written to (see `tracking.target`) and StoreError for a
    study's name that is no file name; nothing else here raises or waits for MLflow.
    """

    def __init__(self, store: Store, uri: str | None, study: str, *, code: GitState | None = None) -> None:
        self.target = target(store, uri)
        self._outbox = Outbox(store, self.target, study)
        self._code = code or GitState()
        self._diff: str | None = None
        self._sender = Sender(self._outbox)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._problem: str | None = None
        self._refused: dict[str, str] = {}
        self._curves = Curves()
        self._queue: dict[str, bool] = dict.fromkeys(self._outbox.names(), True)
        """Entry to whether MLflow may have it already; in order of sending."""
        if self._queue:
            self._start()

    def trial(self, trial: MirrorTrial) -> None:
        """Mirror a trial's record, which is in the ledger already if it is final. Cheap where it was
        mirrored before, so that a study that is run again may pass all its trials."""
        try:
            with self._changed:
                self._curves.forget(trial.identity)
                before = self._queue.get(trial.identity, False) or self._outbox.waits(trial.identity)
                before = before or self._outbox.doubtful
                if self._outbox.put_trial(trial):
                    self._keep_diff()
                    self._enqueue(trial.identity, before)
                elif trial.identity in self._sender.live:
                    self._enqueue(trial.identity, True)
        except (OSError, UserError) as error:
            self._note(error)

    def progress(
        self, *, identity: str, label: str, arm: str, seed: int, metrics: Mapping[str, float], epoch: int
    ) -> None:
        """Tell of an epoch of a trial under way. Where training takes long, MLflow shows the curve so far
        as a live run, which `trial` ends. Cheap, and lost where MLflow is away for all that time."""
        if self.target.uri == OFF:
            return
        try:
            with self._changed:
                self._curves.note(
                    identity=identity, label=label, arm=arm, seed=seed, metrics=metrics, epoch=epoch
                )
                self._start()
                self._changed.notify_all()
        except (TypeError, ValueError, RuntimeError) as error:
            self._note(error)

    def report(self, files: Sequence[Path], metrics: Mapping[str, float] | None = None) -> None:
        """Mirror the study's tables and page as artifacts of its own run, together with the uncommitted
        changes of the code; nothing is sent where their contents were sent before."""
        try:
            with self._changed:
                if self._outbox.put_report(files, metrics or {}, self._keep_diff()):
                    self._enqueue(REPORT, True)
        except (OSError, UserError) as error:
            self._note(error)

    def pending(self) -> int:
        """How many trials and reports of this study MLflow has not got yet."""
        return len(self._outbox.names())

    @property
    def problem(self) -> str | None:
        """Why the latest attempt failed, in one line without secrets; None where nothing is wrong."""
        return self._problem or next(iter(self._refused.values()), None)

    def close(self, timeout: float = 30.0) -> int:
        """Send what waits for at most `timeout` seconds, or until the server fails once more; returns what
        is left in the outbox for `sync`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        return self.pending()

    # ---- the thread

    def _enqueue(self, name: str, maybe_sent: bool) -> None:
        self._queue[name] = maybe_sent
        self._start()
        self._changed.notify_all()

    def _keep_diff(self) -> str:
        """Keep the code's uncommitted changes, which trials' records name by their hash."""
        if self._diff is None:
            self._diff = self._outbox.store.keep_diff(self._code.diff) if self._code.diff else ""
        return self._diff

    def _start(self) -> None:
        if self._thread is None and self.target.uri != OFF:
            # A daemon, because a hanging server must not keep the command from ending.
            self._thread = threading.Thread(target=self._work, name="ablator-mlflow", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        wait = _FIRST_WAIT
        while (name := self._next()) is not None:
            if isinstance(name, Curve):
                self._send_live(name)
                continue
            try:
                self._sender.send(name, maybe_sent=self._queue[name])
            except BusyError as error:
                self._problem = str(error)
                self._pause(_BUSY_WAIT)
            except TrackingError as error:
                self._note(error)
                break
            except Exception as error:  # noqa: BLE001 - no failure of MLflow may reach a trial
                self._note(error)
                if not self._try_again(name, error):
                    break
                if not is_refusal(error):
                    self._pause(wait)
                    wait = min(2 * wait, _LONGEST_WAIT)
            else:
                wait, self._problem = _FIRST_WAIT, None
                with self._changed:
                    # A newer outcome of the same trial may have come in meanwhile.
                    if not self._outbox.waits(name):
                        self._queue.pop(name, None)
        self._sender.close()

    def _send_live(self, curve: Curve) -> None:
        try:
            self._sender.send_live(curve)
        except BusyError as error:
            self._problem = str(error)
            self._pause(_BUSY_WAIT)
        except Exception as error:  # noqa: BLE001 - no failure of MLflow may reach a trial
            self._note(error)
            with self._changed:
                self._curves.postpone()
        else:
            self._problem = None
            with self._changed:
                self._curves.sent(curve)

    def _next(self) -> str | Curve | None:
        with self._changed:
            while not self._queue and not self._closing:
                curve, seconds = self._curves.next()
                if curve is not None:
                    return curve
                self._sender.close()
                self._changed.wait(seconds)
            # The report comes last: it ends the study's run.
            return next((name for name in self._queue if name != REPORT), next(iter(self._queue), None))

    def _try_again(self, name: str, error: Exception) -> bool:
        """Put `name` behind the others, or let it rest where its content is at fault. False where there is
        no time left to wait for a server."""
        with self._changed:
            self._queue.pop(name, None)
            if is_refusal(error):
                self._refused[name] = self._problem or ""
                return True
            self._queue[name] = True
            return not self._closing

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, timeout=seconds)
                return
        time.sleep(min(seconds, _BUSY_WAIT))

    def _note(self, error: Exception) -> None:
        text = self.target.scrub(" ".join(str(error).split())) or type(error).__name__
        if text != self._problem:
            _log.warning("MLflow (%s): %s", self.target.shown, text)
        self._problem = text
