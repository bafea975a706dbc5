"""Sequential seeds of a plan: which trials its rows have been asked for, and the rounds of a run.

Decisions are `report.sequential`'s; here they meet the plan and the store.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Mapping
from typing import Literal

from ablator.contracts.events import Event, OnEvent, Ticket
from ablator.contracts.record import Record
from ablator.plan.cost import longest_first
from ablator.plan.planning import Arm, Plan
from ablator.plan.trial import Trial, ticket_of
from ablator.report.claims import claimed_mode
from ablator.report.sequential import Known, SequentialDesign, asked_for
from ablator.results.read_once import ReadOnce
from ablator.results.store import Store

_COSTS = ("ms_", "spread_ms_", "memory_mb_")
"""What names of measured times and memory begin with."""


def mode_of(planned: Plan) -> Literal["max", "min"]:
    """Whether more of the study's metric is better: not of losses, times and memory."""
    metric = planned.study.report.metric
    return "min" if metric.endswith("loss") or metric.startswith(_COSTS) else "max"


def design_of(planned: Plan) -> SequentialDesign | None:
    """How the plan's rows get their seeds; None where all have all."""
    said = planned.sequential
    return None if said is None else SequentialDesign(least=said.min, most=said.max)


def asked(planned: Plan, records: Mapping[str, Record]) -> Plan:
    """The plan with the trials alone that its rows have been asked for, given the `records` by identity; the
    plan itself where all rows have all seeds. A failure among the records counts as an outcome."""
    design = design_of(planned)
    if design is None:
        return planned
    rows = {arm.label: _known(planned, arm, records) for arm in planned.arms}
    counts = asked_for(rows, planned.seeds, design)
    wanted = {arm.index: frozenset(planned.seeds[: counts[arm.label]]) for arm in planned.arms}
    return dataclasses.replace(
        planned, trials=tuple(trial for trial in planned.trials if trial.seed in wanted[trial.arm])
    )


def asked_in(planned: Plan, known: ReadOnce) -> Plan:
    """`asked` by the final records of a store: what a run would train, or has trained. Raises StoreError."""
    return planned if planned.sequential is None else asked(planned, known.load(planned.unique()))


def _known(planned: Plan, arm: Arm, records: Mapping[str, Record]) -> Known:
    metric = planned.study.report.metric
    found = {t.seed: records[t.identity] for t in planned.of(arm) if t.identity in records}
    return Known(
        values={
            seed: record.metrics[metric]
            for seed, record in found.items()
            if record.status == "completed" and metric in record.metrics
        },
        ended=found.keys(),
        lost=[seed for seed, record in found.items() if record.status in ("diverged", "pruned")],
        against=arm.against,
        mode=claimed_mode(mode_of(planned), removes=arm.removes),
    )


class Rounds:
    """The trials of a study with sequential seeds, for the queue: every round's, once those of the round
    before have an outcome. What the ledger has is not given out; what has failed in this run counts as an
    outcome, and what failed in an earlier one is tried again."""

    def __init__(
        self,
        planned: Plan,
        store: Store,
        on_event: OnEvent,
        known: ReadOnce | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """`known`: records of the store that were read already; `costs`: estimated ones of trials, the
        longest of which come first in their round."""
        self._planned = planned
        self._store = store
        self._costs = costs or {}
        self._records = known or ReadOnce(store.ledger)
        self._on_event = on_event
        self._trials = planned.unique()
        self._given: set[str] = set()
        self._out: set[str] = set()
        self._tickets: deque[Ticket] = deque()
        self._first = self._next_round()
        self._tickets.extend(ticket_of(trial) for trial in self._first)
        self._resolved = not self._first

    @property
    def width(self) -> int:
        """Trials that may run at once: those of the first round, and later one a row."""
        return max(len(self._first), len(self._planned.arms)) if self._first else 0

    @property
    def exhausted(self) -> bool:
        """Whether every row is decided, and every trial given out."""
        return self._resolved and not self._tickets

    def ask(self) -> Ticket | None:
        """The next ticket; None while a round's trials have no outcome, and after the last one."""
        if not self._tickets and not self._out and not self._resolved:
            trials = self._next_round()
            self._resolved = not trials
            self._tickets.extend(ticket_of(trial) for trial in trials)
            if trials:
                self._on_event(Event(kind="round", text=self._text(trials), trials=len(trials)))
        if not self._tickets:
            return None
        ticket = self._tickets.popleft()
        self._given.add(ticket.identity)
        self._out.add(ticket.identity)
        return ticket

    alone = ""
    """It writes nothing down: any number of runs may go through the rounds of a study together."""

    def tell(self, record: Record) -> None:
        """A trial's outcome; it is read from the store when the round is over."""
        self._out.discard(record.identity)

    def _next_round(self) -> list[Trial]:
        """What was asked for and has no outcome."""
        records = self._records.load(self._trials)
        for identity in self._given - records.keys():
            failure = self._store.ledger.failure(identity)
            if failure is not None:
                records[identity] = failure
        wanted = asked(self._planned, records).unique()
        missing = [trial for identity, trial in wanted.items() if identity not in records]
        return longest_first(missing, lambda trial: self._costs.get(trial.identity, 0.0))

    def _text(self, trials: Collection[Trial]) -> str:
        seeds = sorted({trial.seed for trial in trials})
        compared = {arm.label for arm in self._planned.arms if arm.against is not None}
        open_rows = [label for label in dict.fromkeys(t.label for t in trials) if label in compared]
        rows = "1 row is" if len(open_rows) == 1 else f"{len(open_rows)} rows are"
        which = ", ".join(map(str, seeds))
        return (
            f"{self._planned.study.study}: {rows} not decided yet; seed{'s' * (len(seeds) > 1)} {which} "
            f"next ({len(trials)} trial{'s' * (len(trials) > 1)})"
        )
