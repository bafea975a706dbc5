"""A study's table while it fills: what there is of every row so far.

Fed with the records that there were at the start and with events. No p values and no verdicts: a test of a
table that is half full misleads, because rows look decided by the seeds that happened to come first, and who
looks after every trial finds something in the end. Those come with the table itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from ablator.contracts.events import Event
from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.plan.planning import Arm, Plan
from ablator.report.statistics import Mode
from ablator.results.journal import Journal

Lookup = Callable[[str], Record | None]
"""The record of an identity, where there is one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FillingRow:
    """One arm so far."""

    label: str
    against: str | None
    """Label of the row that Δ is the difference from; None for a baseline."""
    done: int
    """Trials with an outcome."""
    planned: int
    """Trials that were asked for so far."""
    running: int
    """Trials that are being trained."""
    mean: float | None
    """Of the metric over the completed trials; None where none has a number."""
    std: float | None
    """The same, ddof 1; None with fewer than two."""
    delta: float | None
    """Mean difference over the seeds that both rows have; None for a baseline, and where there is none."""
    pairs: int
    """How many seeds these are."""
    counts: Mapping[str, int]
    """Trials by status: completed, failed, diverged, pruned."""
    words: tuple[str, ...] = ()
    """What completed trials have in the place of a number, such as OOM, one each."""
    latest: float = 0.0
    """When its last trial was finished, in unix seconds; 0 where none is."""

    @property
    def values(self) -> int:
        """Completed trials that have a number."""
        return self.counts["completed"] - len(self.words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FillingSearch:
    """One search so far. A sample is done when all its trials have an outcome."""

    label: str
    done: int
    planned: int
    """Samples that are asked for in all."""
    running: int
    """Trials that are being trained."""
    best: float | None
    """The best value of a completed sample, the mean over its seeds."""
    counts: Mapping[str, int]
    """Samples by status: completed, failed, diverged, pruned."""
    latest: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Outcome:
    status: str
    value: float | None
    word: str | None
    finished: float


class Drawn:
    """What the searches of a study have drawn so far; `journals` by index of the search's arm."""

    def __init__(self, planned: Plan, journals: Mapping[int, Journal]) -> None:
        self._planned = planned
        self._journals = journals
        self._read: dict[int, int] = {}
        """Size of every journal when it was read."""
        self.samples: dict[int, Sequence[tuple[str, ...]]] = {}
        """Identities of every sample, by index of the search's arm."""
        self.labels: dict[str, str] = {}
        """The search's label by identity."""

    def news(self) -> set[str]:
        """Identities that were drawn since this was asked last; a journal that has not grown is not read
        again, and one that is damaged says nothing: the run itself names it."""
        before = set(self.labels)
        for search in self._planned.searches:
            journal = self._journals[search.arm]
            with contextlib.suppress(StoreError, OSError):
                size = journal.size()
                if size == self._read.get(search.arm):
                    continue
                self._read[search.arm] = size
                samples = [sample.identities for sample in journal.read()[: search.samples]]
                self.samples[search.arm] = samples
                self.labels |= {identity: search.label for sample in samples for identity in sample}
        return set(self.labels) - before


class Filling:
    """The table of one study, as far as it is known; a trial that several rows share fills all of them."""

    def __init__(
        self,
        planned: Plan,
        *,
        mode: Mode,
        lookup: Lookup,
        journals: Mapping[int, Journal],
        asked: Collection[str] | None = None,
    ) -> None:
        """`lookup` is asked once for every trial that is asked for, and once for what a search draws;
        `journals` by index of the search's arm; `asked`: identities that are trained in any case (all, where
        None). What else has an event counts as asked for from then on."""
        self.planned = planned
        self.metric = planned.study.report.metric
        self._mode = mode
        self._lookup = lookup
        self._drawn = Drawn(planned, journals)
        self._own = set(planned.unique())
        self._asked = set(self._own if asked is None else asked)
        self._outcomes: dict[str, _Outcome] = {}
        self._running: set[str] = set()
        for identity in self._own & self._asked:
            self._look_up(identity)
        self._take_up_drawn()

    @property
    def name(self) -> str:
        """The study's."""
        return self.planned.study.study

    @property
    def fills(self) -> bool:
        """Whether a trial of it is being trained."""
        return bool(self._running)

    @property
    def several_baselines(self) -> bool:
        """Whether rows are compared with different ones."""
        arms = [arm for arm in self.planned.arms if arm.kind != "search"]
        named = {arm.against for arm in arms if arm.against is not None}
        return len(named) > 1 or sum(arm.kind == "baseline" for arm in arms) > 1

    def take(self, event: Event) -> bool:
        """Take one event over; whether it is about a trial of this study."""
        if event.kind not in ("started", "epoch", "retried", "finished"):
            return False
        if event.kind in ("started", "finished") or event.identity not in self._own:
            # Samples that the ledger answers have no event of their own, so that others' are when they show.
            self._take_up_drawn()
        if event.identity not in self._own:
            return False
        self._asked.add(event.identity)
        if event.kind == "finished":
            self._running.discard(event.identity)
            self._finish(event)
        else:
            # What failed before, or was ended early, is tried again.
            self._running.add(event.identity)
            self._outcomes.pop(event.identity, None)
        return True

    def rows(self) -> list[FillingRow]:
        """The arms in the study's order, the baseline first; searches have lines of their own."""
        return [self._row(arm) for arm in self.planned.arms if arm.kind != "search"]

    def searches(self) -> list[FillingSearch]:
        """The searches in the study's order."""
        return [
            self._search(search.label, search.samples, self._drawn.samples.get(search.arm, ()))
            for search in self.planned.searches
        ]

    # ---- what is known

    def _finish(self, event: Event) -> None:
        value = event.metrics.get(self.metric) if event.status == "completed" else None
        if event.status == "completed" and value is None:
            # Its record says which word stands in the number's place.
            self._look_up(event.identity)
        known = self._outcomes.get(event.identity)
        word = None if known is None else known.word
        self._outcomes[event.identity] = _Outcome(event.status, value, word, time.time())

    def _look_up(self, identity: str) -> None:
        if (record := self._lookup(identity)) is not None:
            completed = record.status == "completed"
            self._outcomes[identity] = _Outcome(
                record.status,
                record.metrics.get(self.metric) if completed else None,
                record.unmeasured.get(self.metric) if completed else None,
                record.finished,
            )

    def _take_up_drawn(self) -> None:
        for identity in self._drawn.news() - self._own:
            self._own.add(identity)
            self._look_up(identity)

    # ---- what follows

    def _row(self, arm: Arm) -> FillingRow:
        trials = self.planned.of(arm)
        found = [self._outcomes[t.identity] for t in trials if t.identity in self._outcomes]
        values = self._values(arm)
        partner = next((one for one in self.planned.arms if one.label == arm.against), None)
        other = {} if partner is None else self._values(partner)
        shared = [values[seed] - other[seed] for seed in values if seed in other]
        return FillingRow(
            label=arm.label,
            against=arm.against,
            done=len(found),
            planned=sum(trial.identity in self._asked for trial in trials),
            running=sum(trial.identity in self._running for trial in trials),
            mean=statistics.fmean(values.values()) if values else None,
            std=statistics.stdev(values.values()) if len(values) > 1 else None,
            delta=math.fsum(shared) / len(shared) if shared else None,
            pairs=len(shared),
            counts=_counts([outcome.status for outcome in found]),
            words=tuple(outcome.word for outcome in found if outcome.word is not None),
            latest=max((outcome.finished for outcome in found), default=0.0),
        )

    def _values(self, arm: Arm) -> dict[int, float]:
        """The metric of the completed trials by seed."""
        found = {trial.seed: self._outcomes.get(trial.identity) for trial in self.planned.of(arm)}
        return {seed: one.value for seed, one in found.items() if one is not None and one.value is not None}

    def _search(self, label: str, planned: int, samples: Sequence[tuple[str, ...]]) -> FillingSearch:
        done = [[self._outcomes[i] for i in sample] for sample in samples if self._known(sample)]
        statuses = [next((o.status for o in one if o.status != "completed"), "completed") for one in done]
        means = [
            math.fsum(o.value for o in one if o.value is not None) / len(one)
            for one in done
            if all(o.value is not None for o in one)
        ]
        trials = {identity for sample in samples for identity in sample}
        return FillingSearch(
            label=label,
            done=len(done),
            planned=planned,
            running=len(trials & self._running),
            best=(max if self._mode == "max" else min)(means) if means else None,
            counts=_counts(statuses),
            latest=max((outcome.finished for one in done for outcome in one), default=0.0),
        )

    def _known(self, sample: Sequence[str]) -> bool:
        return all(identity in self._outcomes for identity in sample)


class Board:
    """The tables of a run's studies, of which the one is shown that the last trial belongs to."""

    def __init__(self, fillings: Sequence[Filling]) -> None:
        self.fillings = list(fillings)
        self.shown = self.fillings[0] if self.fillings else None

    def take(self, event: Event) -> None:
        """Hand one event to all of them."""
        having = [filling for filling in self.fillings if filling.take(event)]
        if event.kind in ("started", "finished") and having and self.shown not in having:
            self.shown = having[0]


def _counts(statuses: Sequence[str]) -> dict[str, int]:
    found = Counter(statuses)
    return {status: found[status] for status in ("completed", "failed", "diverged", "pruned")}
