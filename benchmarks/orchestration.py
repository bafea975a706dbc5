"""What ablator costs a trial beyond the training itself, against plain Ray Tune + TorchTrainer.

    python benchmarks/orchestration.py                       # 100 trials against 4, up to five minutes
    python benchmarks/orchestration.py --trials 20 --plain 0 # ablator alone

Every trial trains for nothing: one epoch of two steps on 8×8 images, with one block of 16 channels. Three
parts run one after the other on the same machine, each in a process of its own:

process   the trials through `worker.trial.TrialRunner`, one after the other, without Ray
ablator   `ablator.run` of the study as a user calls it: plan, preflight, Ray, slots, Tune, ledger, MLflow and
          report
plain     the same trials through Tune and Train as Ray documents them: a driver function that builds a
          TorchTrainer and calls `fit()`, default settings, as many at once as ablator has slots

With N trials on k slots, and w the work of one trial in process (building, training and evaluating; the
ledger's commit is not in it):

    overhead a trial = (whole wall − wall until the first trial starts − N·w/k) / N

What happens after the last trial (report, MLflow, Ray's end) is in it, and so is a slot that starts late;
start-up is paid once a run and shown beside it. For plain the wall is that of `Tuner.fit()` alone, without
Ray's start, since nothing that it starts is used twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ablator
from ablator.api import Study
from ablator.contracts.events import Event, Ticket
from ablator.contracts.record import Record
from ablator.study.schema import Arms

SEEDS = 5
TRIVIAL: dict[str, Any] = {
    "data": {"name": "digits", "image_size": 8, "fraction": 0.01, "holdout": 0.02},
    "augment": {
        "crop": "none",
        "flip": 0.0,
        "rand_augment": None,
        "color_jitter": 0.0,
        "erase": 0.0,
        "repeats": 1,
        "eval_crop": 1.0,
    },
    "model": {
        "name": "deit_tiny_patch16_224",
        "drop_path": 0.0,
        "options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 1},
    },
    "train": {
        "epochs": 1,
        "batch_size": 8,
        "lr_batch": None,
        "warmup_epochs": 0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "precision": "fp32",
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """Seconds of one part."""

    part: str
    trials: int
    at_once: int
    whole: float
    """Wall of the part's one call: `ablator.run`, `Tuner.fit`, or the loop over trials."""
    until_first_start: float
    """From the call until the first trial starts to be built in a worker."""
    until_all_work: float
    """The same until every slot has started a trial."""
    after_last_finish: float
    """From the last trial's end of training until the call returns."""
    marginal: float
    """Wall a trial between the first and the last end of training; for plain, after the first wave."""
    work: float
    """Mean of building, training and evaluating a trial where it ran, without each worker's first."""
    driver_cpu: float
    """CPU seconds of the driver's process during the call."""


