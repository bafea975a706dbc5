"""Optuna as a source of trials: what it asks for goes through the ledger before it costs anything."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ablator.contracts.events import Ticket
from ablator.contracts.record import Record
from ablator.plan.searching import SearchPlan
from ablator.plan.trial import ticket_of
from ablator.results.journal import Journal, Sample
from ablator.results.ledger import Ledger

if TYPE_CHECKING:
    import optuna


def settled(plan: SearchPlan, journal: Journal, ledger: Ledger) -> bool:
    """Whether every sample of the search is drawn and has its result, so that nothing is left to do."""
    samples = journal.read()
    identities = {i for sample in samples[: plan.samples] for i in sample.identities}
    return len(samples) >= plan.samples and len(ledger.load(identities)) == len(identities)


@dataclasses.dataclass
class _Open:
    """A sample whose results are not all there."""

    trial: optuna.Trial
    missing: set[str]
    values: list[float] = dataclasses.field(default_factory=list)
    curves: list[tuple[dict[str, float], ...]] = dataclasses.field(default_factory=list)
    statuses: list[str] = dataclasses.field(default_factory=list)


class OptunaSource:
    """Draws `plan.samples` points; each becomes one ticket a seed.

    Every point is written to the journal before it is trained. A search that was interrupted starts by
    telling the sampler the journal's points again, so that only the missing ones are drawn.
    """

    def __init__(
        self, plan: SearchPlan, journal: Journal, *, metric: str, mode: Literal["max", "min"]
    ) -> None:
        self._plan = plan
        self._journal = journal
        self.alone = f"search-{journal.name}"
        self._metric = metric
        self._again = deque(journal.read()[: plan.samples])
        self._drawn = len(self._again)
        self._study = _study(plan, mode, replayed=self._drawn)
        self._tickets: deque[Ticket] = deque()
        self._open: list[_Open] = []

    def observe(self, records: Mapping[str, Record]) -> int:
        """Tell the sampler of finished trials that lie in the space, whoever trained them: the study's own
        arms, or other studies. They cost nothing and are no samples. Returns how many points they were."""
        drawn = {identity for sample in self._again for identity in sample.identities}
        told: set[str] = set()
        for identity, record in records.items():
            point = self._plan.point_of(record.spec) if identity not in drawn else None
            if point is None or record.status != "completed":
                continue
            same = [self._plan.trial(point, seed).identity for seed in self._plan.seeds]
            found = [records[i] for i in same if i in records and self._metric in records[i].metrics]
            if identity not in same or len(found) < len(same) or same[0] in told:
                continue
            told.add(same[0])
            value = math.fsum(r.metrics[self._metric] for r in found) / len(found)
            self._study.tell(self._ask(point), value)
        return len(told)

    @property
    def exhausted(self) -> bool:
        """Whether every point's tickets are given out."""
        return not self._tickets and not self._again and self._drawn >= self._plan.samples

    def ask(self) -> Ticket | None:
        """The next ticket. Raises SettingError where a drawn point cannot be a trial."""
        if not self._tickets:
            self._draw()
        return self._tickets.popleft()

    def _draw(self) -> None:
        if self._again:
            sample = self._again.popleft()
            trial = self._ask(sample.point)
            trials = [self._plan.trial(sample.point, seed) for seed in self._plan.seeds]
        else:
            trial = self._ask(None)
            point = self._plan.space.sample(_Ask(trial))
            trials = [self._plan.trial(point, seed) for seed in self._plan.seeds]
            identities = tuple(t.identity for t in trials)
            self._journal.append(Sample(sample=self._drawn, point=point, identities=identities))
            self._drawn += 1
        self._open.append(_Open(trial=trial, missing={t.identity for t in trials}))
        self._tickets.extend(ticket_of(t) for t in trials)

    def _ask(self, point: dict[str, Any] | None) -> optuna.Trial:
        with warnings.catch_warnings():
            # Some samplers fall back to independent draws for conditional dimensions, and say so each time.
            warnings.simplefilter("ignore")
            if point is not None:
                self._study.enqueue_trial(point)
            trial = self._study.ask()
            if point is not None:
                self._plan.space.sample(_Ask(trial))
        return trial

    def tell(self, record: Record) -> None:
        """A trial's outcome, for every sample that waits for it."""
        for sample in list(self._open):
            if record.identity not in sample.missing:
                continue
            sample.missing.discard(record.identity)
            sample.statuses.append(record.status)
            value = record.metrics.get(self._metric)
            if value is not None:
                sample.values.append(value)
                sample.curves.append(record.curves)
            if not sample.missing:
                self._open.remove(sample)
                self._finish(sample)

    def _finish(self, sample: _Open) -> None:
        import optuna

        states = optuna.trial.TrialState
        if not set(sample.statuses) <= {"completed", "pruned"} or not sample.values:
            # A diverged or failed point has no number; the sampler learns that it failed.
            self._study.tell(sample.trial, state=states.FAIL)
            return
        for row in sample.curves[0]:
            value = row.get(self._metric)
            if value is not None and math.isfinite(value):
                sample.trial.report(value, int(row["epoch"]))
        if "pruned" in sample.statuses:
            self._study.tell(sample.trial, state=states.PRUNED)
        else:
            self._study.tell(sample.trial, math.fsum(sample.values) / len(sample.values))


class _Ask:
    """`study.spaces.Ask` over an Optuna trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""
        return self._trial.suggest_categorical(name, list(choices))

    def integer(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number from low to high."""
        return int(self._trial.suggest_int(name, low, high, step=step, log=log))

    def real(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number from low to high."""
        return float(self._trial.suggest_float(name, low, high, step=step, log=log))


def _study(plan: SearchPlan, mode: Literal["max", "min"], *, replayed: int) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A sampler that goes on must not repeat the draws that it began with.
    digest = hashlib.sha256(f"{plan.sampler_seed}/{replayed}".encode()).digest()
    seed = plan.sampler_seed if not replayed else int.from_bytes(digest[:4], "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers = optuna.samplers
        sampler: optuna.samplers.BaseSampler
        if plan.sampler == "tpe":
            sampler = samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        elif plan.sampler == "random":
            sampler = samplers.RandomSampler(seed=seed)
        elif plan.sampler == "qmc":
            sampler = samplers.QMCSampler(seed=seed, warn_independent_sampling=False)
        elif plan.sampler == "gp":
            sampler = samplers.GPSampler(seed=seed, independent_sampler=samplers.RandomSampler(seed=seed))
        else:
            sampler = samplers.NSGAIISampler(seed=seed)
    direction = "maximize" if mode == "max" else "minimize"
    return optuna.create_study(direction=direction, sampler=sampler)
