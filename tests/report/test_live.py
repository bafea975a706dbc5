from __future__ import annotations

import io

import pytest
from rich.console import Console

from ablator.contracts.events import Event
from ablator.report.live import LineLog, Live, Progress
from ablator.report.region import clock_text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(identity: str, slot: int) -> Event:
    return Event(kind="started", identity=identity, label=f"arm {identity}", seed=1, slot=slot)


def finished(identity: str, status: str = "completed", text: str = "", **metrics: float) -> Event:
    return Event(
        kind="finished",
        identity=identity,
        label=f"arm {identity}",
        seed=1,
        status=status,
        metrics=metrics,
        text=text,
    )


def lines_of(events: list[tuple[float, Event]], planned: int, cached: int) -> list[str]:
    clock, file = Clock(), io.StringIO()
    log = LineLog(Console(file=file, width=40), Progress(planned, cached, clock=clock), metric="top1")
    with log as on_event:
        for seconds, event in events:
            clock.now = 100.0 + seconds
            on_event(event)
    return file.getvalue().splitlines()


def test_the_log_has_a_line_for_slots_outcomes_and_retries_only() -> None:
    lines = lines_of(
        [
            (3, Event(kind="slots", slot=2, text="started")),
            (3, started("a", 0)),
            (3, started("b", 1)),
            (9, Event(kind="epoch", identity="a", slot=0, epoch=1, epochs=2, metrics={"top1": 40.0})),
            (63, finished("a", top1=81.25)),
            (64, Event(kind="retried", identity="b", label="arm b", seed=1, slot=1, text="attempt 2")),
            (65, finished("b", status="failed", text="Traceback:\n  somewhere\nOSError: disk full")),
        ],
        planned=10,
        cached=4,
    )
    assert len(lines) == 4
    assert lines[0] == "[0:03] started Ray: 2 slots, 6 trials to go"
    # One trial took 60 s; of the 5 left one has run for as long and is late, so that one slot has two more of
    # 60 s, and the other one two after it.
    assert lines[1] == "[1:03] 5/10  arm a · seed 1: top1 81.25  (about 2:03 left)"
    assert lines[2] == "[1:04] arm b · seed 1: its worker died, attempt 2"
    assert lines[3].startswith("[1:05] 6/10  arm b · seed 1: failed: OSError: disk full")


def test_the_last_line_promises_no_time() -> None:
    lines = lines_of([(1, started("a", 0)), (2, finished("a", status="diverged", text="nan"))], 1, 0)
    assert lines == ["[0:02] 1/1  arm a · seed 1: diverged: nan"]


def test_a_round_is_a_line_and_more_to_do() -> None:
    more = Event(kind="round", text="2 rows are open: one more seed each", trials=3)
    lines = lines_of([(1, finished("a", top1=70.0)), (2, more), (3, finished("b", top1=71.0))], 2, 0)
    assert lines[1] == "[0:02] 2 rows are open: one more seed each"
    assert lines[2].startswith("[0:03] 2/5  arm b")


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_output_does_not_end_the_sweep() -> None:
    progress = Progress(2, 0)
    log = LineLog(Console(file=Closed()), progress, metric="top1")
    log(finished("a", top1=1.0))
    assert progress.done == 1


def test_the_live_region_shows_slots_counts_and_time_left() -> None:
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    live = Live(console, Progress(8, 2, clock=clock), metric="top1")
    with live as on_event:
        on_event(Event(kind="slots", slot=2))
        on_event(started("a", 0))
        clock.now += 30
        on_event(finished("a", top1=80.0))
        on_event(started("b", 1))
        clock.now += 10
        metrics = {"top1": 71.5}
        on_event(
            Event(
                kind="epoch",
                identity="b",
                label="arm b",
                seed=1,
                slot=1,
                epoch=3,
                epochs=8,
                metrics=metrics,
            )
        )
        on_event(finished("c", status="failed", text="boom"))
        with console.capture() as capture:
            console.print(live.render())
    shown = capture.get()
    # 30 s of a whole trial and 10 s of 3/8 of one make 29.1 s a trial. The running one needs 16.7 s more at
    # its own pace; of the three that wait one slot takes two.
    for text in ("idle", "arm b · seed 1", "3/8", "71.50", "4/8 done (2 cached)", "1 failed", "0:40 elapsed"):
        assert text in shown
    assert "about 0:58 left" in shown
    live(Event(kind="round", text="one more seed", trials=2))
    with console.capture() as capture:
        console.print(live.render())
    assert "4/10 done" in capture.get()
    assert "one more seed" in file.getvalue()
    assert "arm c · seed 1: failed: boom" in file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0:00"), (65.4, "1:05"), (3599.6, "1:00:00"), (7322, "2:02:02")]
)
def test_clock_text(value: float, text: str) -> None:
    assert clock_text(value) == text
