"""The table that every output reads: what was asked (`TableSpec`), what came back (records), and the
numbers that follow (`Table`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ablator.contracts.record import Status
from ablator.report.costs import Cost, Size
from ablator.report.disturbed import Disturbed
from ablator.report.interactions import Interaction, InteractionSpec
from ablator.report.origins import Origin
from ablator.report.search import SearchTable
from ablator.report.sequential import SequentialDesign
from ablator.report.spending import Spending
from ablator.report.statistics import Comparison, Mode, Paired

CellStatus = Literal[Status, "missing"]
STATUSES: tuple[CellStatus, ...] = ("completed", "failed", "diverged", "pruned", "missing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowSpec:
    """One arm as planned."""

    label: str
    changes: Mapping[str, Any]
    """Dotted keys that the arm declares, and their values."""
    identities: tuple[tuple[int, str], ...]
    """(seed, identity) of each planned trial."""
    reported: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    """What the source prints for this row, by metric; NaN means that it reports a divergence, and a word
    such as OOM stands for itself."""
    baseline: bool = False
    """A further baseline, which is compared with no row."""
    against: str | None = None
    """Label of the row that it is compared with; None: the study's baseline."""
    removes: bool = False
    """Leaves a component out of that row: the claim under test is that it is worse."""
    resolved: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Every key of the row's resolved spec but the seed, dotted, as trained; empty where nobody says it."""
    spared: int = 0
    """Seeds of a sequential design that the row was not asked for."""
    chosen_from: int = 0
    """Number of points of a search of which this row is the best by the values shown here; 0 for an arm
    that was declared. A chosen row is not tested: its value is too good by selection."""
    command: str = ""
    """What a reader types to get this row again, with what it is compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One study as planned under one profile."""

    study: str
    question: str
    source: str
    profile: str
    metric: str
    mode: Mode
    baseline: str
    """Label of the row that the others are compared with."""
    rows: tuple[RowSpec, ...]
    columns: tuple[str, ...] = ()
    """Further metrics, which have differences and intervals but no verdict."""
    interactions: tuple[InteractionSpec, ...] = ()
    test: Literal["paired_t", "none"] = "paired_t"
    """How differences are tested; none: not at all."""
    sequential: SequentialDesign | None = None
    """How rows got their seeds one at a time; None: all were planned from the start."""
    notes: tuple[str, ...] = ()
    command: str = ""
    """What a reader types to get this table again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One trial: one row and one seed."""

    seed: int
    identity: str
    status: CellStatus
    value: float | None = None
    """The metric; None unless completed."""
    word: str | None = None
    """What a completed trial has in the metric's place, such as OOM."""
    error: str | None = None
    curve: tuple[tuple[float, float], ...] = ()
    """(epoch, metric) at every finite evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """A number of the source; `value` is None where it prints `word` instead."""

    value: float | None
    word: str | None = None
    """diverged, OOM; None beside a number."""
    delta: float | None = None
    """Difference from the baseline's reported value, computed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Further:
    """A further metric of one row, over the completed trials that have a number for it."""

    n: int
    mean: float | None
    std: float | None
    """ddof 1; None with fewer than two numbers."""
    words: tuple[str, ...] = ()
    """What the other completed trials have in its place, such as OOM, one each."""
    paired: Paired | None = None
    """Differences from the baseline, paired by seed; None for a baseline. No test, and no interval, where a
    seed diverged or the values were selected."""
    p_holm: float | None = None
    """Adjusted over the rows of this metric alone. Further metrics describe; they have no verdict, which is
    the main metric's, chosen before the run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One arm with its numbers. Mean and deviation are over the completed cells only, `n` of them."""

    label: str
    changes: Mapping[str, Any]
    is_baseline: bool
    cells: tuple[Cell, ...]
    n: int
    mean: float | None
    """None without a completed cell."""
    std: float | None
    """Over seeds, ddof 1; None with fewer than two completed cells."""
    counts: Mapping[CellStatus, int]
    """Cells by status, every status included."""
    against: str | None
    """Label of the row that this one is compared with; None for a baseline."""
    comparison: Comparison | None
    """None for a baseline."""
    size: Size
    cost: Cost
    reported: Mapping[str, Reported]
    further: Mapping[str, Further]
    """The metrics of `TableSpec.columns`, in their order."""
    footnotes: tuple[int, ...]
    """Numbers (from 1) of the table's footnotes that concern this row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """Planned trials by outcome; a trial that two rows share is counted once. Raises ValueError where the
    sum does not balance."""

    planned: int
    completed: int
    failed: int
    diverged: int
    pruned: int
    missing: int
    cached: int | None = None
    """Trials whose result was there before this run; they are then not counted under their outcome. None
    where no run is being described, as in written files, which must not depend on it."""

    def __post_init__(self) -> None:
        found = self.completed + self.failed + self.diverged + self.pruned + self.missing + (self.cached or 0)
        if found != self.planned:
            raise ValueError(f"the account does not balance: {self.planned} planned, {found} accounted for")

    def line(self) -> str:
        """The account as an equation, in one line."""
        cached = "" if self.cached is None else f" + {self.cached} cached"
        return (
            f"{self.planned} planned = {self.completed} completed + {self.failed} failed + {self.diverged} "
            f"diverged + {self.pruned} pruned{cached} + {self.missing} missing"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Everything that an output shows. Holds no NaN: what is undefined is None."""

    spec: TableSpec
    rows: tuple[Row, ...]
    """The baseline first, then the arms in the study's order."""
    footnotes: tuple[str, ...]
    notes: tuple[str, ...]
    """Remarks that concern the whole table."""
    account: Account
    versions: Mapping[str, tuple[str, ...]]
    """What the records were made with: every version met, sorted."""
    seconds: float
    """Training and evaluation of all trials, each counted once."""
    searches: tuple[SearchTable, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    spending: Spending = dataclasses.field(default_factory=Spending)
    origins: tuple[Origin, ...] = ()
    """The different environments that the records were made in, the most frequent first."""
    disturbed: tuple[Disturbed, ...] = ()
    """Trials that were disturbed, which changes no number; in the order of the rows."""
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Identity to the address of the trial's run in MLflow, where there is one."""

    @property
    def baseline(self) -> Row:
        """The row that the others are compared with."""
        return self.rows[0]

    @property
    def several_baselines(self) -> bool:
        """Whether rows are compared with different ones."""
        named = {row.against for row in self.rows if row.against is not None}
        return len(named) > 1 or sum(row.is_baseline for row in self.rows) > 1

    @property
    def complete(self) -> bool:
        """Whether no planned trial is failed or missing."""
        return self.account.failed == 0 and self.account.missing == 0
