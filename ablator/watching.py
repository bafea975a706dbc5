"""Who follows a run: what it has before it, its tables as they fill, the files of the store that say where it
stands, and what is read from there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from ablator.contracts.events import Event, OnEvent
from ablator.contracts.record import FINAL, Record
from ablator.errors import StoreError
from ablator.needs import needs_of, starts_of
from ablator.plan.planning import Plan
from ablator.report.building import account
from ablator.report.filling import Board, Filling, Lookup
from ablator.report.live import Progress
from ablator.report.planned import needed_text, shared_line, verb
from ablator.report.table import Account
from ablator.report.telling import Teller
from ablator.results.outbox import waiting
from ablator.results.read_once import ReadOnce
from ablator.results.standing import Standing, read_standing
from ablator.results.store import Store
from ablator.rounds import asked, asked_in, mode_of
from ablator.tables import found_records, journals_of, table_spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a run of studies has before it."""

    studies: int
    planned: int
    """Trials of all studies."""
    different: int
    cached: int
    """Different trials that the ledger has."""
    samples: int
    """Of searches, at most: those whose points are not drawn yet or have no result."""
    needed: int
    """Trials beside the planned ones that are trained first, for the weights that planned ones start from."""
    verb: str
    """What is done with the trials."""

    @classmethod
    def of(cls, plans: Sequence[Plan], store: Store, known: ReadOnce | None = None) -> Ahead:
        """Counted from the ledger's names alone; of sequential seeds what the first round asks for, by their
        records, of which `known` has those that were read already."""
        known = known or ReadOnce(store.ledger)
        plans = [_begun(planned, known) for planned in plans]
        each = [planned.unique().keys() for planned in plans]
        different = set().union(*each)
        there = store.ledger.identities()
        samples = sum(_samples_left(planned, store, there) for planned in plans)
        return cls(
            studies=len(plans),
            planned=sum(map(len, each)),
            different=len(different),
            cached=len(different & there),
            samples=samples,
            needed=_needed(plans, store, there),
            verb=verb(plans),
        )

    @property
    def todo(self) -> int:
        """Trials that will be trained, at most."""
        return self.different - self.cached + self.samples + self.needed

    def progress(self) -> Progress:
        """Of a run that begins now."""
        return Progress(self.different + self.samples + self.needed, self.cached)

    def line(self) -> str:
        """What is shared, and what is left to do."""
        return shared_line(
            planned=self.planned,
            studies=self.studies,
            shared=self.planned - self.different,
            cached=self.cached,
            samples=self.samples,
            needed=self.needed,
            to=self.verb,
        )

    def needed_line(self) -> str:
        """What is trained before the planned trials."""
        return f"first {needed_text(self.needed)}"


def _begun(planned: Plan, known: ReadOnce) -> Plan:
    """The plan with the trials alone that a run begins with."""
    try:
        return asked_in(planned, known)
    except StoreError:  # The run itself names what is damaged, or repairs it.
        return planned


def _needed(plans: Sequence[Plan], store: Store, known: Collection[str]) -> int:
    planned = set().union(*(plan.unique().keys() for plan in plans))
    open_ones = [trial for plan in plans for trial in plan.trials if trial.identity not in known]
    starts = starts_of(open_ones, [search for plan in plans for search in plan.searches])
    try:
        needs = needs_of(starts.values(), store)
    except StoreError:  # The run itself names what is damaged, or repairs it.
        return 0
    return sum(need.recorded or identity not in planned for identity, need in needs.items())


def _samples_left(planned: Plan, store: Store, known: Collection[str]) -> int:
    journals = journals_of(store, planned)
    left = 0
    for search in planned.searches:
        drawn = journals[search.arm].read()[: search.samples]
        there = sum(identity in known for sample in drawn for identity in sample.identities)
        left += search.samples * len(search.seeds) - there
    return left


def filling_of(planned: Plan, asked_for: Plan, store: Store, lookup: Lookup) -> Filling:
    """The study's table as far as `lookup` knows it; `asked_for` is the plan with the trials alone that rows
    have been asked for."""
    return Filling(
        planned,
        mode=mode_of(planned),
        lookup=lookup,
        journals=journals_of(store, planned),
        asked=asked_for.unique(),
    )


def board_of(plans: Sequence[Plan], store: Store, known: ReadOnce | None = None) -> Board:
    """The tables of a run that begins now, with what the ledger has; `known`: what was read of it already."""
    known = known or ReadOnce(store.ledger)

    def final(identity: str) -> Record | None:
        with contextlib.suppress(StoreError):  # The run itself names what is damaged, or repairs it.
            return known.get(identity)
        return None

    return Board([filling_of(planned, _begun(planned, known), store, final) for planned in plans])


@contextlib.contextmanager
def told(
    plans: Sequence[Plan], store: Store, on_event: OnEvent | None, *, repair: bool, known: ReadOnce
) -> Iterator[OnEvent | None]:
    """`on_event` for a run of the plans, which also says in the store how the run stands, where there is
    something to train."""
    ahead = Ahead.of(plans, store, known)
    if not (ahead.todo or repair):
        yield on_event
        return
    with Teller(ahead.progress(), plans, store, [journals_of(store, planned) for planned in plans]) as teller:

        def both(event: Event) -> None:
            teller(event)
            if on_event is not None:
                on_event(event)

        yield both


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Where a study stands, read from the store."""

    account: Account
    """Of the arms' trials; samples of searches are counted in `samples`."""
    running: tuple[tuple[str, int], ...]
    """(label, seed) of the trials whose tickets are out."""
    samples: Mapping[str, tuple[int, int]]
    """Search label to (samples drawn, samples asked for)."""
    waiting: int
    """Entries that MLflow has not got yet."""
    filling: Filling
    """The table as far as it is filled: `rows()` and `searches()`."""
    live: Standing | None = None
    """What the driver of its run said last; None where nobody runs it, and one that is `stale()` may have
    died."""

    @property
    def settled(self) -> bool:
        """Whether every trial and sample has an outcome, and no run is at work on it."""
        there = all(search.done == search.planned for search in self.filling.searches())
        return self.account.missing == 0 and there and (self.live is None or self.live.stale())


def state_of(
    planned: Plan,
    profile: str | None,
    overrides: Sequence[str],
    store: Store,
    *,
    known: dict[str, Record] | None = None,
) -> State:
    """`status` of what is planned already. Who asks again and again gives the same `known` each time: final
    records, which never change, are kept there and are not read again."""
    live = read_standing(store.live(planned.study.study, planned.profile))
    kept = {} if known is None else known
    journals = journals_of(store, planned)
    drawn = {search.arm: journals[search.arm].read() for search in planned.searches}
    whole = planned
    wanted = {*whole.unique(), *(i for arm in drawn.values() for one in arm for i in one.identities)}
    records = {**kept, **found_records(store, [i for i in sorted(wanted) if i not in kept])}
    kept |= {identity: record for identity, record in records.items() if record.status in FINAL}
    planned = asked(whole, records)
    out = store.ticketed()
    running = [t for i, t in planned.unique().items() if i in out and i not in records]
    filling = filling_of(whole, planned, store, records.get)
    if live is not None and not live.stale():
        for trial in live.running:
            filling.take(Event(kind="started", identity=trial.identity))
    return State(
        account=account(table_spec(planned, profile, overrides), records),
        running=tuple((trial.label, trial.seed) for trial in running),
        samples={s.label: (len(drawn[s.arm]), s.samples) for s in planned.searches},
        waiting=sum(name == planned.study.study for _, name in waiting(store)),
        filling=filling,
        live=live,
    )
