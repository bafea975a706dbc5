"""What a running sweep shows: a live region on a terminal, one line an event everywhere else.

Both take `contracts.events.Event`s and never raise into the sweep that sends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live as RichLive
from rich.text import Text

from ablator.contracts.events import Event
from ablator.report.eta import Eta, Going
from ablator.report.filling import Board
from ablator.report.formatting import number, reason
from ablator.report.region import STATUS_STYLES, clock_text, region
from ablator.results.standing import RunningTrial, Standing, own_name

Clock = Callable[[], float]
_PER_SECOND = 4
"""Most redraws of the live region in a second."""


@dataclasses.dataclass
class Running:
    """A trial that is being trained."""

    label: str
    seed: int
    slot: int
    since: float
    """When it was started, on the progress's clock."""
    epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epoch_seconds: float = 0.0
    """From its start to the end of that epoch."""

    @property
    def part(self) -> float:
        """Done at its last epoch, 0 to 1."""
        return min(1.0, self.epoch / self.epochs) if self.epochs else 0.0


class Progress:
    """Where a sweep of `planned` trials stands, of which `cached` were there before; fed with events.

    A search's samples that the ledger answers are planned and never heard of, so that its end may come
    before the count is full, and the remaining time is an upper bound there.
    """

    def __init__(self, planned: int, cached: int, *, clock: Clock = time.monotonic) -> None:
        self.planned = planned
        self.cached = cached
        self.slots = 0
        self.joined = False
        self.running: dict[str, Running] = {}
        self.finished: dict[str, int] = {"completed": 0, "failed": 0, "diverged": 0, "pruned": 0}
        self._eta = Eta()
        self._clock = clock
        self._start = clock()
        self._started = time.time()

    @property
    def done(self) -> int:
        """Trials with an outcome, the cached ones included."""
        return self.cached + sum(self.finished.values())

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return self._clock() - self._start

    def elapsed_of(self, trial: Running) -> float:
        """Seconds since a running trial was started."""
        return self._clock() - trial.since

    def take(self, event: Event) -> None:
        """Count one event."""
        now = self._clock()
        if event.kind == "slots":
            self.slots, self.joined = event.slot, event.text == "joined"
        elif event.kind == "round":
            self.planned += event.trials
        elif event.kind == "finished":
            self.finished[event.status] = self.finished.get(event.status, 0) + 1
            self._end(event, now)
        elif event.kind == "costs":
            self._eta.expect(event.costs)
        elif event.kind in ("started", "epoch", "retried"):
            trial = self.running.setdefault(
                event.identity, Running(label=event.label, seed=event.seed, slot=event.slot, since=now)
            )
            trial.slot = event.slot
            self._eta.start(event.identity)
            if event.kind == "epoch":
                trial.epoch, trial.epochs, trial.metrics = event.epoch, event.epochs, event.metrics
                trial.epoch_seconds = now - trial.since

    def _end(self, event: Event, now: float) -> None:
        trial = self.running.pop(event.identity, None)
        if trial is None:
            self._eta.start(event.identity)
        else:
            # One that was ended early took its part of the time.
            part = {"completed": 1.0, "failed": 0.0}.get(event.status, trial.part)
            self._eta.finish(event.identity, now - trial.since, part)

    def remaining_seconds(self) -> float | None:
        """Estimated seconds to the end; None before anything is known."""
        going = [
            Going(
                identity=identity,
                seconds=self.elapsed_of(trial),
                part=trial.part,
                seconds_then=trial.epoch_seconds,
            )
            for identity, trial in self.running.items()
        ]
        return self._eta.remaining(going, self.planned - self.done, self.slots)

    def standing(self, metric: str, *, studies: int = 1) -> Standing:
        """Where the run of `studies` studies stands now, with `metric` of every running trial."""
        host, pid = own_name()
        return Standing(
            host=host,
            pid=pid,
            started=self._started,
            updated=time.time(),
            studies=studies,
            metric=metric,
            slots=self.slots,
            joined=self.joined,
            elapsed=self.elapsed,
            planned=self.planned,
            done=self.done,
            cached=self.cached,
            failed=self.finished.get("failed", 0),
            diverged=self.finished.get("diverged", 0),
            pruned=self.finished.get("pruned", 0),
            eta=self.remaining_seconds(),
            running=tuple(self._running(identity, metric) for identity in self.running),
        )

    def _running(self, identity: str, metric: str) -> RunningTrial:
        trial = self.running[identity]
        value = trial.metrics.get(metric, math.nan)
        return RunningTrial(
            identity=identity,
            label=trial.label,
            seed=trial.seed,
            slot=trial.slot,
            epoch=trial.epoch,
            epochs=trial.epochs,
            value=value if math.isfinite(value) else None,
            seconds=self.elapsed_of(trial),
        )


