"""Planning 10,000 trials, and committing, loading and reporting their 10,000 records.

    python benchmarks/planning.py                  # under a minute
    python benchmarks/planning.py --trials 1000

The study is planned as `ablator plan` does it; its trials' records are made in memory, committed to a ledger
in a temporary folder, and read and reported as `ablator report` does it. Where a step has a floor that no
implementation can pass, the floor is measured in the same run and the ratio is to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import ablator
from ablator.api import Results, Study
from ablator.contracts.record import Record
from ablator.plan.planning import Plan
from ablator.plan.trial import Trial
from ablator.results.ledger import Ledger
from ablator.results.store import Store
from ablator.study.schema import Arms

SEEDS = 5
ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What was measured of one step."""

    name: str
    seconds: float
    """Wall time; on a busy disk or machine far above the CPU time."""
    cpu_seconds: float
    floor: str = ""
    """What it cannot be faster than."""
    floor_seconds: float | None = None


def timed(work: Callable[[], T]) -> tuple[float, float, T]:
    """Wall and CPU seconds that `work` takes, and what it returns."""
    start, cpu = time.perf_counter(), time.process_time()
    made = work()
    return time.perf_counter() - start, time.process_time() - cpu, made


def large_study(trials: int) -> Study:
    """A grid over the learning rate with MoTo, and a baseline without: `trials` in all, SEEDS a row."""
    rates = [round(1e-4 * (1 + index / 100), 9) for index in range(trials // SEEDS - 1)]
    return Study(
        study="planning",
        question="How long does a large study take to plan and to report?",
        base=str(ROOT / "recipes" / "deit_s_imagenet.yaml"),
        set={"data": {"name": "digits", "root": None}},
        arms=(Arms(label="lr {train.lr}", design="grid", set={"moto.n": 8, "train.lr": rates}),),
        seeds=SEEDS,
    )


def record_of(trial: Trial, rng: random.Random) -> Record:
    """An outcome as a trained trial leaves it: ten epochs of curves, a failure in a hundred."""
    final = 80.0 + rng.gauss(0.0, 1.0)
    failed = rng.random() < 0.01 and trial.arm > 0
    curves = tuple(
        {"epoch": float(epoch), "lr": 1e-3, "train_loss": 2.0 / epoch, "top1": final * epoch / 10}
        for epoch in range(1, 11)
    )
    return Record(
        identity=trial.identity,
        status="failed" if failed else "completed",
        error="out of memory" if failed else None,
        spec=trial.spec.to_json(),
        metrics={} if failed else {"top1": final, "val_loss": 1.0},
        curves=curves,
        cost={"step_ms": 40.0 + rng.random(), "images_per_second": 900.0, "train_seconds": 30.0},
        size={"parameters": 22e6 + trial.arm, "training_parameters": 22e6, "gmacs": 4.6},
        versions={"python": "3.11", "torch": "2.15.0"},
        started=1.0,
        finished=2.0,
    )


def hash_specs(planned: Plan) -> None:
    """The least that content hashes take: every trial's spec as JSON, hashed."""
    for trial in planned.trials:
        hashlib.sha256(json.dumps(trial.spec.to_json(), sort_keys=True).encode()).hexdigest()


def write_synced(folder: Path, sizes: list[int]) -> None:
    """The least that durability takes: as many files of the same sizes, each synced."""
    for index, size in enumerate(sizes):
        with (folder / f"{index}.json").open("wb") as file:
            file.write(b"x" * size)
            file.flush()
            os.fsync(file.fileno())


def parse_files(paths: list[Path]) -> None:
    """The least that reading records takes: every file read and parsed."""
    for path in paths:
        json.loads(path.read_bytes())


def commit_all(ledger: Ledger, records: list[Record]) -> None:
    """One after the other, as a sweep does it."""
    for record in records:
        ledger.commit(record)


def measure(trials: int) -> tuple[int, list[Step]]:
    """How many trials there were, and what every step took."""
    study = large_study(trials)
    # Data and settings classes are loaded once per process, whatever the study's size.
    ablator.plan(large_study(2 * SEEDS))
    wall, cpu, planned = timed(lambda: ablator.plan(study))
    floor, _, _ = timed(lambda: hash_specs(planned))
    steps = [step("plan", wall, cpu, "specs to JSON, hashed", floor)]
    rng = random.Random(0)
    records = [record_of(trial, rng) for trial in planned.unique().values()]
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        steps += _ledger_steps(store.ledger, records, Path(folder))
        wall, cpu, results = timed(lambda: report(study, store))
        steps.append(step("plan, load, build, and write every format (`ablator report`)", wall, cpu))
        assert len(results.records) == len(records), "every record is in the report"
    return len(planned.trials), steps


def step(name: str, wall: float, cpu: float, floor: str = "", floor_wall: float | None = None) -> Step:
    """One line of the table."""
    return Step(name=name, seconds=wall, cpu_seconds=cpu, floor=floor, floor_seconds=floor_wall)


def report(study: Study, store: Store) -> Results:
    """The study's table and files from the ledger."""
    return ablator.report(study, store=store)


def _ledger_steps(ledger: Ledger, records: list[Record], folder: Path) -> list[Step]:
    commit, commit_cpu, _ = timed(lambda: commit_all(ledger, records))
    paths = sorted(ledger.root.glob("??/*.json"))
    beside = folder / "floor"
    beside.mkdir()
    sizes = [path.stat().st_size for path in paths]
    write, _, _ = timed(lambda: write_synced(beside, sizes))
    load, load_cpu, found = timed(lambda: ledger.load([record.identity for record in records]))
    assert len(found) == len(paths), "every final record is found again"
    parse, _, _ = timed(lambda: parse_files(paths))
    return [
        step(f"commit ({sum(sizes) / 1e6:.0f} MB)", commit, commit_cpu, "files written and synced", write),
        step("Ledger.load", load, load_cpu, "files read and parsed", parse),
    ]


def line(measured: Step, trials: int) -> str:
    """The table's line of one step."""
    each = f"{measured.seconds:.2f} | {measured.cpu_seconds:.2f} | {measured.seconds / trials * 1e3:.3f}"
    if measured.floor_seconds is None:
        return f"| {measured.name} | {each} | | | |"
    ratio = measured.seconds / measured.floor_seconds
    return f"| {measured.name} | {each} | {measured.floor} | {measured.floor_seconds:.2f} | {ratio:.1f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=10_000, help="how many, in rows of five seeds")
    parser.add_argument("--output", type=Path, help="also write the steps as JSON here")
    options = parser.parse_args()
    trials, steps = measure(options.trials)
    print(f"{trials} trials, {SEEDS} seeds a row\n")
    print("| step | seconds | CPU s | ms a trial | floor | seconds | ratio |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for measured in steps:
        print(line(measured, trials))
    if options.output is not None:
        plain = {"trials": trials, "steps": [dataclasses.asdict(measured) for measured in steps]}
        options.output.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
