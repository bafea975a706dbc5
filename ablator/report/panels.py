"""What the page's panels say beside the main table, as plain values for the templates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from ablator.report import formatting
from ablator.report.columns import Column
from ablator.report.origins import common, differing
from ablator.report.table import Cell, Row, Table

LEVELS = 5
"""Shades of the seeds' map."""
_SIGNS = {"failed": "✕", "diverged": "∞", "pruned": "⊘", "missing": "○"}
"""Beside the words, so that states stand out without colour."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedCell:
    """One trial in the map of rows by seeds."""

    text: str
    """The value, or sign and word of the state; empty where the row has no such seed."""
    status: str
    shade: int | None = None
    """0 (worst) to LEVELS - 1 (best) within the table; None without a value."""
    link: str = ""
    why: str = ""
    """What an error says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedRow:
    """One row of that map."""

    label: str
    is_baseline: bool
    cells: tuple[SeedCell, ...]
    verdict: str
    """Why the verdict is what it is."""


def seed_numbers(table: Table) -> list[int]:
    """Every seed that a row has."""
    return sorted({cell.seed for row in table.rows for cell in row.cells})


def seed_map(table: Table, *, links: bool = True) -> list[SeedRow]:
    """One line a row, one cell a seed; with `links` to the trials' runs."""
    digits = formatting.table_decimals(table)
    values = [cell.value for row in table.rows for cell in row.cells if cell.value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    seeds = seed_numbers(table)

    def shade(value: float) -> int:
        part = (value - low) / (high - low) if high > low else 0.5
        part = part if table.spec.mode == "max" else 1.0 - part
        return min(LEVELS - 1, math.floor(LEVELS * part))

    def cell(found: Cell | None) -> SeedCell:
        if found is None:
            return SeedCell(text="", status="none")
        link = table.links.get(found.identity, "") if links else ""
        if found.value is not None:
            text = formatting.number(found.value, digits)
            return SeedCell(text=text, status="completed", shade=shade(found.value), link=link)
        text = found.word or f"{_SIGNS[found.status]} {found.status}"
        return SeedCell(text=text, status=found.status, link=link, why=formatting.reason(found.error)[:200])

    lines = []
    for row in table.rows:
        cells = {one.seed: one for one in row.cells}
        lines.append(
            SeedRow(
                label=row.label,
                is_baseline=row.is_baseline,
                cells=tuple(cell(cells.get(seed)) for seed in seeds),
                verdict=row.comparison.reason if row.comparison else "",
            )
        )
    return lines


def cost_columns(table: Table) -> list[Column]:
    """The measured costs of every row."""

    def minutes(row: Row) -> str:
        return "" if row.cost.seconds is None else formatting.number(row.cost.seconds / 60.0, 1)

    cells = [
        ("arm", [row.label for row in table.rows]),
        ("step (ms)", [formatting.number(row.cost.step_ms, 1) for row in table.rows]),
        ("images/s", [formatting.number(row.cost.images_per_second, 0) for row in table.rows]),
        ("peak memory (MB)", [formatting.number(row.cost.peak_memory_mb, 0) for row in table.rows]),
        ("params in training (M)", [formatting.millions(row.size.training_parameters) for row in table.rows]),
        ("all seeds (min)", [minutes(row) for row in table.rows]),
    ]
    return [
        Column(
            key="label" if index == 0 else title,
            title=title,
            group="arm" if index == 0 else "cost",
            cells=tuple(text),
            numeric=index > 0,
        )
        for index, (title, text) in enumerate(cells)
        if any(text)
    ]


def time_lines(table: Table) -> list[tuple[str, str, str]]:
    """(what, how long, remark): where the trials' time went, and what was not spent."""
    spent = table.spending
    lines = [
        ("training", spent.training, f"{spent.trials} trials, each counted once"),
        ("evaluation", spent.evaluation, ""),
        ("overhead", spent.overhead, "building, loading, checkpoints, and waiting after interruptions"),
    ]
    if spent.shared_trials:
        again = f"{spent.shared_trials} times a row or a sample came to a trial that was there"
        lines.append(("saved by sharing", spent.shared, again))
    if spent.stopped_trials:
        left = f"{spent.stopped_epochs} epochs of {spent.stopped_trials} trials"
        lines.append(("saved by early stopping", spent.stopped, left))
    if spent.decided_trials:
        whole = spent.trials + spent.decided_trials
        share = f"{100 * spent.decided_trials / whole:.0f} %"
        part = f"{spent.decided_trials} of the fixed design's {whole} trials ({share})"
        lines.append(("saved by sequential seeds", spent.decided, part))
    return [(what, formatting.duration(seconds), remark) for what, seconds, remark in lines]


def shared_between(tables: Sequence[Table]) -> tuple[int, float]:
    """Trials that a later table has in common with an earlier one, and about how many seconds that saved:
    each at its own table's mean."""
    seen: set[str] = set()
    count, seconds = 0, 0.0
    for table in tables:
        own = {cell.identity for row in table.rows for cell in row.cells if cell.status != "missing"}
        again = len(own & seen)
        mean = table.seconds / table.spending.trials if table.spending.trials else 0.0
        count, seconds = count + again, seconds + again * mean
        seen |= own
    return count, seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentPanel:
    """What the records were made with."""

    agreed: tuple[tuple[str, str], ...]
    """What is the same for all."""
    differing: tuple[str, ...]
    """Names of what is not."""
    groups: tuple[tuple[int, tuple[str, ...]], ...]
    """(trials, a value for each of `differing`)."""
    dirty: int
    """Trials whose code had uncommitted changes."""


def environment(table: Table) -> EnvironmentPanel | None:
    """None where no record says anything."""
    if not table.origins:
        return None
    names = differing(table.origins)
    return EnvironmentPanel(
        agreed=tuple(common(table.origins).items()),
        differing=tuple(names),
        groups=tuple(
            (origin.trials, tuple(origin.versions.get(name, "") for name in names))
            for origin in table.origins
            if names
        ),
        dirty=sum(origin.trials for origin in table.origins if origin.dirty),
    )
