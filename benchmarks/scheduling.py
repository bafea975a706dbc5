"""What thousands of trials cost the driver: time, memory, whether it keeps the slots busy, and a resume.

    python benchmarks/scheduling.py                                     # 10,000 trials, a long while
    python benchmarks/scheduling.py --trials 200 --slots 4 --nodes 2    # a minute
    python benchmarks/scheduling.py --parts resume --sizes 100 1000     # seconds, without Ray

run      A study through `ablator.run` as a user calls it, on a Ray cluster of `--nodes` simulated nodes (a
         raylet and its agents each, all on this machine): plan, preflight, leases, tickets, queue, Tune,
         proxies, inboxes, ledger, live view, table; MLflow is off. Slots are simulated: an actor that takes
         tickets out of a real inbox, waits `--seconds`, reports `--epochs` epochs, and commits a record to
         the ledger. It has no torch and no worker group, which is all that differs; instead of loading them
         it waits `--starting` seconds.
resume   The same study where the ledger has all records, and where it has half of them: plan, what is
         missing, table. Where half are missing they are committed where the sweep would train them.

Overhead a trial is the wall between the first start and the last finish, less the trials' own seconds over
the slots, a trial. The driver's share is its processor time; what the simulated cluster takes is beside it,
since on one machine all of them share its cores. The memory of the driver is its resident set.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ablator
from ablator.contracts.events import Event, Ticket
from ablator.plan.planning import Plan
from ablator.results.store import Store

sys.path.append(str(Path(__file__).parent))
from orchestration import SEEDS, trivial_study
from simulated_cluster import cluster_cpu, record_of, rss_kb, simulated_nodes, simulated_slots, spent_between

_MARKS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """The driver after some trials."""

    trials: int
    seconds: float
    """Since the first trial was started."""
    driver_cpu: float
    """Processor seconds of the driver since then, of all its threads."""
    rss_kb: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run's figures. `_ms` and `_kb` are a trial's share."""

    trials: int
    slots: int
    nodes: int
    trial_seconds: float
    epochs: int
    start_seconds: float
    """From the call until the first trial is started: plan, preflight, Ray, slots."""
    wall_ms: float
    """Between the first start and the last finish."""
    overhead_ms: float
    """The same without the trials' own seconds over the slots."""
    driver_ms: float
    """The driver's processor time."""
    cluster_ms: dict[str, float]
    """That of the cluster's processes, by kind."""
    idle_share: float
    """Of the slots' time between the first start and the last finish."""
    end_seconds: float
    """From the last finish until the call returns: Ray's end, table, page."""
    plan_kb: float
    run_kb: float
    """Growth between the first mark and the last one."""
    table_kb: float
    """From the last mark to the end, with all records in memory."""
    marks: list[Mark]


# ---- a run


class Watch:
    """Hears of every event, as the live view does, and notes where the driver stands."""

    def __init__(self, trials: int, view: Callable[[Event], None]) -> None:
        self._every = max(1, trials // _MARKS)
        self._trials = trials
        self._view = view
        self.finished = 0
        self.first = 0.0
        self.last = 0.0
        self.marks: list[Mark] = []
        self.before: dict[int, tuple[str, float]] = {}
        self.after: dict[int, tuple[str, float]] = {}
        self._cpu = 0.0

    def __call__(self, event: Event) -> None:
        """Count it."""
        self._view(event)
        if event.kind == "started" and not self.first:
            self.first, self._cpu, self.before = time.time(), time.process_time(), cluster_cpu()
        elif event.kind == "finished":
            self.finished += 1
            self.last = time.time()
            if self.finished % self._every == 0:
                self.marks.append(
                    Mark(
                        trials=self.finished,
                        seconds=self.last - self.first,
                        driver_cpu=time.process_time() - self._cpu,
                        rss_kb=rss_kb(),
                    )
                )
            if self.finished == self._trials:
                self.after = cluster_cpu()


@contextmanager
def live_view(planned: Plan, store: Store) -> Iterator[Callable[[Event], None]]:
    """The region that a terminal of 120 columns and 50 lines gets, into nothing."""
    from rich.console import Console

    from ablator.report.live import Live
    from ablator.watching import Ahead, board_of

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=120, height=50)
        progress = Ahead.of([planned], store).progress()
        with Live(console, progress, metric="top1", board=board_of([planned], store)) as live:
            yield live


