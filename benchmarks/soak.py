"""Hurt a run at random for a stated time, and compare what it leaves with a run that nobody touched.

    python benchmarks/soak.py                        # 20 minutes of faults, about 30 in all
    python benchmarks/soak.py --seed 7 --minutes 60

A study of 60 trials (soak.yaml) is trained once undisturbed, and then again from an empty store, over and
over until the time is up, while driver, workers, slots, controllers, raylets, the head and the MLflow
server are killed, the store's disk is filled, and checkpoints and records are damaged. A run that ended is
started again by the same command, with `--repair` where it asks for that. Every other round joins a cluster
of three nodes, of which any may be lost.

It ends with exit code 1 where a trial is missing, differs from the undisturbed one in a metric or a curve,
was trained again after it was finished (but for records that were damaged), or is not exactly once in
MLflow; where the tables differ in a byte (measured costs aside); or where nothing was finished for ten
minutes. The seed decides what is hurt, and after how long; when that meets which trial is the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ray_nodes import RayNodes
from soak_faults import Disk, Tracking, adopt_orphans, damage, kill_all, kill_one

import ablator
from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.report.markdown import render_markdown
from ablator.results.store import Store

STUDY = Path(__file__).with_name("soak.yaml")
_HUNG_S = 600.0
_DISK_MB = 192
_NODES = 3
_WEIGHTS = {
    "driver": 2,
    "worker": 4,
    "slot": 3,
    "proxy": 2,
    "controller": 2,
    "raylet": 2,
    "head": 1,
    "mlflow": 2,
    "full disk": 2,
    "checkpoint": 3,
    "record": 1,
}
"""How often what is hurt, beside the others."""


class SoakError(Exception):
    """A promise was broken."""


@dataclass
class Tally:
    """What was done, and what it took."""

    hurt: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    """How runs ended before the last one of a round: killed, or with which exit code."""
    rounds: int = 0
    trials: int = 0
    damaged: int = 0
    """Records that were damaged after they were finished, and trained again."""
    seconds: float = 0.0


class Round:
    """One store from empty to complete, with everything around it dying."""

    def __init__(self, options: argparse.Namespace, folder: Path, rng: random.Random, tally: Tally) -> None:
        self._options, self._rng, self._tally = options, rng, tally
        self._disk = Disk(folder / "disk", _DISK_MB)
        self.store = Store(self._disk.place / "store")
        self.tracking = Tracking(folder / "mlflow")
        self._log = folder / "run.log"
        self._nodes = RayNodes() if tally.rounds % 2 else None
        self._run: subprocess.Popen[bytes] | None = None
        self._seen: dict[str, float] = {}
        """When each finished trial was finished, as first seen."""
        self._progress = time.monotonic()
        self.hurt_records: set[str] = set()
        self._later: list[tuple[float, Callable[[], object]]] = []
        """What mends a fault, and when."""

    def train(self, deadline: float) -> None:
        """Run, and hurt until `deadline` (monotonic seconds), until a run ends well. Raises SoakError."""
        self.tracking.start(wait=True)
        if self._nodes is not None:
            self._start_nodes()
        self._start(repair=False)
        following = time.monotonic() + self._pause()
        while True:
            time.sleep(0.5)
            self._look()
            for when, mend in [item for item in self._later if item[0] <= time.monotonic()]:
                self._later.remove((when, mend))
                mend()
            assert self._run is not None
            if (code := self._run.poll()) is not None:
                if code == 0:
                    break
                self._restart(code)
            elif following < time.monotonic() < deadline:
                self._hurt()
                following = time.monotonic() + self._pause()
        for _, mend in self._later:
            mend()
        self.tracking.start(wait=True)

    def close(self) -> None:
        """Nothing of the round stays."""
        kill_all()
        self._disk.close()

    # ---- the run

    def command(self, *more: str) -> list[str]:
        """`ablator run` of this round."""
        place = ["--address", "local"]
        if self._nodes is not None:
            # A slot of a node that is not there at the moment begins when another one joins.
            place = ["--address", self._nodes.address, "--slots", str(_NODES)]
        return [
            *_run_command(self._options, self.store.root, "--mlflow", self.tracking.uri),
            *(*place, "--checkpoint-seconds", "1", *more),
        ]

    def _start(self, *, repair: bool) -> None:
        with open(self._log, "ab") as log:
            self._began = self._log.stat().st_size
            self._run = subprocess.Popen(
                self.command(*["--repair"] * repair), stdout=log, stderr=log, start_new_session=True
            )

    def _restart(self, code: int) -> None:
        said = self._log.read_bytes()[self._began :].decode(errors="replace")
        if "Traceback (most recent call last)" in said:
            raise SoakError(f"a run ended with a traceback:\n{said[-4000:]}")
        self._tally.endings["killed" if code < 0 else f"exit code {code}"] += 1
        print(
            f"    run ended ({code}): {said.strip().splitlines()[-1][:160] if said.strip() else ''}",
            flush=True,
        )
        time.sleep(1.0)
        self._start(repair="--repair" in said)

    def _look(self) -> None:
        """Nothing that is finished is trained again, and something is finished now and then."""
        for identity in self.store.ledger.identities():
            if identity in self._seen and identity not in self.hurt_records:
                continue
            record = self._read(identity)
            if record is not None and self._seen.get(identity) != record.finished:
                self._seen[identity] = record.finished
                self._progress = time.monotonic()
        if time.monotonic() - self._progress > _HUNG_S:
            raise SoakError(f"nothing was finished for {_HUNG_S:.0f} s; the run's words: {self._log}")

    def _read(self, identity: str) -> Record | None:
        try:
            return self.store.ledger.get(identity)
        except StoreError:
            return None  # one that we damaged

    # ---- faults

    def _pause(self) -> float:
        every: float = self._options.every
        return self._rng.uniform(0.5, 1.5) * every

    def _hurt(self) -> None:
        kind = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        done = {
            "driver": self._kill_driver,
            "raylet": self._lose_node,
            "head": self._lose_head,
            "mlflow": self._lose_tracking,
            "full disk": self._fill_disk,
            "checkpoint": self._damage_checkpoint,
            "record": self._damage_record,
        }.get(kind, lambda: kill_one(kind, self._rng))()
        if done:
            self._tally.hurt[kind] += 1
            print(f"    {len(self._seen)} finished: {kind}", flush=True)

    def _after(self, low: float, high: float, mend: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + self._rng.uniform(low, high), mend))

    def _kill_driver(self) -> bool:
        assert self._run is not None
        self._run.kill()
        return True

    def _start_nodes(self) -> None:
        assert self._nodes is not None
        self._nodes.start_head()
        for _ in range(_NODES - 1):
            self._nodes.add()

    def _lose_node(self) -> bool:
        """A raylet dies. Of a private cluster there is one; of three another node comes after a while."""
        if self._nodes is None:
            return kill_one("raylet", self._rng)
        if not self._nodes.others:
            return False
        self._nodes.kill_raylet(self._rng.choice(self._nodes.others))
        self._after(5, 40, self._add_node)
        return True

    def _add_node(self) -> None:
        assert self._nodes is not None
        if len(self._nodes.others) < _NODES - 1:
            self._nodes.add()

    def _lose_head(self) -> bool:
        """The head of a private cluster dies with its run; one of the three takes the others with it."""
        if not kill_one("head", self._rng):
            return False
        if self._nodes is not None:
            self._nodes.end()
            self._start_nodes()
        return True

    def _lose_tracking(self) -> bool:
        if not self.tracking.runs:
            return False
        self.tracking.kill()
        self._after(5, 60, self.tracking.start)
        return True

    def _fill_disk(self) -> bool:
        if not self._disk.own:
            return False
        self._disk.fill()
        self._after(2, 10, self._disk.free)
        return True

    def _damage_checkpoint(self) -> bool:
        found = sorted((self.store.root / "checkpoints").glob("*/last.pt"))
        return bool(found) and self._damage(self._rng.choice(found))

    def _damage_record(self) -> bool:
        whole = sorted(set(self._seen) - self.hurt_records)
        if not whole:
            return False
        identity = self._rng.choice(whole)
        self.hurt_records.add(identity)
        return self._damage(self.store.root / "ledger" / identity[:2] / f"{identity}.json")

    def _damage(self, path: Path) -> bool:
        try:
            damage(path, self._rng)
        except OSError:
            return False  # it was removed meanwhile, or the disk is full
        return True

    # ---- what it left

    def check(self, undisturbed: Store) -> None:
        """Compare with the undisturbed run. Raises SoakError."""
        again = _account(self.command("--json"))
        _demand(again["trained"] == 0, f"a last run trained {again['trained']}: {again}")
        _demand(again["cached"] == again["planned"], f"a last run found not everything: {again}")
        expected, found = (_records(store) for store in (undisturbed, self.store))
        _demand(found.keys() == expected.keys(), f"{len(found)} records, expected {len(expected)}")
        for identity, record in found.items():
            same = (record.status, record.metrics, record.curves) == (
                *(expected[identity].status, expected[identity].metrics),
                expected[identity].curves,
            )
            _demand(same, f"trial {identity[:12]} differs from the undisturbed one")
            kept = identity in self.hurt_records or self._seen.get(identity) in (None, record.finished)
            _demand(kept, f"trial {identity[:12]} was finished and trained again")
        tables = [_table(self._options, store) for store in (undisturbed, self.store)]
        _demand(tables[0] == tables[1], "the tables differ")
        self._check_tracking(set(found))

    def _check_tracking(self, identities: set[str]) -> None:
        """After a sync every trial is in MLflow once; one whose record was damaged, for every training."""
        synced = subprocess.run(
            [sys.executable, "-m", "ablator", "sync", "--store", str(self.store.root)], check=False
        )
        _demand(synced.returncode == 0, "ablator sync failed")
        counted = self.tracking.runs_of("soak")
        _demand(set(counted) == identities, f"{len(counted)} trials in MLflow, expected {len(identities)}")
        twice = {i for i, count in counted.items() if count > 1} - self.hurt_records
        _demand(not twice, f"{len(twice)} trials are in MLflow more than once")


def soak(options: argparse.Namespace, folder: Path) -> Tally:
    """All rounds. Raises SoakError."""
    rng = random.Random(options.seed)
    undisturbed = Store(folder / "undisturbed")
    print("undisturbed ...", flush=True)
    began = time.monotonic()
    account = _account(_run_command(options, undisturbed.root, "--mlflow", "off", "--json"))
    _demand(account["completed"] == account["planned"], f"the undisturbed run is not whole: {account}")
    print(f"  {account['planned']} trials in {time.monotonic() - began:.0f} s", flush=True)
    tally = Tally()
    while tally.seconds < 60 * options.minutes:
        began = time.monotonic()
        print(f"round {tally.rounds + 1}, {'three nodes' if tally.rounds % 2 else 'private'} ...", flush=True)
        one = Round(options, folder / f"round-{tally.rounds + 1}", rng, tally)
        try:
            one.train(began + 60 * options.minutes - tally.seconds)
            tally.seconds += time.monotonic() - began
            one.check(undisturbed)
        finally:
            one.close()
        tally.rounds += 1
        tally.trials += account["planned"]
        tally.damaged += len(one.hurt_records)
        print(f"  whole and equal; {tally.seconds / 60:.1f} min of faults so far", flush=True)
    return tally


def _overrides(options: argparse.Namespace) -> list[str]:
    return [f"seeds={options.seeds}", f"train.epochs={options.epochs}", "train.warmup_epochs=1"]


def _run_command(options: argparse.Namespace, store: Path, *more: str) -> list[str]:
    sets = [part for override in _overrides(options) for part in ("--set", override)]
    start = [sys.executable, "-m", "ablator", "run", str(STUDY), "--profile", "laptop"]
    return [*start, *sets, "--store", str(store), *more]


def _account(command: list[str]) -> dict[str, int]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    _demand(done.returncode == 0, f"exit code {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _records(store: Store) -> dict[str, Record]:
    return store.ledger.load(store.ledger.identities())


def _table(options: argparse.Namespace, store: Store) -> str:
    shown = ablator.report(STUDY, profile="laptop", overrides=_overrides(options), store=store.root)
    return render_markdown(shown.table, costs=False)


def _demand(holds: bool, text: str) -> None:
    if not holds:
        raise SoakError(text)


def main() -> None:
    """Read the options, soak, print what was survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of faults; a round is always finished")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two faults, on average")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="of 20 rows each")
    parser.add_argument("--folder", type=Path, help="keep everything there")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    adopt_orphans()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        tally = soak(options, folder)
    except SoakError as error:
        kill_all()
        sys.exit(f"FAILED (seed {options.seed}, files in {folder}): {error}")
    figures = {
        "seed": options.seed,
        "minutes of faults": round(tally.seconds / 60, 1),
        "rounds": tally.rounds,
        "trials": tally.trials,
        "faults survived": tally.hurt.total(),
        **{f"  {kind}": count for kind, count in sorted(tally.hurt.items())},
        "runs that were started again": tally.endings.total(),
        **{f"  after {ending}": count for ending, count in sorted(tally.endings.items())},
        "records damaged and trained again": tally.damaged,
    }
    for name, value in figures.items():
        print(f"{name:<36} {value:>8}")
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
