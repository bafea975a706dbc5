"""What a study's trials cost in time, and what they did not: an account from the records alone."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ablator.contracts.record import Record
from ablator.report.costs import trial_seconds
from ablator.report.search import SearchTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """Seconds, each trial counted once."""

    trials: int = 0
    """Trials that have a record."""
    training: float = 0.0
    evaluation: float = 0.0
    overhead: float = 0.0
    """From the first start to the commit, without training and evaluation: building, loading, checkpoints
    and, where a trial was interrupted, the time until it went on."""
    shared: float = 0.0
    """Not spent, because rows of the table, or samples of a search, came to a trial that was there."""
    shared_trials: int = 0
    """How often that was."""
    stopped: float = 0.0
    """Not spent, because early stopping ended trials: epochs that were left, times the trial's own seconds
    per epoch. A diverged trial's epochs are not counted: nobody decided to save them."""
    stopped_trials: int = 0
    stopped_epochs: int = 0
    decided: float = 0.0
    """Not spent, because rows of a sequential design were decided before their last seed: the seeds that were
    left, each at the mean seconds of the row's own trials."""
    decided_trials: int = 0


def spend(
    used: Sequence[Record],
    planned: Sequence[str],
    searches: Sequence[SearchTable] = (),
    spared: Sequence[tuple[Mapping[int, Record], int]] = (),
) -> Spending:
    """The account of the records `used`, each of another identity; `planned` has the identity of every cell
    of the table, repeats included, and `spared` the records of rows that were not asked for all seeds, with
    how many those are."""
    seconds = {record.identity: trial_seconds(record) for record in used}
    seen: set[str] = set()
    again: list[float] = []
    for identity in planned:
        if identity in seen and identity in seconds:
            again.append(seconds[identity])
        seen.add(identity)
    # What a repeated sample would have cost, nobody wrote down; its search's other points say about what.
    typical = statistics.median(seconds.values()) if seconds else 0.0
    repeats = sum(search.samples - len(search.points) for search in searches)
    cut = {record.identity: left for record in used if (left := _epochs_left(record)) > 0}
    return Spending(
        trials=len(used),
        training=math.fsum(record.cost.get("train_seconds", 0.0) for record in used),
        evaluation=math.fsum(record.cost.get("eval_seconds", 0.0) for record in used),
        overhead=math.fsum(
            max(0.0, record.finished - record.started - seconds[record.identity])
            for record in used
            if record.started > 0.0 and seconds[record.identity] > 0.0
        ),
        shared=math.fsum(again) + repeats * typical,
        shared_trials=len(again) + repeats,
        stopped=math.fsum(
            cut[record.identity] * seconds[record.identity] / len(record.curves)
            for record in used
            if record.identity in cut
        ),
        stopped_trials=len(cut),
        stopped_epochs=sum(cut.values()),
        decided=math.fsum(
            left * statistics.fmean(seconds[record.identity] for record in records.values())
            for records, left in spared
            if records
        ),
        decided_trials=sum(left for _, left in spared),
    )


def _epochs_left(record: Record) -> int:
    """Epochs that a pruned trial was spared."""
    train: Any = record.spec.get("train")
    if record.status != "pruned" or not record.curves or not isinstance(train, Mapping):
        return 0
    last = record.curves[-1].get("epoch", float(len(record.curves)))
    return max(0, int(train.get("epochs", 0)) - int(last))