def trivial_study(trials: int) -> Study:
    """A grid over the learning rate and its baseline, SEEDS seeds each: `trials` in all."""
    rates = [round(1e-4 * (index + 1), 6) for index in range(trials // SEEDS - 1)]
    arms = (
        (Arms(label="lr {train.lr}", design="grid", set={"train.lr": rates}),)
        if rates
        else (Arms(label="lr", set={"train.lr": 1e-4}),)
    )
    return Study(
        study="orchestration",
        question="What does a trial cost beyond its training?",
        base={**TRIVIAL, "train": {**TRIVIAL["train"], "lr": 1.0}},
        arms=arms,
        seeds=SEEDS,
    )


def tickets(trials: int) -> list[Ticket]:
    """The study's trials as a worker takes them."""
    planned = ablator.plan(trivial_study(trials))
    return [
        Ticket(identity=trial.identity, spec=trial.spec.to_json(), label=trial.label, seed=trial.seed)
        for trial in planned.unique().values()
    ][:trials]


def train_alone(ticket: Ticket, store: Path) -> Record:
    """One trial on one CPU thread in this process."""
    import torch

    from ablator.contracts.protocols import World
    from ablator.results.store import Store
    from ablator.worker.execution import Execution
    from ablator.worker.trial import TrialRunner

    torch.set_num_threads(1)
    runner = TrialRunner(Store(store), Execution(), world=World(), device=torch.device("cpu"))
    record = runner.run(ticket, attempts=1, on_progress=lambda progress: True)
    assert record is not None
    assert record.status == "completed", record.error
    return record


# ---- the parts, each run in a process of its own


def run_process(trials: int, slots: int, folder: Path) -> Timeline:
    """One after the other in this process."""
    import torch

    from ablator.contracts.protocols import World
    from ablator.results.store import Store
    from ablator.worker.execution import Execution
    from ablator.worker.trial import TrialRunner

    torch.set_num_threads(1)
    todo = tickets(trials)
    store = Store.open(folder / "store")
    runner = TrialRunner(store, Execution(), world=World(), device=torch.device("cpu"))
    began, cpu = time.time(), time.process_time()
    records = [runner.run(ticket, attempts=1, on_progress=lambda progress: True) for ticket in todo]
    ended, cpu = time.time(), time.process_time() - cpu
    finished = [record for record in records if record is not None and record.status == "completed"]
    assert len(finished) == len(todo), "every trial trains"
    return timeline("process", finished, 1, began, ended, cpu, [[r.identity for r in finished]])


def run_ablator(trials: int, slots: int, folder: Path) -> Timeline:
    """The study through `ablator.run`."""
    at: dict[int, list[str]] = {}
    counted = [0]

    def watch(event: Event) -> None:
        if event.kind == "slots":
            counted[0] = event.slot
        elif event.kind == "started":
            at.setdefault(event.slot, []).append(event.identity)

    resources = ablator.Resources(slots=slots or None, address="local")
    began, cpu = time.time(), time.process_time()
    results = ablator.run(trivial_study(trials), store=folder / "store", resources=resources, on_event=watch)
    ended, cpu = time.time(), time.process_time() - cpu
    assert results.summary.completed == results.summary.planned, results.summary.line()
    assert results.mirror_left == 0, results.mirror_problem
    return timeline(
        "ablator", list(results.records.values()), counted[0], began, ended, cpu, list(at.values())
    )


def run_plain(trials: int, slots: int, folder: Path) -> Timeline:
    """The trials through a Tuner over TorchTrainers."""
    import ray
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def train_func(config: dict[str, Any]) -> None:
        record = train_alone(Ticket(**config["ticket"]), Path(config["store"]))
        train.report(record.metrics)

    def driver(config: dict[str, Any]) -> None:
        TorchTrainer(
            train_func,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1),
            run_config=train.RunConfig(
                name=config["ticket"]["identity"],
                storage_path=config["runs"],
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    from ablator.results.store import Store

    at_once = slots or os.cpu_count() or 1
    store = Store.open(folder / "store")
    todo = tickets(max(trials, 2 * SEEDS))[:trials]
    ray.init(
        address="local", num_cpus=(os.cpu_count() or 1) + 1, logging_level=logging.ERROR, log_to_driver=False
    )
    tuner = tune.Tuner(
        # At the default of one CPU for the function beside one for its worker, two trials on two cores
        # would wait for each other for ever.
        tune.with_resources(driver, {"cpu": 0.01}),
        param_space={
            "ticket": tune.grid_search([dataclasses.asdict(ticket) for ticket in todo]),
            "store": str(store.root),
            "runs": str(folder / "train"),
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    began, cpu = time.time(), time.process_time()
    grid = tuner.fit()
    ended, cpu = time.time(), time.process_time() - cpu
    assert grid.num_errors == 0, grid.errors
    records = list(store.ledger.load([ticket.identity for ticket in todo]).values())
    assert len(records) == len(todo), "every trial trains"
    ray.shutdown()
    return timeline("plain", records, at_once, began, ended, cpu, [[r.identity] for r in records])


def timeline(
    part: str,
    records: Sequence[Record],
    at_once: int,
    began: float,
    ended: float,
    cpu: float,
    workers: Sequence[Sequence[str]],
) -> Timeline:
    """The part's seconds from its records; `workers` are the identities that each worker took, in order."""
    by_identity = {record.identity: record for record in records}
    finishes = sorted(record.finished for record in records)
    # A worker's first trial pays for torch's first use, which is start-up; plain has no other trials.
    warm = [by_identity[i] for taken in workers for i in taken[1:]] or list(records)
    firsts = sorted(min(by_identity[i].started for i in taken) for taken in workers)
    wave = at_once if part == "plain" else 1
    rest = len(records) - wave
    return Timeline(
        part=part,
        trials=len(records),
        at_once=at_once,
        whole=ended - began,
        until_first_start=firsts[0] - began,
        until_all_work=firsts[min(at_once, len(firsts)) - 1] - began,
        after_last_finish=ended - finishes[-1],
        marginal=(finishes[-1] - finishes[wave - 1]) / rest if rest > 0 else float("nan"),
        work=statistics.fmean(record.finished - record.started for record in warm),
        driver_cpu=cpu,
    )


PARTS = {"process": run_process, "ablator": run_ablator, "plain": run_plain}


# ---- the comparison


def overhead(part: Timeline, work: float) -> float:
    """Seconds a trial beyond its training, where one trial's work in process takes `work` seconds."""
    started = 0.0 if part.part == "plain" else part.until_first_start
    return (part.whole - started - part.trials * work / part.at_once) / part.trials


def in_child(part: str, trials: int, slots: int) -> Timeline:
    """Run one part in a fresh process, so that no part finds what another one has set or loaded."""
    with tempfile.TemporaryDirectory(prefix="ablator-benchmark-") as folder:
        output = Path(folder) / "timeline.json"
        command = [sys.executable, __file__, "--part", part, "--output", str(output)]
        command += ["--trials", str(trials), "--slots", str(slots)]
        print(f"{part}: {trials} trials ...", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, stdout=sys.stderr)
        return Timeline(**json.loads(output.read_text()))


def show(process: Timeline, ours: Timeline, plain: Timeline | None) -> dict[str, float]:
    """Print the tables; the figures that the comparison comes to."""
    work = process.work
    found = {"work": work, "overhead": overhead(ours, work), "steady": ours.marginal - work / ours.at_once}
    parts = [process, ours, *([plain] if plain else [])]
    print(f"| seconds | {' | '.join(part.part for part in parts)} |\n|---|{'---:|' * len(parts)}")
    for field in dataclasses.fields(Timeline)[1:]:
        cells = [getattr(part, field.name) for part in parts]
        texts = [str(cell) if isinstance(cell, int) else f"{cell:.3f}" for cell in cells]
        print(f"| {field.name.replace('_', ' ')} | {' | '.join(texts)} |")
    n, k, start = ours.trials, ours.at_once, ours.until_first_start
    print(
        f"\nablator: ({ours.whole:.2f} whole − {start:.2f} start-up − {n}·{work:.4f}/{k} work) / {n} = "
        f"**{found['overhead']:.3f} s overhead a trial**"
    )
    print(f"between first and last finish alone: {found['steady']:.3f} s a trial")
    if plain is not None:
        found["plain_overhead"] = overhead(plain, work)
        found["plain_steady"] = plain.marginal - work / plain.at_once
        n, k = plain.trials, plain.at_once
        print(
            f"plain: ({plain.whole:.2f} whole − {n}·{work:.4f}/{k} work) / {n} = "
            f"**{found['plain_overhead']:.1f} s overhead a trial**"
        )
        print("\n| overhead, s a trial | ablator | plain | plain ÷ ablator |\n|---|---:|---:|---:|")
        for name, one, other in (
            ("whole run", found["overhead"], found["plain_overhead"]),
            ("steady state", found["steady"], found["plain_steady"]),
            ("whole run, with ablator's start-up", ours.whole / ours.trials, plain.whole / plain.trials),
        ):
            print(f"| {name} | {one:.3f} | {other:.2f} | {other / one:.0f}× |")
    return found


def main() -> None:
    """Run the parts and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=100, help="through ablator, in rows of five seeds")
    parser.add_argument("--plain", type=int, default=4, help="through plain Tune; 0 leaves that part out")
    parser.add_argument("--slots", type=int, default=0, help="trials at once; 0: as many as fit")
    parser.add_argument("--part", choices=list(PARTS), help="one part alone, in this process")
    parser.add_argument("--output", type=Path, help="also write everything as JSON here")
    options = parser.parse_args()
    if options.part is not None:
        with tempfile.TemporaryDirectory(prefix="ablator-benchmark-") as folder:
            found = PARTS[options.part](options.trials, options.slots, Path(folder))
        report: Any = dataclasses.asdict(found)
        print(json.dumps(report))
    else:
        process = in_child("process", min(options.trials, 50), options.slots)
        ours = in_child("ablator", options.trials, options.slots)
        plain = in_child("plain", options.plain, ours.at_once) if options.plain else None
        figures = show(process, ours, plain)
        parts = [dataclasses.asdict(part) for part in (process, ours, plain) if part is not None]
        report = {"figures": figures, "parts": parts}
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
