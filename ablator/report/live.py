"""What a running sweep shows: a live region on a terminal, one line an event everywhere else.

Both take `contracts.events.Event`s and never raise into the sweep that sends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.table import Table as RichTable
from rich.text import Text

from ablator.contracts.events import Event
from ablator.report.formatting import number, reason

Clock = Callable[[], float]
_PER_SECOND = 4
"""Most redraws of the live region in a second."""
_STYLES = {"failed": "red", "diverged": "yellow", "pruned": "dim"}


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
        self._walls: list[float] = []
        self._clock = clock
        self._start = clock()

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
        elif event.kind == "finished":
            self.finished[event.status] = self.finished.get(event.status, 0) + 1
            trial = self.running.pop(event.identity, None)
            if trial is not None:
                self._walls.append(now - trial.since)
        elif event.kind in ("started", "epoch", "retried"):
            trial = self.running.setdefault(
                event.identity, Running(label=event.label, seed=event.seed, slot=event.slot, since=now)
            )
            trial.slot = event.slot
            if event.kind == "epoch":
                trial.epoch, trial.epochs, trial.metrics = event.epoch, event.epochs, event.metrics

    def remaining_seconds(self) -> float | None:
        """Estimated seconds to the end; None before anything is known."""
        now = self._clock()
        return remaining_seconds(
            walls=self._walls,
            running=[(now - r.since, r.epoch / r.epochs if r.epochs else 0.0) for r in self.running.values()],
            left=self.planned - self.done,
            slots=self.slots,
        )


def remaining_seconds(
    *, walls: Iterable[float], running: Iterable[tuple[float, float]], left: int, slots: int
) -> float | None:
    """Estimated seconds until `left` trials (the running ones included) are done on `slots` slots.

    A trial takes the mean of `walls`, the seconds of the finished ones; before the first has finished, the
    mean of what the `running` ones (seconds so far, part done) come to at their pace. The running ones'
    seconds so far are taken off, each at most a trial's whole time, and the work is spread over the slots:
    (left · mean − so far) / slots. None where there is no slot or no trial to learn from.
    """
    running = list(running)
    known = list(walls) or [seconds / part for seconds, part in running if part > 0]
    if left <= 0:
        return 0.0
    if not known or slots < 1:
        return None
    mean = sum(known) / len(known)
    so_far = sum(min(seconds, mean) for seconds, _ in running)
    return max(0.0, left * mean - so_far) / min(slots, left)


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
        if event.kind == "note":
            return event.text
        if event.kind != "finished":
            return ""
        left = state.remaining_seconds()
        text = (
            f"{state.done}/{state.planned}  {event.label} · seed {event.seed}: {outcome(event, self._metric)}"
        )
        return text + (f"  (about {clock_text(left)} left)" if left else "")


class Live:
    """A region that is redrawn in place: the slots with their trials, the counts, and the time left.

    Use as a context; it vanishes at its end. Failures and retries stay as lines above it.
    """

    def __init__(self, console: Console, progress: Progress, *, metric: str) -> None:
        self._console = console
        self._progress = progress
        self._metric = metric
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
            text = f"{event.label} · seed {event.seed}: "
            if event.kind == "finished" and event.status in ("failed", "diverged"):
                self._console.print(Text(text + outcome(event, self._metric), style=_STYLES[event.status]))
            elif event.kind == "retried":
                self._console.print(
                    Text(f"{text}its worker died, {event.text or 'tried again'}", style="yellow")
                )
            elif event.kind == "note":
                self._console.print(Text(event.text))

    def render(self) -> RenderableType:
        """The region as it is now."""
        with self._lock:
            state = self._progress
            slots = self._slots(state) if state.slots else Text("waiting for Ray and its workers …", "dim")
            return Group(slots, self._counts(state))

    def _slots(self, state: Progress) -> RichTable:
        table = RichTable(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=True
        )
        table.add_column("slot", justify="right", no_wrap=True)
        table.add_column("trial", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("epoch", justify="right", no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True)
        table.add_column(self._metric, justify="right", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        on = {trial.slot: trial for trial in state.running.values()}
        # On a large cluster the counts must stay in sight, so that idle slots are not listed there.
        numbers = range(state.slots) if state.slots <= 16 else sorted(on)
        for slot in numbers:
            table.add_row(str(slot), *(self._trial(on[slot]) if slot in on else [Text("idle", style="dim")]))
        return table

    def _trial(self, trial: Running) -> list[Text]:
        part = trial.epoch / trial.epochs if trial.epochs else 0.0
        value = trial.metrics.get(self._metric)
        return [
            Text(f"{trial.label} · seed {trial.seed}"),
            Text(f"{trial.epoch}/{trial.epochs}" if trial.epochs else "…"),
            Text(bar(part, 10), style="cyan"),
            Text(number(value, 2)),
            Text(clock_text(self._progress.elapsed_of(trial))),
        ]

    def _counts(self, state: Progress) -> Text:
        left = state.remaining_seconds()
        text = Text(f"{state.done}/{state.planned} done", style="bold")
        if state.cached:
            text.append(f" ({state.cached} cached)", style="not bold dim")
        for status in ("failed", "diverged", "pruned"):
            if state.finished.get(status):
                text.append(f" · {state.finished[status]} {status}", style=f"not bold {_STYLES[status]}")
        text.append(f" · {clock_text(state.elapsed)} elapsed", style="not bold")
        return text.append(f" · about {clock_text(left)} left" if left is not None else "", style="not bold")


def outcome(event: Event, metric: str) -> str:
    """How a trial ended: its metric, or its status and why."""
    if event.status == "completed" and metric in event.metrics:
        return f"{metric} {number(event.metrics[metric], 2)}"
    # A traceback's last line says what it was; the rest is in the record.
    why = reason(event.text)
    return f"{event.status}: {why}" if why else event.status


def clock_text(seconds: float) -> str:
    """`4:05`, or `1:02:03` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar(part: float, width: int) -> str:
    """A bar of `width` characters of which `part` (0 to 1) is drawn."""
    full = round(min(max(part, 0.0), 1.0) * width)
    return "━" * full + " " * (width - full)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