class Watcher(Protocol):
    """What a run reports to: a context, called with every event."""

    def __enter__(self) -> Watcher: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None: ...


class LineLog:
    """One line for each start of the slots, each outcome, each retry, with no control codes."""

    def __init__(self, console: Console, progress: Progress, *, metric: str) -> None:
        self._console = console
        self._progress = progress
        self._metric = metric

    def __enter__(self) -> LineLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Print the event's line, if it has one."""
        # A full disk or a closed pipe (on which rich exits) is no reason to lose a trial.
        with contextlib.suppress(Exception, SystemExit):
            self._progress.take(event)
            text = self._text(event)
            if text:
                line = f"[{clock_text(self._progress.elapsed)}] {text}"
                self._console.print(Text(line), soft_wrap=True)

    def _text(self, event: Event) -> str:
        state = self._progress
        if event.kind == "slots":
            how = "joined a Ray cluster" if state.joined else "started Ray"
            return f"{how}: {_count(event.slot, 'slot')}, {state.planned - state.done} trials to go"
        if event.kind == "retried":
            return f"{event.label} · seed {event.seed}: its worker died, {event.text or 'tried again'}"
        if event.kind in ("note", "round"):
            return event.text
        if event.kind != "finished":
            return ""
        left = state.remaining_seconds()
        text = (
            f"{state.done}/{state.planned}  {event.label} · seed {event.seed}: {outcome(event, self._metric)}"
        )
        return text + (f"  (about {clock_text(left)} left)" if left else "")


class Live:
    """A region that is redrawn in place: the slots with their trials, the counts, the time left, and the
    table as it fills.

    Use as a context; it vanishes at its end. Failures, retries and what is planned in addition stay as lines
    above it.
    """

    def __init__(
        self, console: Console, progress: Progress, *, metric: str, board: Board | None = None
    ) -> None:
        self._console = console
        self._progress = progress
        self._metric = metric
        self._board = board or Board(())
        # Events come from the sweep's thread, redraws from rich's.
        self._lock = threading.Lock()
        self._live = RichLive(
            console=console,
            get_renderable=self.render,
            refresh_per_second=_PER_SECOND,
            transient=True,
            vertical_overflow="ellipsis",
        )

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception, SystemExit):
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take the event over; the next redraw shows it."""
        with contextlib.suppress(Exception, SystemExit):
            with self._lock:
                self._progress.take(event)
                self._board.take(event)
            text = f"{event.label} · seed {event.seed}: "
            if event.kind == "finished" and event.status in ("failed", "diverged"):
                style = STATUS_STYLES[event.status]
                self._console.print(Text(text + outcome(event, self._metric), style=style))
            elif event.kind == "retried":
                self._console.print(
                    Text(f"{text}its worker died, {event.text or 'tried again'}", style="yellow")
                )
            elif event.kind in ("note", "round") and event.text:
                self._console.print(Text(event.text))

    def render(self) -> RenderableType:
        """The region as it is now, in the size that the terminal has now."""
        with self._lock:
            return region(
                self._progress.standing(self._metric),
                self._board.shown,
                named=len(self._board.fillings) > 1,
                width=self._console.width,
                # One line for the cursor, below the region.
                height=self._console.height - 1,
            )


def outcome(event: Event, metric: str) -> str:
    """How a trial ended: its metric, or its status and why."""
    if event.status == "completed" and metric in event.metrics:
        return f"{metric} {number(event.metrics[metric], 2)}"
    # A traceback's last line says what it was; the rest is in the record.
    why = reason(event.text)
    return f"{event.status}: {why}" if why else event.status


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