def run(options: argparse.Namespace) -> Run:
    """One run of so many trials, in this process."""
    from ablator.scheduling import sweep

    sweep.start_slots = simulated_slots(options.seconds, options.epochs, options.starting)
    with (
        tempfile.TemporaryDirectory(prefix="ablator-benchmark-") as folder,
        simulated_nodes(options.nodes, options.slots) as address,
    ):
        store = Store.open(Path(folder) / "store")
        study = trivial_study(options.trials)
        ablator.plan(trivial_study(2 * SEEDS))
        empty = rss_kb()
        called = time.time()
        planned = ablator.plan(study)
        plan_kb = rss_kb() - empty
        with live_view(planned, store) as view:
            watch = Watch(options.trials, view)
            results = ablator.run(
                study,
                store=store,
                resources=ablator.Resources(slots=options.slots, address=address),
                mlflow="off",
                on_event=watch,
            )
        returned = time.time()
        assert results.summary.completed == results.summary.planned, results.summary.line()
        assert watch.finished == options.trials == len(results.records), "every trial is told and kept once"
        work = sum(record.finished - record.started for record in results.records.values())
        return _figures(options, watch, work, called, returned, plan_kb)


def _figures(
    options: argparse.Namespace, watch: Watch, work: float, called: float, returned: float, plan_kb: float
) -> Run:
    n, wall = options.trials, watch.last - watch.first
    first, last = watch.marks[0], watch.marks[-1]
    grown = last.trials - first.trials
    return Run(
        trials=n,
        slots=options.slots,
        nodes=options.nodes,
        trial_seconds=options.seconds,
        epochs=options.epochs,
        start_seconds=watch.first - called,
        wall_ms=wall / n * 1e3,
        overhead_ms=(wall - n * options.seconds / options.slots) / n * 1e3,
        driver_ms=last.driver_cpu / n * 1e3,
        cluster_ms={kind: s / n * 1e3 for kind, s in spent_between(watch.before, watch.after).items()},
        idle_share=max(0.0, 1 - work / (wall * options.slots)),
        end_seconds=returned - watch.last,
        plan_kb=plan_kb / n,
        run_kb=(last.rss_kb - first.rss_kb) / grown if grown else float("nan"),
        table_kb=(rss_kb() - last.rss_kb) / n,
        marks=watch.marks,
    )


# ---- a resume


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resume:
    """A second run of a study, without Ray."""

    trials: int
    there: int
    """Trials that the ledger has."""
    seconds: float
    """From the call until its return."""
    cpu_seconds: float
    until_sweep: float | None
    """From the call until the first missing trial could be given out; None where none is missing."""
    rss_kb: float
    """What the driver has grown by, a trial."""


def resume(options: argparse.Namespace) -> Resume:
    """`ablator.run` where `--there` of the trials have their records, in this process."""
    from ablator.scheduling import sweep

    study = trivial_study(options.trials)
    todo = list(ablator.plan(study).unique().values())
    reached: list[float] = []

    def train(phases: Sequence[Any], *, store: Store, on_event: Any, **_: Any) -> sweep.SweepOutcome:
        reached.append(time.perf_counter())
        statuses = {}
        for ticket in (ticket for phase in phases for ticket in phase.tickets):
            store.ledger.commit(record_of(ticket, time.time(), options.epochs))
            statuses[ticket.identity] = "completed"
        reached.append(time.perf_counter())
        return sweep.SweepOutcome(statuses=statuses, asked={}, answers=[], elsewhere={})

    sweep.sweep = train
    with tempfile.TemporaryDirectory(prefix="ablator-benchmark-") as folder:
        store = Store.open(Path(folder) / "store")
        for trial in todo[: options.there]:
            ticket = Ticket(identity=trial.identity, spec=trial.spec.to_json(), label="", seed=0)
            store.ledger.commit(record_of(ticket, time.time(), options.epochs))
        # Settings classes, data and the table's libraries are loaded once per process, whatever its size.
        ablator.run(trivial_study(2 * SEEDS), store=Path(folder) / "small", mlflow="off")
        reached.clear()
        del todo
        before, cpu, began = rss_kb(), time.process_time(), time.perf_counter()
        results = ablator.run(study, store=store, mlflow="off")
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        assert results.summary.cached == options.there, results.summary.line()
        assert results.summary.completed == options.trials - options.there, results.summary.line()
        # What stands for the training is no part of a resume.
        trained = reached[1] - reached[0] if reached else 0.0
        return Resume(
            trials=options.trials,
            there=options.there,
            seconds=ended - began - trained,
            cpu_seconds=cpu,
            until_sweep=reached[0] - began if reached else None,
            rss_kb=(rss_kb() - before) / options.trials,
        )


# ---- all of it


def in_child(part: str, options: argparse.Namespace, **changed: Any) -> dict[str, Any]:
    """One part in a process of its own, so that none finds what another has loaded."""
    with tempfile.TemporaryDirectory(prefix="ablator-benchmark-") as folder:
        output = Path(folder) / "part.json"
        said = {**vars(options), **changed}
        command = [sys.executable, __file__, "--part", part, "--output", str(output)]
        for name in ("trials", "slots", "nodes", "seconds", "epochs", "starting", "there"):
            command += [f"--{name}", str(said[name])]
        print(f"{part}: {said['trials']} trials ...", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, stdout=sys.stderr)
        found: dict[str, Any] = json.loads(output.read_text())
        return found


def show_run(found: Run) -> None:
    """Print a run's tables."""
    print(
        f"{found.trials} trials of {found.trial_seconds:g} s and {found.epochs} epochs, {found.slots} "
        f"slots on {found.nodes} nodes\n\n| figure | value |\n|---|---:|"
    )
    for name, value in dataclasses.asdict(found).items():
        if isinstance(value, float):
            print(f"| {name.replace('_', ' ')} | {value:.3f} |")
    for kind, value in found.cluster_ms.items():
        print(f"| {kind}, processor ms a trial | {value:.3f} |")
    print(
        "\n| trials | seconds | driver's processor ms a trial, since the last line | resident MB |\n"
        "|---:|---:|---:|---:|"
    )
    before = Mark(trials=0, seconds=0.0, driver_cpu=0.0, rss_kb=0.0)
    for mark in found.marks:
        each = (mark.driver_cpu - before.driver_cpu) / (mark.trials - before.trials) * 1e3
        print(f"| {mark.trials} | {mark.seconds:.1f} | {each:.1f} | {mark.rss_kb / 1024:.1f} |")
        before = mark
    print()


def show_resumes(found: Sequence[Resume]) -> None:
    """Print a line a resume."""
    print(
        "| trials | in the ledger | seconds | ms a trial | CPU s | until the sweep, s | driver's KB a trial |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for one in found:
        until = "" if one.until_sweep is None else f"{one.until_sweep:.2f}"
        print(
            f"| {one.trials} | {one.there} | {one.seconds:.2f} | {one.seconds / one.trials * 1e3:.2f} | "
            f"{one.cpu_seconds:.2f} | {until} | {one.rss_kb:.1f} |"
        )


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=10_000, help="in rows of five seeds")
    parser.add_argument("--slots", type=int, default=8, help="simulated slots")
    parser.add_argument("--nodes", type=int, default=8, help="simulated nodes, about 150 MB each")
    parser.add_argument("--seconds", type=float, default=0.0, help="a trial's own time")
    parser.add_argument("--epochs", type=int, default=1, help="epochs that a trial reports")
    parser.add_argument(
        "--starting",
        type=float,
        default=5.0,
        help="seconds until a slot takes its first trial, as a real one loads torch meanwhile; Tune ends "
        "followers that have not started by then, where trials are shorter than such a start",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="trials of resumes")
    parser.add_argument("--parts", nargs="+", choices=["run", "resume"], default=["run", "resume"])
    parser.add_argument("--there", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=["run", "resume"], help="one part alone, in this process")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON here")
    return parser


def main() -> None:
    """Run the parts and print their tables."""
    options = arguments().parse_args()
    report: dict[str, Any] = {}
    if options.part is not None:
        report = dataclasses.asdict(run(options) if options.part == "run" else resume(options))
    else:
        if "run" in options.parts:
            found = in_child("run", options)
            show_run(Run(**{**found, "marks": [Mark(**mark) for mark in found["marks"]]}))
            report["run"] = found
        if "resume" in options.parts:
            cases = [(n, there) for n in options.sizes for there in (n, n // 2)]
            report["resume"] = [in_child("resume", options, trials=n, there=k, epochs=10) for n, k in cases]
            show_resumes([Resume(**one) for one in report["resume"]])
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
